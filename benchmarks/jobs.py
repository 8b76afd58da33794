"""A job: a folder with a net (prototxt), its weights (caffemodel) and its inputs, which every engine reads alike."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from blobnet.io import files, weights
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

_NET, _WEIGHTS, _INPUTS = "net.prototxt", "net.caffemodel", "inputs.npz"

if TYPE_CHECKING:
    from blobnet.net import Net


class Job(NamedTuple):
    param: pb.NetParameter
    weights: dict[str, list[np.ndarray]]
    inputs: dict[str, np.ndarray]


def write(folder: Path, param: pb.NetParameter, phase: int, inputs: dict[str, np.ndarray] | None = None) -> None:
    """Draw weights, and inputs where none are given, for a net without data layers."""
    from blobnet.net import Net  # not needed, and not wanted, where a job is only read

    random = np.random.default_rng(1)
    net = Net(param, phase, seed=1)
    _complete_weights(net, random)
    folder.mkdir(exist_ok=True)
    (folder / _NET).write_text(text.dump(param), encoding="utf-8")
    files.write_message(folder / _WEIGHTS, net.to_proto())
    np.savez(folder / _INPUTS, **(inputs or _draw_inputs(net, random)))


def read(folder: Path) -> Job:
    with np.load(folder / _INPUTS) as inputs:
        arrays = dict(inputs)
    return Job(text.read(folder / _NET, pb.NetParameter()), weights.read_weights(folder / _WEIGHTS), arrays)


def gradient(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of a top, for engines that start their backward pass with one."""
    return np.random.default_rng(2).standard_normal(shape, np.float32)


def _complete_weights(net: "Net", random: np.random.Generator) -> None:
    """What fillers leave at 0 in a net that is not trained: filters (He et al. 2015) and statistics (variance 1)."""
    for layer in net.layers:
        for blob in layer.blobs:
            if blob.num_axes > 1 and not blob.data.any():
                blob.data[...] = random.normal(0, (2 / blob.count_between(1)) ** 0.5, blob.shape)
        if layer.type == "BatchNorm":
            for blob in layer.blobs[1:]:
                blob.data[...] = 1


def _draw_inputs(net: "Net", random: np.random.Generator) -> dict[str, np.ndarray]:
    """Standard normal images; labels among the classes of the loss."""
    inputs = {name: random.standard_normal(net.blobs[name].shape, np.float32) for name in net.inputs}
    for layer, bottoms in zip(net.layers, net.bottoms, strict=True):
        if layer.type == "SoftmaxWithLoss":
            scores, labels = bottoms
            inputs[labels.name] = random.integers(scores.shape[1], size=labels.shape).astype(np.float32)
    return inputs
