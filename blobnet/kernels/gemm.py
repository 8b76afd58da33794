"""Matrix products: C = alpha op(A) op(B) + beta C, for every room that multiplies matrices."""

import numpy as np

from blobnet.kernels import parallel
from blobnet.kernels._jit import jit


def gemm(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
) -> None:
    """C = alpha op(A) op(B) + beta C in place, on C-contiguous matrices of one dtype, float32 or float64.

    op(A) is M x K, op(B) is K x N, C is M x N. With beta 0 the old C is not read, so that its NaN and
    infinity vanish. The bits do not depend on the number of threads.
    """
    a = np.ascontiguousarray(a.T) if transpose_a else a
    b = np.ascontiguousarray(b.T) if transpose_b else b
    alpha, beta = c.dtype.type(alpha), c.dtype.type(beta)
    parallel.parallel_for(multiply_rows, len(c), a, b, c, alpha, beta, grain=4)


@jit
def multiply_rows(start, stop, a, b, c, alpha, beta):
    """Rows start to stop of C = alpha A B + beta C."""
    for i in range(start, stop):
        if beta == 0:
            c[i] = 0
        else:
            c[i] *= beta
        for k in range(a.shape[1]):
            scaled = alpha * a[i, k]
            for j in range(b.shape[1]):
                c[i, j] += scaled * b[k, j]
