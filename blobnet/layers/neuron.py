"""Neuron: the base of layers whose top is a function of each element of the bottom by itself."""

import numpy as np

from blobnet.layers.base import Layer


class Neuron(Layer):
    """One bottom, one top of its shape; in place allowed.

    A subclass writes ``compute`` and ``differentiate`` on flat arrays. In place, their output is None, which
    kernels take to mean the input (see ``kernels.elements``). A subclass whose gradient cannot be had from the
    output sets ``keeps_input``: in place, the input is then copied first.
    """

    in_place = True
    _kept = np.empty(0)

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        x, y = bottom[0].data.reshape(-1), top[0].data.reshape(-1)
        if top[0] is not bottom[0]:
            self.compute(x, y)
        elif self.keeps_input:
            self._kept = keep(x, self._kept)
            self.compute(self._kept, y)
        else:
            self.compute(x, None)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            in_place = top[0] is bottom[0]
            self.differentiate(
                self.input(bottom, top),
                top[0].data.reshape(-1),
                top[0].diff.reshape(-1),
                None if in_place else bottom[0].diff.reshape(-1),
            )

    def compute(self, x: np.ndarray, y: np.ndarray | None) -> None:
        """y = f(x)."""
        raise NotImplementedError

    def differentiate(self, x: np.ndarray, y: np.ndarray, dy: np.ndarray, dx: np.ndarray | None) -> None:
        """dx = dy f'(x). In place without ``keeps_input``, x holds y."""
        raise NotImplementedError

    def input(self, bottom, top) -> np.ndarray:
        """The flat input of the last forward pass; what has become of it where it was neither left nor kept."""
        if self.keeps_input and top[0] is bottom[0]:
            return self._kept
        return bottom[0].data.reshape(-1)


def keep(x: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """A copy of x, in the array of an earlier copy where that has its shape."""
    if kept.shape != x.shape:
        return x.copy()
    np.copyto(kept, x)
    return kept
