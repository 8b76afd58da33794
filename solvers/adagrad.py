"""AdaGrad."""

from collections.abc import Sequence

from blobnet.kernels import update
from blobnet.solvers.registry import register
from blobnet.solvers.solver import Solver


@register("AdaGrad")
class AdaGrad(Solver):
    """h = h + g^2; W = W - rate * g / (sqrt(h) + delta). (``delta``, default 1e-8; ``momentum`` must be 0.)

    Duchi et al. (2011), section 1.1.
    """

    kernel = update.adagrad

    def check(self) -> None:
        super().check()
        momentum = self.param.momentum
        self.require(momentum == 0, f"{self.type} works without momentum; got momentum {momentum:g}", "momentum")

    def constants(self) -> Sequence[float]:
        return [self.param.delta]
