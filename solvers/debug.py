"""``debug_info``: the mean absolute value of every blob that a pass touches, layer by layer, into the log."""

import contextlib
import logging
from collections.abc import Iterator

import numpy as np

from blobnet.net import Net

log = logging.getLogger("blobnet")


@contextlib.contextmanager
def logged(net: Net, wanted: bool) -> Iterator[None]:
    """Within the block, log each layer of the net's forward and backward passes, where that is wanted."""
    if not wanted:
        yield
        return
    net.after_forward.append(log_forward)
    net.after_backward.append(log_backward)
    try:
        yield
    finally:
        net.after_forward.remove(log_forward)
        net.after_backward.remove(log_backward)


def log_forward(net: Net, index: int) -> None:
    layer = net.layers[index]
    for top in net.tops[index]:
        log.info("    [Forward] Layer %s, top blob %s data: %.6g", layer.name, top.name, _size(top.data))
    for position, blob in enumerate(layer.blobs):
        log.info("    [Forward] Layer %s, param blob %d data: %.6g", layer.name, position, _size(blob.data))


def log_backward(net: Net, index: int) -> None:
    layer = net.layers[index]
    if net.layer_need_backward[index]:
        for bottom, needed in zip(net.bottoms[index], net.bottom_need_backward[index], strict=True):
            if needed:
                log.info(
                    "    [Backward] Layer %s, bottom blob %s diff: %.6g", layer.name, bottom.name, _size(bottom.diff)
                )
        for position, blob in enumerate(layer.blobs):
            if layer.param_propagate_down[position]:
                log.info(
                    "    [Backward] Layer %s, param blob %d diff: %.6g", layer.name, position, _size(blob.gradient)
                )
    if index == 0:
        _log_norms(net)


def _log_norms(net: Net) -> None:
    parts = [blob.data for blob in net.learnable_params], [blob.gradient for blob in net.learnable_params]
    sums = [sum(np.abs(array).sum() for array in part) for part in parts]
    squares = [sum(np.square(array, dtype=np.float64).sum() for array in part) for part in parts]
    norms = (*sums, *np.sqrt(squares))
    log.info("    [Backward] All net params (data, diff): L1 norm = (%.6g, %.6g); L2 norm = (%.6g, %.6g)", *norms)


def _size(values: np.ndarray) -> float:
    return float(np.abs(values).mean())
