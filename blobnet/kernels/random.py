"""Random decisions as a pure function of (key, element): the same for any number of threads, and again in backward."""

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_M1, _M2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_S15, _S16 = np.uint32(15), np.uint32(16)
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
    """factor x where the element's bits reach ``bound``, else 0. The gradient is the same function of dy.

    Here the 32 bits are a hash of the key and of the element's number modulo 2^32, in arithmetic that vectors have.
    """
    x, y = span(start, stop, x, y)
    low, high, least = np.uint32(key), np.uint32(key >> _32), np.uint32(bound)
    for i in range(x.size):
        mixed = _mix(np.uint32(_mix(np.uint32(np.uint32(start + i) + low)) ^ high))
        y[i] = factor * x[i] if mixed >= least else 0


@jit
def _mix(x):
    """A one-to-one hash of 32 bits in which each bit of x changes every other one half of the time.

    Constants: Wellons 2018, "Prospecting for hash functions" (lowbias32).
    """
    x = np.uint32(np.uint32(x ^ (x >> _S16)) * _M1)
    x = np.uint32(np.uint32(x ^ (x >> _S15)) * _M2)
    return np.uint32(x ^ (x >> _S16))
