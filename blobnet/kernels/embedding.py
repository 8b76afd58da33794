"""The gradient of a row look-up."""

from blobnet.kernels._jit import jit


@jit
def add_rows(indices, rows, table):
    """table[indices[i]] += rows[i], in order, so that repeated indices add up the same way every time."""
    for i in range(len(indices)):
        for j in range(rows.shape[1]):
            table[indices[i], j] += rows[i, j]
