"""Random decisions as a pure function of (key, element): the same for any number of threads, and again in backward."""

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


@jit
def bits(key, index):
    """32 random bits for an element: the upper half of SplitMix64's output (Steele, Lea and Flood 2014)."""
    z = key + np.uint64(index) * _STEP
    z = (z ^ (z >> _30)) * _MIX1
    z = (z ^ (z >> _27)) * _MIX2
    return (z ^ (z >> _31)) >> _32


@jit
def dropout(start, stop, x, key, bound, factor, y):
    """factor x where the element's bits reach ``bound``, else 0. The gradient is the same function of dy."""
    x, y = span(start, stop, x, y)
    for i in range(x.size):
        y[i] = factor * x[i] if bits(key, start + i) >= bound else 0
