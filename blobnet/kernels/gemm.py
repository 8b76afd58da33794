"""Matrix products: C = alpha op(A) op(B) + beta C, for every room that multiplies matrices."""

import numpy as np

from blobnet import config
from blobnet.kernels import parallel, product, reference, unpacked
from blobnet.kernels._jit import jit

# Elements of a matrix times a vector below which a second thread costs more than it gives.
ELEMENTS_OF_A_THREAD = 1 << 17
# Terms of a sum up to which the second operand is better not packed, and elements of it and of the result from which
# that is worth compiling another kernel: 28 ms of 48 for the gradient of 4096 x 9216 weights from 32 images.
SHORT, MANY = 64, 500_000


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
    elif len(c) == 1 and transpose_b:
        _multiply_vector(b, a, c, alpha, beta)
    elif c.shape[1] == 1 and not transpose_a:
        _multiply_vector(a, b, c, alpha, beta)
    elif not transpose_b and _pays_unpacked(a, b, c) and alpha == 1 and beta in (0, 1):
        panels = unpacked.panels(a, transposed=transpose_a)
        unpacked.multiply(panels, b[None], c[None], addend=c[None] if beta == 1 else None)
    else:
        _multiply(a, b, c, transpose_a, transpose_b, alpha, beta)


def _pays_unpacked(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    """Whether sums are so short that to pack b [K, N] is much of the work, and a is no more work to pack."""
    return len(b) <= SHORT and b.size + c.size >= max(MANY, a.size)


def _multiply(a, b, c, transpose_a, transpose_b, alpha, beta) -> None:
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


def _multiply_vector(matrix, vector, c, alpha, beta) -> None:
    """A matrix times a vector, which goes as fast as the matrix comes from memory: a dot product for each row."""
    alpha, beta = c.dtype.type(alpha), c.dtype.type(beta)
    grain = max(1, ELEMENTS_OF_A_THREAD // matrix.shape[1])
    parallel.parallel_for(dot_rows, len(matrix), matrix, vector.reshape(-1), c.reshape(-1), alpha, beta, grain=grain)


@jit
def dot_rows(start, stop, matrix, vector, c, alpha, beta):
    """c[i] = alpha matrix[i] . vector + beta c[i] for the rows start to stop; with beta 0 the old c is not read."""
    for i in range(start, stop):
        row = matrix[i]
        total = alpha * 0
        for k in range(len(vector)):
            total += row[k] * vector[k]
        c[i] = alpha * total + (beta * c[i] if beta != 0 else 0)
