"""Local response normalisation, cell by cell, in float64 NumPy."""

import numpy as np


def _neighbours(shape, place, size, within):
    """The cells whose squares count for the cell at ``place``, as an index."""
    n, c, h, w = place
    half = size // 2

    def around(centre):
        return slice(max(0, centre - half), centre + half + 1)

    return (n, c, around(h), around(w)) if within else (n, around(c), h, w)


def scale(x, size, alpha, k, within):
    s = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        total = (x[_neighbours(x.shape, place, size, within)].astype(float) ** 2).sum()
        s[place] = 1 + alpha / size**2 * total if within else k + alpha / size * total
    return s


def forward(x, size, alpha, beta, k, within):
    return x * scale(x, size, alpha, k, within) ** -beta


def backward(x, dy, size, alpha, beta, k, within):
    """Each output y_i = x_i s_i^-beta passes dy_i on to x_i and to every neighbour in s_i."""
    s = scale(x, size, alpha, k, within)
    rate = alpha / size**2 if within else alpha / size
    dx = dy * s**-beta
    for place in np.ndindex(x.shape):
        cells = _neighbours(x.shape, place, size, within)
        dx[cells] -= dy[place] * x[place] * beta * s[place] ** (-beta - 1) * 2 * rate * x[cells]
    return dx
