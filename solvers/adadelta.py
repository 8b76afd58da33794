"""AdaDelta."""

from collections.abc import Sequence

from blobnet.kernels import update
from blobnet.solvers.registry import register
from blobnet.solvers.solver import Solver


@register("AdaDelta")
class AdaDelta(Solver):
    """Running means E of squared gradients and steps: E[g^2] = m * E[g^2] + (1 - m) * g^2;
    s = g * sqrt((E[s^2] + delta) / (E[g^2] + delta)); E[s^2] = m * E[s^2] + (1 - m) * s^2; W = W - rate * s.

    m is ``momentum`` (default 0; the paper's rho); ``delta`` defaults to 1e-8. Zeiler (2012), algorithm 1.
    """

    kernel = update.adadelta
    history_count = 2

    def constants(self) -> Sequence[float]:
        decay = self.param.momentum
        return [decay, 1 - decay, self.param.delta]
