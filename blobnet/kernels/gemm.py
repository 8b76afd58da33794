"""Matrix products: C = alpha op(A) op(B) + beta C, for every room that multiplies matrices."""

import numpy as np

from blobnet import config
from blobnet.kernels import product, reference


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
    if config.reference_kernels():
        reference.gemm(a, b, c, transpose_a, transpose_b, alpha, beta)
        return
    product.multiply(
        a,
        product.matrix_layout(*a.shape, transposed=transpose_a),
        b,
        product.matrix_layout(*b.shape, transposed=not transpose_b),
        c,
        product.matrix_layout(*c.shape),
        alpha,
        beta,
    )
