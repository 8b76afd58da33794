"""Nesterov's accelerated gradient."""

from blobnet.kernels import update
from blobnet.solvers.registry import register
from blobnet.solvers.sgd import SGD


@register("Nesterov")
class Nesterov(SGD):
    """V' = momentum * V + rate * g; W = W - V' - momentum * (V' - V). (``momentum``, default 0.)

    Sutskever et al. (2013), section 2, with W standing for the point where the gradient is taken.
    """

    kernel = update.nesterov
