"""Stochastic gradient descent with momentum."""

from collections.abc import Sequence

from blobnet.kernels import update
from blobnet.solvers.registry import register
from blobnet.solvers.solver import Solver


@register("SGD")
class SGD(Solver):
    """V = momentum * V + rate * g; W = W - V. (``momentum``, default 0.)

    The rate is inside V, so that a drop of it acts with delay, as in Caffe. Bottou (2012), section 4.
    """

    kernel = update.sgd

    def constants(self) -> Sequence[float]:
        return [self.param.momentum]
