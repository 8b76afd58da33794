"""exp and its relations as the compiler can vectorise them: straight-line float32 arithmetic, no table, no branch.

float64 calls the C library. The float32 results are within 2 units in the last place, those of tanh and sigmoid
within 3; infinities, NaN, overflow and denormal results of exp come out as IEEE has them. The additions must be done
in the order they are written in, so that these functions do not take the kernels' liberty to reassociate.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from blobnet.kernels._jit import jit

_LOG2_E = np.float32(1.44269504)
_LN2_HIGH = np.float32(0.693145752)  # 16 bits, so that its product with a whole number is exact
_LN2_LOW = np.float32(1.42860677e-06)
_WHOLE = np.float32(1.5 * 2**23)  # added to a small number, it leaves the nearest whole one in the low bits
_WHOLE_BITS = np.int32(0x4B400000)
_BIAS = np.int32(127)
_MANTISSA = np.int32(23)
_ONE = np.float32(1)
_TWO = np.float32(2)
_OVERFLOWS = np.float32(89)
_VANISHES = np.float32(-104)
_SATURATED = np.float32(20)  # tanh of its half is 1
_LARGE = np.float32(88)  # to whose power e is a normal number, and 1 / e too

# Chebyshev interpolation of (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, of relative error 1e-8 in exp(r)
_E0, _E1, _E2, _E3, _E4 = (np.float32(c) for c in (0.5, 0.16666577, 0.0416665546, 0.00836317905, 0.00139261836))


def exp(x):
    """e to the power of x."""
    return np.exp(x)


def tanh(x):
    """Hyperbolic tangent."""
    return np.tanh(x)


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


_contracted = {"fastmath": {"contract"}}


@overload(exp, jit_options=_contracted)
def _exp(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def exp32(x):
        x = _OVERFLOWS if x > _OVERFLOWS else x
        x = _VANISHES if x < _VANISHES else x
        n, rest = _split(x)
        half = np.int32(n >> np.int32(1))
        return (_ONE + rest) * _power_of_two(half) * _power_of_two(np.int32(n - half))

    return exp32


@overload(tanh, jit_options=_contracted)
def _tanh(x):
    if x != types.float32:
        return lambda x: math.tanh(x)

    def tanh32(x):
        size = _TWO * abs(x)
        n, rest = _split(_SATURATED if size > _SATURATED else size)
        power = _power_of_two(n)
        less_one = power * rest + (power - _ONE)  # exp(size) - 1
        return np.float32(math.copysign(less_one / (less_one + _TWO), x))

    return tanh32


@overload(sigmoid, jit_options=_contracted)
def _sigmoid(x):
    if x != types.float32:
        return lambda x: 1 / (1 + math.exp(-x))

    def sigmoid32(x):
        n, rest = _split(-(_LARGE if x > _LARGE else x))
        power = (_ONE + rest) * _power_of_two(n)
        return np.float32(0) if x < -_LARGE else _ONE / (_ONE + power)

    return sigmoid32


@jit(**_contracted)
def _split(x):
    """n and exp(r) - 1, where x = n ln 2 + r."""
    shifted = np.float32(x * _LOG2_E + _WHOLE)
    n = shifted - _WHOLE
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    rest = r + r * r * (_E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * _E4))))
    return np.int32(shifted.view(np.int32) - _WHOLE_BITS), rest


@jit(fastmath=False)
def _power_of_two(n):
    return np.int32((n + _BIAS) << _MANTISSA).view(np.float32)
