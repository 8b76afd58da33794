"""Layers that apply an elementary function: AbsVal, Exp, Log, Power, Clip, Threshold."""

import math

import numpy as np

from blobnet.kernels import arithmetic, elements
from blobnet.layers.base import Layer
from blobnet.layers.neuron import Neuron
from blobnet.layers.registry import register


@register("AbsVal")
class AbsVal(Neuron):
    """y = |x|; dx = dy sign(x), 0 at 0. Not in place."""

    in_place = False

    def compute(self, x, y):
        elements.run(arithmetic.absolute, x.size, x, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(arithmetic.absolute_gradient, x.size, x, dy, dx)


@register("Exp")
class Exp(Neuron):
    """y = ``base`` ^ (``shift`` + ``scale`` x); dx = dy y scale ln(base).

    exp_param: base (default -1, which stands for e), scale (1), shift (0).
    """

    def setup(self, bottom, top):
        exp = self.param.exp_param
        log_base = log_of_base(self, exp.base, "exp_param.base")
        with np.errstate(over="ignore"):
            self._rate = self.dtype.type(log_base * exp.scale)
            self._factor = self.dtype.type(np.exp(log_base * exp.shift))

    def compute(self, x, y):
        elements.run(arithmetic.exponential, x.size, x, self._rate, self._factor, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(arithmetic.exponential_gradient, y.size, y, self._rate, dy, dx)


@register("Log")
class Log(Neuron):
    """y = log(``shift`` + ``scale`` x) to the ``base``; dx = dy scale / ((shift + scale x) ln(base)).

    log_param: base (default -1, which stands for e), scale (1), shift (0).
    """

    keeps_input = True

    def setup(self, bottom, top):
        log = self.param.log_param
        log_base = log_of_base(self, log.base, "log_param.base")
        self.require(
            log_base != 0, f"base must not be 1, for which there is no logarithm; got {log.base:g}", "log_param.base"
        )
        self._line = self.dtype.type(log.scale), self.dtype.type(log.shift)
        self._factor = self.dtype.type(1 / log_base)

    def compute(self, x, y):
        elements.run(arithmetic.logarithm, x.size, x, *self._line, self._factor, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(arithmetic.logarithm_gradient, x.size, x, *self._line, self._factor, dy, dx)


@register("Power")
class Power(Neuron):
    """y = (``shift`` + ``scale`` x) ^ ``power``; dx = dy power scale (shift + scale x) ^ (power - 1).

    power_param: power (default 1), scale (1), shift (0). With power or scale 0 the top is a constant, and the
    gradient is 0 whatever x is.
    """

    def setup(self, bottom, top):
        power = self.param.power_param
        self._line = self.dtype.type(power.scale), self.dtype.type(power.shift)
        self._power = self.dtype.type(power.power)
        self._is_constant = power.power == 0 or power.scale == 0
        self.keeps_input = not self._is_constant and power.power != 1

    def compute(self, x, y):
        if self._is_constant:
            y = x if y is None else y
            with np.errstate(all="ignore"):
                y[...] = self._line[1] ** self._power
        else:
            elements.run(arithmetic.power, x.size, x, *self._line, self._power, y)

    def differentiate(self, x, y, dy, dx):
        if self._is_constant:
            dx = dy if dx is None else dx
            dx[...] = 0
        else:
            elements.run(arithmetic.power_gradient, x.size, x, *self._line, self._power, dy, dx)


@register("Clip")
class Clip(Neuron):
    """y = x held between ``min`` and ``max`` (clip_param; both 0 where it is missing).

    dx = dy where min <= x <= max, else 0. In place, x is clipped already, so that every gradient passes.
    """

    def setup(self, bottom, top):
        clip = self.param.clip_param
        self.require(
            clip.min <= clip.max, f"min must not exceed max; got min {clip.min:g}, max {clip.max:g}", "clip_param"
        )
        self._bounds = self.dtype.type(clip.min), self.dtype.type(clip.max)

    def compute(self, x, y):
        elements.run(arithmetic.clip, x.size, x, *self._bounds, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(arithmetic.clip_gradient, x.size, x, *self._bounds, dy, dx)


@register("Threshold")
class Threshold(Neuron):
    """y = 1 for x > ``threshold`` (threshold_param, default 0), else 0. Has no gradient."""

    def setup(self, bottom, top):
        self._level = self.dtype.type(self.param.threshold_param.threshold)

    def compute(self, x, y):
        elements.run(arithmetic.threshold, x.size, x, self._level, y)

    backward = Layer.backward


def log_of_base(layer: Neuron, base: float, field: str) -> float:
    """ln(base); 1 for -1, which stands for e."""
    if base == -1:
        return 1.0
    layer.require(0 < base < math.inf, f"base must be greater than 0 and finite, or -1 for e; got {base:g}", field)
    return math.log(base)
