"""RMSProp."""

from collections.abc import Sequence

from blobnet.kernels import update
from blobnet.solvers.adagrad import AdaGrad
from blobnet.solvers.registry import register


@register("RMSProp")
class RMSProp(AdaGrad):
    """h = d * h + (1 - d) * g^2; W = W - rate * g / (sqrt(h) + delta).

    d is ``rms_decay`` (default 0.99, in [0, 1)); ``delta`` defaults to 1e-8; ``momentum`` must be 0.
    Tieleman and Hinton (2012), lecture 6.5.
    """

    kernel = update.rmsprop

    def check(self) -> None:
        super().check()
        decay = self.param.rms_decay
        self.require(0 <= decay < 1, f"rms_decay must be in [0, 1); got {decay:g}", "rms_decay")

    def constants(self) -> Sequence[float]:
        decay = self.param.rms_decay
        return [decay, 1 - decay, self.param.delta]
