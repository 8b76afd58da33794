"""Convolution and its two gradients over any number of spatial axes, grouped.

With x [N, C, input pixels], w [O, C / G, taps], y [N, O, output pixels] and every group on its own:

    forward           y_n = w im2col(x_n)
    backward data     dx_n = col2im(w^T dy_n)
    backward weights  dw += sum over n of dy_n im2col(x_n)^T

A deconvolution is the same three with the first two exchanged.
"""

import numpy as np

from blobnet.kernels import im2col, parallel
from blobnet.kernels.gemm import gemm
from blobnet.kernels.geometry import Geometry


def forward(x: np.ndarray, w: np.ndarray, y: np.ndarray, geometry: Geometry, group: int) -> None:
    """y = w * x."""
    table = im2col.tap_table(geometry)
    weights, columns, outputs = _by_group(w, y, table, group)
    for n in range(len(x)):
        parallel.parallel_for(im2col.im2col, x.shape[1], x[n], table, columns.reshape(-1, *table.shape))
        for g in range(group):
            gemm(weights[g], columns[g], outputs[n, g])


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, group: int) -> None:
    """dx = the gradient of the input."""
    table = im2col.tap_table(geometry)
    weights, columns, gradients = _by_group(w, dy, table, group)
    for n in range(len(dx)):
        for g in range(group):
            gemm(weights[g], gradients[n, g], columns[g], transpose_a=True)
        parallel.parallel_for(im2col.col2im, dx.shape[1], columns.reshape(-1, *table.shape), table, dx[n])


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry, group: int) -> None:
    """dw += the gradient of the weights."""
    table = im2col.tap_table(geometry)
    weights, columns, gradients = _by_group(dw, dy, table, group)
    for n in range(len(x)):
        parallel.parallel_for(im2col.im2col, x.shape[1], x[n], table, columns.reshape(-1, *table.shape))
        for g in range(group):
            gemm(gradients[n, g], columns[g], weights[g], transpose_b=True, beta=1)


def _by_group(w, y, table, group):
    """Per group: w [G, O / G, K], columns [G, K, P] to be filled, y [N, G, O / G, P]; K = C / G x taps."""
    weights = w.reshape(group, len(w) // group, -1)
    columns = np.empty((group, weights.shape[2], table.shape[1]), w.dtype)
    return weights, columns, y.reshape(len(y), group, -1, table.shape[1])
