"""Models to start from: prototxts, weights and one line of Python to load them.

Each model is a folder with train_val, deploy and solver prototxts, trained weights named after it, and a README
that says what it should reach. The databases they train on are made on first use (``zoo.datasets``).
"""

if __name__ != "blobnet.zoo":
    raise ImportError("import blobnet.zoo, not zoo: a second copy of every class would be made")

from pathlib import Path
from typing import TYPE_CHECKING

from blobnet.errors import BlobnetError, did_you_mean

if TYPE_CHECKING:
    from blobnet.zoo.classifier import Classifier

_FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """The models of the zoo, sorted."""
    return sorted(solver.parent.name for solver in _FOLDER.glob("*/solver.prototxt"))


def folder(name: str) -> Path:
    """Where the files of a model are."""
    if name not in names():
        hint = did_you_mean(name, names())
        raise BlobnetError(f'the zoo has no model "{name}"{hint} (models: {", ".join(names())})')
    return _FOLDER / name


def load(name: str) -> "Classifier":
    """A model with its trained weights, ready to classify.

    net = blobnet.zoo.load("lenet")
    probabilities = net.predict(images)
    """
    model = folder(name)
    weights = model / f"{name}.caffemodel"
    if not weights.is_file():
        remedy = f"train it: blobnet train --solver {model}/solver.prototxt"
        raise BlobnetError(f'the zoo has no weights for "{name}"; {remedy}')
    from blobnet.zoo.classifier import Classifier

    return Classifier(model / "deploy.prototxt", weights)
