"""Helpers for testing layers, the project's and people's own: a net from a text, and a gradient check."""

from collections.abc import Iterable, Sequence

import numpy as np

from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def net_from_text(prototxt: str, phase: pb.Phase = pb.TEST, **options) -> Net:
    """A net from the text of its prototxt; options as for Net."""
    return Net(text.parse(prototxt, pb.NetParameter()), phase, **options)


class GradientError(AssertionError):
    """A gradient differs from the difference quotient."""


def check_gradient(
    layer: str,
    bottoms: Sequence[np.ndarray],
    *,
    params: Sequence[np.ndarray] | None = None,
    check_bottoms: Iterable[int] | None = None,
    phase: pb.Phase = pb.TRAIN,
    seed: int = 1701,
    step: float = 1e-4,
    tolerance: float = 1e-5,
    **options,
) -> float:
    """Hold the backward pass of a layer against central differences of its forward pass, in float64.

    layer          the text of one ``layer { ... }`` without bottoms; its tops are given names where it has none
    bottoms        the values of its bottoms; keep them away from kinks by more than ``step``
    params         values for its learnable blobs; what the fillers drew when left out
    check_bottoms  indices of the bottoms to check, all when left out (labels have no gradient)

    The function checked is a fixed random weighting of the tops. Returns the worst error relative to
    max(1, |gradient|); above ``tolerance`` it raises GradientError, naming blob and element. Param diffs are
    checked to accumulate, too.
    """
    values = [np.array(value, np.float64) for value in bottoms]
    net = _net_around(layer, values, phase, seed, **options)
    index = len(net.layers) - 1
    own = net.layers[index]
    for blob, value in zip(own.blobs, params or (), strict=False):
        blob.data[...] = value
    checked = range(len(values)) if check_bottoms is None else list(check_bottoms)
    propagate_down = [position in checked for position in range(len(values))]
    own.param_propagate_down[:] = [True] * len(own.blobs)
    states = net.state()

    def forward() -> None:
        net.restore(states)
        for position, value in enumerate(values):
            net.blobs[f"bottom{position}"].data[...] = value
        net.forward_from_to(0, index)

    forward()
    random = np.random.default_rng(seed)
    weightings = [random.uniform(0.5, 1.5, top.shape) * random.choice([-1, 1], top.shape) for top in net.tops[index]]
    learned = [blob.data.copy() for blob in own.blobs]

    def objective() -> float:
        for blob, value in zip(own.blobs, learned, strict=True):
            blob.data[...] = value
        forward()
        return sum(
            float((top.data * weighting).sum()) for top, weighting in zip(net.tops[index], weightings, strict=True)
        )

    objective()
    for blob in own.blobs:
        blob.diff[...] = 1  # must stay, with the gradient added
    for top, weighting in zip(net.tops[index], weightings, strict=True):
        top.diff[...] = weighting
    own.backward(net.tops[index], propagate_down, net.bottoms[index])

    gradients = [(f"bottom {i}", values[i], net.bottoms[index][i].diff.copy()) for i in checked]
    gradients += [(f"param {i}", learned[i], blob.diff - 1) for i, blob in enumerate(own.blobs)]
    return max(
        (_compare(name, value, gradient, objective, step, tolerance) for name, value, gradient in gradients),
        default=0.0,
    )


def _compare(name: str, value: np.ndarray, gradient: np.ndarray, objective, step: float, tolerance: float) -> float:
    worst = 0.0
    flat = value.reshape(-1)
    for position in range(flat.size):
        kept = flat[position]
        flat[position] = kept + step
        above = objective()
        flat[position] = kept - step
        below = objective()
        flat[position] = kept
        expected = (above - below) / (2 * step)
        found = float(gradient.reshape(-1)[position])
        error = abs(found - expected) / max(1.0, abs(found), abs(expected))
        if not error <= tolerance:
            element = np.unravel_index(position, value.shape)
            raise GradientError(
                f"{name}{tuple(int(i) for i in element)}: backward gives {found:.9g}, differences give {expected:.9g} "
                f"(relative error {error:.2g}, at most {tolerance:g} allowed)"
            )
        worst = max(worst, error)
    return worst


def _net_around(layer: str, bottoms: Sequence[np.ndarray], phase: pb.Phase, seed: int, **options) -> Net:
    """A float64 net of Input layers, one a bottom, and the layer under test."""
    param = pb.NetParameter()
    for position, value in enumerate(bottoms):
        source = param.layer.add(name=f"input{position}", type="Input", top=[f"bottom{position}"])
        source.input_param.shape.add(dim=value.shape)
    tested = param.layer.add()
    tested.CopyFrom(text.parse(layer, pb.NetParameter()).layer[0])
    tested.bottom[:] = [f"bottom{position}" for position in range(len(bottoms))]
    if not tested.top:
        tested.top.append("top0")
    return Net(param, phase, seed=seed, dtype=np.float64, **options)
