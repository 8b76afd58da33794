"""Models to start from: prototxts, weights and one line of Python to load them.

Each model is a folder with train_val, deploy and solver prototxts, trained weights named after it, and a README
that says what it should reach. The databases they train on are made on first use (``zoo.datasets``).
"""

if __name__ != "blobnet.zoo":
    raise ImportError("import blobnet.zoo, not zoo: a second copy of every class would be made")

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from blobnet.errors import BlobnetError, did_you_mean

if TYPE_CHECKING:
    from blobnet.net import Net
    from blobnet.proto import blobnet_pb2 as pb

log = logging.getLogger("blobnet")

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


def weights(name: str) -> Path | None:
    """The trained weights of a model, None where the zoo has none."""
    path = folder(name) / f"{name}.caffemodel"
    return path if path.is_file() else None


def load(name: str, phase: "pb.Phase | None" = None) -> "Net":
    """A model with its trained weights where there are some, else freshly filled; the log says which.

    The statistics of BatchNorm are then those of values around 0 with a variance of 1.

    net = blobnet.zoo.load("lenet")
    probabilities = net.predict(images)

    phase  TRAIN or TEST: the net that reads its database; left out: the deploy net. That of a model with one
           input is a Classifier, with ``predict`` and ``labels``.
    """
    from blobnet.net import Net
    from blobnet.proto import blobnet_pb2 as pb
    from blobnet.proto import text
    from blobnet.zoo.classifier import Classifier

    model, trained = folder(name), weights(name)
    if trained is None:
        log.warning("%s: no trained weights; filled at random. blobnet train --solver %s/solver.prototxt", name, model)
    else:
        log.info("%s: trained weights of %s", name, trained)
    deploy = model / "deploy.prototxt"
    layers = text.read(deploy, pb.NetParameter()).layer
    if phase is not None:
        net = Net(model / "train_val.prototxt", phase, weights=trained)
    elif sum(len(layer.top) for layer in layers if layer.type == "Input") > 1:
        net = Net(deploy, pb.TEST, weights=trained)
    else:
        net = Classifier(deploy, trained, labels=_labels(model))
    if trained is None:
        _fill_statistics(net)
    return net


def _fill_statistics(net: "Net") -> None:
    for layer in net.layers:
        if layer.type == "BatchNorm":
            _, variance, weight = layer.blobs
            variance.data[...] = weight.data[...] = 1


def _labels(model: Path) -> list[str]:
    """The names of the classes: they lie in the folder whose name the databases of the model begin with."""
    from blobnet.proto import blobnet_pb2 as pb
    from blobnet.proto import text

    layers = text.read(model / "train_val.prototxt", pb.NetParameter()).layer
    prefix = next(layer.data_param.source for layer in layers if layer.data_param.source).partition("_")[0]
    return (_FOLDER / prefix / "labels.txt").read_text(encoding="utf-8").splitlines()
