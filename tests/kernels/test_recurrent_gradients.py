"""Gradients of recurrent layers' weights and biases, against NumPy's products in double precision."""

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels.recurrent_gradients import add_gradients
from blobnet.kernels.tiles import GRADIENT_DEPTH

# outputs, rows, columns: blocks, panels and slices full or not
EXTENTS = [
    (1, 3, 5),
    (4, 8, 24),
    (7, 300, 50),
    (265, 2 * GRADIENT_DEPTH, 48),
    (3, 530, 7),
    (128, 130, 1),
    (192, 77, 260),
]


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize("extents", EXTENTS)
def test_gradients_are_products_with_what_the_weights_have_met(extents, grows, dtype, tolerance, kernels, monkeypatch):
    monkeypatch.setattr(config, "reference_kernels", lambda: kernels == "reference")
    outputs, rows, columns = extents
    random = np.random.default_rng(3)
    diff, *met = (random.normal(size=(rows, n)).astype(dtype) for n in (outputs, columns, columns // 2 + 1))
    for used in (met, met[::-1], met[:1], []):
        found = [random.normal(size=(outputs, each.shape[1])).astype(dtype) for each in used]
        sums = random.normal(size=outputs).astype(dtype)
        if not grows:
            for each in found:
                each[...] = np.nan
        expected = [grows * np.nan_to_num(a) + diff.T.astype(float) @ b for a, b in zip(found, used, strict=True)]
        expected_sums = grows * sums + diff.sum(axis=0, dtype=float)
        add_gradients(diff, [(b, a, grows) for a, b in zip(found, used, strict=True)], sums, grows)
        for one, other in zip([*found, sums], [*expected, expected_sums], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * rows)


def test_what_is_not_finite_reaches_its_own_output_and_column_alone():
    random = np.random.default_rng(3)
    diff, met = (random.normal(size=(200, n)).astype(np.float32) for n in (70, 19))
    diff[150, 3], met[20, 17] = np.inf, np.nan
    gradient, sums = np.zeros((70, 19), np.float32), np.zeros(70, np.float32)
    add_gradients(diff, [(met, gradient, False)], sums, True)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isfinite(gradient), np.isfinite(diff.T @ met))
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(sums)), [3])


def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    random = np.random.default_rng(3)
    diff, met = (random.normal(size=(300, n)).astype(np.float32) for n in (520, 90))
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(config, "threads", lambda count=threads: count)
        gradient, sums = np.empty((520, 90), np.float32), np.zeros(520, np.float32)
        add_gradients(diff, [(met, gradient, False)], sums, True)
        results.append((gradient, sums))
    for gradient, sums in results[1:]:
        np.testing.assert_array_equal(gradient, results[0][0])
        np.testing.assert_array_equal(sums, results[0][1])


def test_a_bias_sums_in_double_precision():
    diff, sums = np.full((1000, 70), 0.1, np.float32), np.ones(70, np.float32)
    add_gradients(diff, [], sums, True)
    np.testing.assert_array_equal(sums, np.float32(1 + 1000 * float(np.float32(0.1))))
