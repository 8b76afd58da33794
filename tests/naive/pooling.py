"""Pooling, window by window, in float64 NumPy."""

import numpy as np


def windows(extent, kernel, stride, pad, floor, padded):
    """The first cell of each window along an axis, in the image's coordinates; negative in the padding."""
    count = 1
    while count * stride + kernel <= extent + 2 * pad if floor else (count - 1) * stride + kernel < extent + 2 * pad:
        count += 1
    if padded and (count - 1) * stride >= extent + pad:
        count -= 1
    return [i * stride - pad for i in range(count)]


class Pool:
    """The windows of an image [H, W]."""

    def __init__(self, shape, kernel, stride, pad, floor=False):
        self.shape, self.kernel, self.pad = shape, kernel, pad
        self.starts = [windows(*axis, floor, any(pad)) for axis in zip(shape, kernel, stride, pad, strict=True)]

    @property
    def has_empty_window(self):
        return any(start >= extent for starts, extent in zip(self.starts, self.shape, strict=True) for start in starts)

    @property
    def output(self):
        return tuple(len(starts) for starts in self.starts)

    def place(self, i, j):
        """The first row and column of a window; negative in the padding."""
        return self.starts[0][i], self.starts[1][j]

    def cells(self, i, j):
        """The part of the image in a window."""
        return tuple(
            slice(max(0, start), min(start + kernel, extent))
            for start, kernel, extent in zip(self.place(i, j), self.kernel, self.shape, strict=True)
        )

    def divisor(self, i, j):
        rows, columns = (
            min(start + kernel, extent + pad) - start
            for start, kernel, extent, pad in zip(self.place(i, j), self.kernel, self.shape, self.pad, strict=True)
        )
        return rows * columns

    def all(self, x):
        """(place in y, place in x) of every window of every image."""
        for outer in np.ndindex(x.shape[:2]):
            for place in np.ndindex(self.output):
                yield (*outer, *place), (*outer, *self.cells(*place))

    def maximum(self, x):
        """y, and the index of each maximum in its plane."""
        y = np.empty((*x.shape[:2], *self.output))
        mask = np.empty(y.shape, int)
        index = np.broadcast_to(np.arange(x[0, 0].size).reshape(self.shape), x.shape)
        for out, cells in self.all(x):
            y[out] = x[cells].max()
            mask[out] = index[cells].ravel()[x[cells].argmax()]
        return y, mask

    def maximum_backward(self, x, dy):
        _, mask = self.maximum(x)
        dx = np.zeros(x.shape)
        for out, cells in self.all(x):
            dx[cells[:2]].ravel()[mask[out]] += dy[out]
        return dx

    def average(self, x):
        y = np.empty((*x.shape[:2], *self.output))
        for out, cells in self.all(x):
            y[out] = x[cells].sum(dtype=float) / self.divisor(*out[2:])
        return y

    def average_backward(self, x, dy):
        dx = np.zeros(x.shape)
        for out, cells in self.all(x):
            dx[cells] += dy[out] / self.divisor(*out[2:])
        return dx

    def weighted(self, x):
        """Stochastic pooling's expectation: every cell weighs itself."""
        y = np.zeros((*x.shape[:2], *self.output))
        for out, cells in self.all(x):
            weights = np.maximum(x[cells], 0)
            if weights.any():
                y[out] = (weights * x[cells]).sum(dtype=float) / weights.sum(dtype=float)
        return y
