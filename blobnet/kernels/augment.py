"""Pixels on their way into a batch: bilinear resizing."""

from blobnet.kernels._jit import jit

COEFFICIENT_BITS = 11


@jit
def resize_bilinear(pixels, rows, row_weights, columns, column_weights, scratch, out):
    """Bilinear interpolation of bytes in the fixed point arithmetic of OpenCV.

    pixels [H, W, C], out [h, w, C] of bytes; scratch [2, w, C] of int32;
    rows [h, 2], columns [w, 2]: the two source lines of each output line; weights [., 2]: theirs, times 2048.
    """
    for y in range(out.shape[0]):
        for side in range(2):
            source = pixels[rows[y, side]]
            for x in range(out.shape[1]):
                left, right = columns[x, 0], columns[x, 1]
                for c in range(out.shape[2]):
                    scratch[side, x, c] = (
                        source[left, c] * column_weights[x, 0] + source[right, c] * column_weights[x, 1]
                    )
        upper, lower = row_weights[y, 0], row_weights[y, 1]
        for x in range(out.shape[1]):
            for c in range(out.shape[2]):
                above = (upper * (scratch[0, x, c] >> 4)) >> 16
                below = (lower * (scratch[1, x, c] >> 4)) >> 16
                out[y, x, c] = (above + below + 2) >> 2
