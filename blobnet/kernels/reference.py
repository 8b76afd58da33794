"""The textbook ways: triple-loop matrix product, and convolution by im2col as Caffe does it.

What the fast paths are held against, and what runs instead of them where BLOBNET_KERNELS=reference. They
take what ``gemm.gemm`` and the functions of ``convolution`` take.
"""

import numpy as np

from blobnet.kernels import im2col, parallel
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry


def gemm(a, b, c, transpose_a: bool = False, transpose_b: bool = False, alpha=1.0, beta=0.0) -> None:
    a = np.ascontiguousarray(a.T) if transpose_a else a
    b = np.ascontiguousarray(b.T) if transpose_b else b
    alpha, beta = c.dtype.type(alpha), c.dtype.type(beta)
    parallel.parallel_for(multiply_rows, len(c), a, b, c, alpha, beta, grain=4)


@jit
def multiply_rows(start, stop, a, b, c, alpha, beta):
    """Rows start to stop of C = alpha A B + beta C."""
    for i in range(start, stop):
        for j in range(b.shape[1]):
            c[i, j] = beta * c[i, j] if beta != 0 else 0
        for k in range(a.shape[1]):
            scaled = alpha * a[i, k]
            for j in range(b.shape[1]):
                c[i, j] += scaled * b[k, j]


def forward(x, w, y, geometry: Geometry, group: int, bias=None) -> None:
    """y_n = w im2col(x_n) + bias."""
    table = im2col.tap_table(geometry)
    weights, columns, outputs = _by_group(w, y, table, group)
    for n in range(len(x)):
        parallel.parallel_for(im2col.im2col, x.shape[1], x[n], table, columns.reshape(-1, *table.shape))
        for g in range(group):
            gemm(weights[g], columns[g], outputs[n, g])
    _add_bias(y, bias)


def backward_data(dy, w, dx, geometry: Geometry, group: int, bias=None) -> None:
    """dx_n = col2im(w^T dy_n) + bias."""
    table = im2col.tap_table(geometry)
    weights, columns, gradients = _by_group(w, dy, table, group)
    for n in range(len(dx)):
        for g in range(group):
            gemm(weights[g], gradients[n, g], columns[g], transpose_a=True)
        parallel.parallel_for(im2col.col2im, dx.shape[1], columns.reshape(-1, *table.shape), table, dx[n])
    _add_bias(dx, bias)


def backward_weights(x, dy, dw, geometry: Geometry, group: int, beta: int = 1) -> None:
    """dw = sum over n of dy_n im2col(x_n)^T + beta dw."""
    table = im2col.tap_table(geometry)
    weights, columns, gradients = _by_group(dw, dy, table, group)
    for n in range(len(x)):
        parallel.parallel_for(im2col.im2col, x.shape[1], x[n], table, columns.reshape(-1, *table.shape))
        for g in range(group):
            gemm(gradients[n, g], columns[g], weights[g], transpose_b=True, beta=beta if n == 0 else 1)


def _by_group(w, y, table, group):
    """Per group: w [G, O / G, K], columns [G, K, P] to be filled, y [N, G, O / G, P]; K = C / G x taps."""
    weights = w.reshape(group, len(w) // group, -1)
    columns = np.empty((group, weights.shape[2], table.shape[1]), w.dtype)
    return weights, columns, y.reshape(len(y), group, -1, table.shape[1])


def _add_bias(y, bias):
    if bias is not None:
        y += bias[:, None]
