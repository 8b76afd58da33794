"""``on_nan``: what happens when a loss or a gradient stops being finite, and where that began.

Each pass costs the guard one comparison and a look at each gradient. Only after a fault it runs the same batch again,
layer by layer.
"""

import logging
import math
from collections.abc import Iterator

import numpy as np

from blobnet.blob import Blob
from blobnet.errors import BlobnetError, error_at
from blobnet.kernels.finite import all_finite, blocks, search
from blobnet.layers.base import Layer, describe
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.replay import Replay

log = logging.getLogger("blobnet")


class NotFinite(BlobnetError):
    """A loss or gradient is infinite or no number."""


class Guard:
    """Looks at the loss and gradients of each pass, and at the weights of a snapshot. A fault raises NotFinite.

    With ``warn`` it is said once, where it begins.
    """

    def __init__(self, param: pb.SolverParameter, net: Net):
        if param.on_nan not in ("stop", "warn", "rollback"):
            text = f'on_nan must be "stop", "warn" or "rollback"; got "{param.on_nan}"'
            raise error_at(param, text, "on_nan")
        if param.on_nan == "rollback" and param.snapshot <= 0:
            raise error_at(param, "on_nan: rollback needs snapshot above 0", "on_nan")
        self._net, self._gradients = net, Gradients(net)
        self._warn = param.on_nan == "warn"
        self._warned = False

    def check(self, loss: float, iteration: int) -> None:
        """The net has run forward and backward on a batch in that iteration."""
        fault = self._fault(loss)
        if fault and not self._warned:
            message = f"iteration {iteration}: {fault}; {origin(self._net)}"
            if not self._warn:
                raise NotFinite(message)
            log.warning("%s; training goes on, as on_nan: warn asks", message)
        self._warned = bool(fault)

    def check_weights(self, iteration: int) -> None:
        """What a snapshot is about to hold."""
        if not self._warn and not all(all_finite(blob.data) for blob in self._net.learnable_params):
            raise NotFinite(f"iteration {iteration}: no snapshot of weights that are not finite; {origin(self._net)}")

    def _fault(self, loss: float) -> str:
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not self._gradients.all_finite():
            return "a gradient is not finite"
        return ""


class Gradients:
    """The gradients of a net, to be searched again and again."""

    def __init__(self, net: Net):
        self._params = net.learnable_params
        counts = [blocks(blob.count) for blob in self._params]
        self._sums = np.zeros(sum(counts), net.context.dtype)
        self._sums_of_params = np.split(self._sums, np.cumsum(counts))[:-1]
        self._search = Replay(self._params)

    def all_finite(self) -> bool:
        gradients = [blob.gradient for blob in self._params]  # what was cleared is zeros now, also for a recording

        def search_all() -> None:
            for gradient, sums in zip(gradients, self._sums_of_params, strict=True):
                search(gradient.reshape(-1), sums)

        self._search.run(search_all)
        return all_finite(self._sums)


def origin(net: Net) -> str:
    """Runs the batch in the net again and says in which layer and blob the first value that is not finite appears."""
    states = net.state()
    kept = [(blob, blob.data.copy(), blob.gradient.copy()) for blob in _learnable(net)]
    try:
        found = next(_faults(net), "")
    finally:
        for blob, data, gradient in kept:
            blob.data[...], blob.gradient[...] = data, gradient
        net.restore(states)
    return found or "a second run over the same batch, with other random numbers, stays finite"


def _faults(net: Net) -> Iterator[str]:
    """Every blob that is not finite, in the order in which a pass forward and backward meets them."""
    last = len(net.layers) - 1
    net.clear_param_diffs()
    for index, (layer, tops) in enumerate(zip(net.layers, net.tops, strict=True)):
        for position, blob in enumerate(layer.blobs):
            if not all_finite(blob.data):
                yield _first(layer, f"weights (blob {position})")
        if net.bottoms[index] and tops:
            net.forward_from_to(index, index)
        for top in tops:
            if not all_finite(top.data):
                yield _first(layer, f"top {describe(top)}")
    for index in range(last, -1, -1):
        net.backward_from_to(index, index)
        layer = net.layers[index]
        if net.layer_need_backward[index]:
            yield from _gradient_faults(net, index, layer)


def _gradient_faults(net: Net, index: int, layer: Layer) -> Iterator[str]:
    for position, blob in enumerate(layer.blobs):
        if layer.param_propagate_down[position] and not all_finite(blob.gradient):
            yield _first(layer, f"the gradient of its weights (blob {position})")
    for bottom, needed in zip(net.bottoms[index], net.bottom_need_backward[index], strict=True):
        if needed and not all_finite(bottom.diff):
            yield _first(layer, f"the gradient of bottom {describe(bottom)}")


def _first(layer: Layer, what: str) -> str:
    return f'the first value that is not finite is in layer "{layer.name}" ({layer.type}): {what}'


def _learnable(net: Net) -> list[Blob]:
    return [blob for layer in net.layers for blob in layer.blobs]
