"""Random decisions as a pure function of (key, element): the same for any number of threads, and again in backward."""

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.elements import span

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_STEP_32 = np.uint32(0x9E3779B9)
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
    place, inner, least = np.uint32(bits(key, 0)), np.uint32(bits(key, 1)), np.uint32(bound)
    place = np.uint32(place + np.uint32(start) * _STEP_32)
    for i in range(x.size):
        y[i] = factor * x[i] if _mix(place, inner) >= least else 0
        place = np.uint32(place + _STEP_32)


@jit
def _mix(x, inner):
    """A one-to-one hash of 32 bits in which each bit of x changes every other one half of the time.

    Constants: Wellons 2018, "Prospecting for hash functions" (lowbias32); the inner key is taken in half way.
    """
    x = np.uint32(np.uint32(x ^ (x >> _S16)) * _M1) ^ inner
    x = np.uint32(np.uint32(x ^ (x >> _S15)) * _M2)
    return np.uint32(x ^ (x >> _S16))
