"""exp and its relations as the compiler can vectorise them: straight-line float32 arithmetic, no table, no branch.

float64 calls the C library. The float32 results are within 2 units in the last place; infinities, NaN, overflow
and denormal results come out as IEEE has them. The additions must be done in the order they are written in, so
that these functions do not take the kernels' liberty to reassociate.
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
_SMALL = np.float32(0.625)

# Chebyshev interpolation of (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, of relative error 1e-8 in exp(r)
_E0, _E1, _E2, _E3, _E4 = (np.float32(c) for c in (0.5, 0.16666577, 0.0416665546, 0.00836317905, 0.00139261836))
# and of (tanh(x) / x - 1) / x^2 for |x| <= 0.625, of relative error 2e-8 in tanh(x)
_T0, _T1, _T2, _T3, _T4 = (
    np.float32(c) for c in (-0.333333289, 0.133327697, -0.053850908, 0.0209971737, -0.00609670822)
)


def exp(x):
    """e to the power of x."""
    return np.exp(x)


def tanh(x):
    """Hyperbolic tangent."""
    return np.tanh(x)


@overload(exp, jit_options={"fastmath": {"contract"}})
def _exp(x):
    if x != types.float32:
        return lambda x: math.exp(x)

    def exp32(x):
        x = _OVERFLOWS if x > _OVERFLOWS else x
        x = _VANISHES if x < _VANISHES else x
        shifted = x * _LOG2_E + _WHOLE
        n = shifted - _WHOLE
        r = (x - n * _LN2_HIGH) - n * _LN2_LOW
        p = _ONE + (r + r * r * (_E0 + r * (_E1 + r * (_E2 + r * (_E3 + r * _E4)))))
        exponent = np.int32(np.float32(shifted).view(np.int32) - _WHOLE_BITS)
        half = np.int32(exponent >> np.int32(1))
        return p * _power_of_two(half) * _power_of_two(np.int32(exponent - half))

    return exp32


@jit(fastmath=False)
def _power_of_two(n):
    return np.int32((n + _BIAS) << _MANTISSA).view(np.float32)


@overload(tanh, jit_options={"fastmath": {"contract"}})
def _tanh(x):
    if x != types.float32:
        return lambda x: math.tanh(x)

    def tanh32(x):
        z = x * x
        near = x + x * z * (_T0 + z * (_T1 + z * (_T2 + z * (_T3 + z * _T4))))
        size = abs(x)
        far = _ONE - _TWO / (exp(_TWO * size) + _ONE)
        far = -far if x < 0 else far
        return near if size < _SMALL else far

    return tanh32


@jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return _ONE / (_ONE + exp(-x))
