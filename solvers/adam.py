"""Adam."""

import math
from collections.abc import Sequence

from blobnet.kernels import update
from blobnet.solvers.registry import register
from blobnet.solvers.solver import Solver


@register("Adam")
class Adam(Solver):
    """m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g^2; W = W - rate * c * m / (sqrt(v) + delta),
    with c = sqrt(1 - b2^t) / (1 - b1^t) at the t-th update.

    b1 is ``momentum`` (default 0), b2 ``momentum2`` (0.999), both in [0, 1); ``delta`` defaults to 1e-8.
    Kingma and Ba (2015), end of section 2.
    """

    kernel = update.adam
    history_count = 2

    def check(self) -> None:
        super().check()
        for field in ("momentum", "momentum2"):
            value = getattr(self.param, field)
            self.require(0 <= value < 1, f"{field} must be in [0, 1); got {value:g}", field)

    def step_size(self) -> float:
        count = self.iter + 1
        return self.lr * math.sqrt(1 - self.param.momentum2**count) / (1 - self.param.momentum**count)

    def constants(self) -> Sequence[float]:
        decay, decay2 = self.param.momentum, self.param.momentum2
        return [decay, 1 - decay, decay2, 1 - decay2, self.param.delta]
