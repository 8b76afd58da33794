"""The bias of a convolution: one number per channel, added to every pixel, and its gradient."""

from blobnet.kernels._jit import jit


@jit
def add(start, stop, y, bias):
    """y[n, c, :] += bias[c] for the images start to stop of y [N, C, P]."""
    for n in range(start, stop):
        for c in range(y.shape[1]):
            for p in range(y.shape[2]):
                y[n, c, p] += bias[c]


@jit
def gradient(start, stop, dy, dbias):
    """dbias[c] += sum over n and p of dy[n, c, p], for the channels start to stop."""
    for c in range(start, stop):
        total = 0.0
        for n in range(dy.shape[0]):
            image = dbias[c] * 0
            for p in range(dy.shape[2]):
                image += dy[n, c, p]
            total += image
        dbias[c] += total
