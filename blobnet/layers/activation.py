"""Activation layers: ReLU, PReLU, ELU, Sigmoid, TanH, Swish, BNLL."""

import numpy as np

from blobnet.kernels import activation, elements
from blobnet.layers.base import describe
from blobnet.layers.neuron import Neuron
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb


@register("ReLU")
class ReLU(Neuron):
    """y = x for x > 0, else ``negative_slope`` x (relu_param, default 0).

    dx = dy for x > 0, else negative_slope dy. Nair and Hinton 2010; leaky: Maas et al. 2013.
    """

    def setup(self, bottom, top):
        self._slope = self.dtype.type(self.param.relu_param.negative_slope)
        self.keeps_input = bool(self._slope < 0)  # else y has the sign of x
        self.steady = not self.keeps_input

    def compute(self, x, y):
        if self._slope == 0:
            elements.run(activation.relu, x.size, x, y)
        else:
            elements.run(activation.leaky_relu, x.size, x, self._slope, y)

    def differentiate(self, x, y, dy, dx):
        if self._slope == 0:
            elements.run(activation.relu_gradient, x.size, x, dy, dx)
        else:
            elements.run(activation.leaky_relu_gradient, x.size, x, self._slope, dy, dx)


@register("PReLU")
class PReLU(Neuron):
    """y = x for x > 0, else a x, with a slope a learned for each channel (axis 1).

    dx = dy for x > 0, else a dy; da = sum of dy x over x <= 0. He et al. 2015, section 2.1.

    prelu_param: ``channel_shared`` (default false) learns one slope for all, a blob of no axes;
    ``filler`` fills the slopes (default: constant 0.25). The bottom has two axes or more.
    """

    keeps_input = True

    def setup(self, bottom, top):
        self.require(
            bottom[0].num_axes >= 2, f"PReLU needs a bottom of two axes (N, C) or more; got {describe(bottom[0])}"
        )
        prelu = self.param.prelu_param
        shape = () if prelu.channel_shared else (bottom[0].shape[1],)
        filler = prelu.filler if prelu.HasField("filler") else pb.FillerParameter(value=0.25)
        self.add_blob(shape, filler)

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        channels = self.blobs[0].count
        self.require(
            self.param.prelu_param.channel_shared or bottom[0].shape[1:2] == (channels,),
            f"the slopes were made for {channels} channels; got {describe(bottom[0])}",
        )
        per_row = 1 if self.param.prelu_param.channel_shared else 2
        self._rows = (bottom[0].count_between(0, per_row), bottom[0].count_between(per_row))  # N C, P

    def compute(self, x, y):
        slope = self.blobs[0].data.reshape(-1)
        elements.run_rows(activation.prelu, *self._rows, self._as_rows(x), slope, self._as_rows(y))

    def backward(self, top, propagate_down, bottom):
        if self.param_propagate_down[0]:
            x, dy = self._as_rows(self.input(bottom, top)), self._as_rows(top[0].diff)
            sums = np.empty(self._rows[0])
            elements.run_rows(activation.prelu_slope_gradient, *self._rows, x, dy, sums)
            slope = self.blobs[0]
            slope.add_to_diff(sums.reshape(-1, slope.count).sum(axis=0).reshape(slope.shape))
        super().backward(top, propagate_down, bottom)

    def differentiate(self, x, y, dy, dx):
        slope = self.blobs[0].data.reshape(-1)
        elements.run_rows(
            activation.prelu_gradient, *self._rows, self._as_rows(x), slope, self._as_rows(dy), self._as_rows(dx)
        )

    def _as_rows(self, array):
        return None if array is None else array.reshape(self._rows)


@register("ELU")
class ELU(Neuron):
    """y = x for x > 0, else ``alpha`` (exp(x) - 1) (elu_param, default 1).

    dx = dy for x > 0, else dy (y + alpha). Clevert et al. 2016, equation 15.
    """

    def setup(self, bottom, top):
        self._alpha = self.dtype.type(self.param.elu_param.alpha)
        self.keeps_input = bool(self._alpha < 0)  # else y has the sign of x

    def compute(self, x, y):
        elements.run(activation.elu, x.size, x, self._alpha, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(activation.elu_gradient, x.size, x, y, self._alpha, dy, dx)


@register("Sigmoid")
class Sigmoid(Neuron):
    """y = 1 / (1 + exp(-x)); dx = dy y (1 - y)."""

    def compute(self, x, y):
        elements.run(activation.logistic, x.size, x, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(activation.logistic_gradient, y.size, y, dy, dx)


@register("TanH")
class TanH(Neuron):
    """y = tanh(x); dx = dy (1 - y^2)."""

    def compute(self, x, y):
        elements.run(activation.hyperbolic_tangent, x.size, x, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(activation.hyperbolic_tangent_gradient, y.size, y, dy, dx)


@register("Swish")
class Swish(Neuron):
    """y = x s, s = 1 / (1 + exp(-``beta`` x)) (swish_param, default 1).

    dx = dy (s + beta x s (1 - s)). Ramachandran et al. 2017.
    """

    keeps_input = True

    def setup(self, bottom, top):
        self._beta = self.dtype.type(self.param.swish_param.beta)

    def compute(self, x, y):
        elements.run(activation.swish, x.size, x, self._beta, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(activation.swish_gradient, x.size, x, self._beta, dy, dx)


@register("BNLL")
class BNLL(Neuron):
    """Binomial normal log likelihood: y = log(1 + exp(x)); dx = dy / (1 + exp(-x))."""

    keeps_input = True

    def compute(self, x, y):
        elements.run(activation.softplus, x.size, x, y)

    def differentiate(self, x, y, dy, dx):
        elements.run(activation.softplus_gradient, x.size, x, dy, dx)
