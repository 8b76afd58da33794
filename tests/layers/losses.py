"""What the tests of losses share: one loss, its value, its gradient."""

import numpy as np

from blobnet.testing import check_gradient
from tests.layers.alone import Alone

RANDOM = np.random.default_rng(24)
MODES = ["FULL", "VALID", "BATCH_SIZE", "NONE"]
IGNORED = "ignore_label: 2"


def layer(kind, settings=""):
    return f'layer {{ name: "loss" type: "{kind}" {settings} }}'


def values(*shape):
    return RANDOM.standard_normal(shape)


def value(*args, **options):
    return float(Alone(*args, dtype=np.float64, **options).forward()[0])


def divisor(mode, items, valid, batch):
    return max(1, {"FULL": items, "VALID": valid, "BATCH_SIZE": batch, "NONE": 1}[mode])


def spatial_case():
    """Scores [2, 4, 3, 2] and labels with every class, 2 among them."""
    return 2 * values(2, 4, 3, 2), RANDOM.permutation(np.arange(12) % 4).reshape(2, 3, 2)


def hinge_case():
    """Scores well away from the margins at -1 and 1."""
    return RANDOM.permutation(np.linspace(-1.9, 1.9, 20)).reshape(4, 5) + 0.003, RANDOM.integers(0, 5, 4)


def check(text, *bottoms, check_bottoms=(0,)):
    assert check_gradient(text, bottoms, check_bottoms=check_bottoms) < 1e-5
