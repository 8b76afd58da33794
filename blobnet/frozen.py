"""Groups of layers of a net that only predicts with weights that stay as they are; see ``Net.freeze``.

What the layers after a convolution do by channel is done to its weights, once. The results are those of the layers
run one by one, within rounding. There is no backward pass.
"""

import numpy as np

from blobnet.fused import GROUPS, Group
from blobnet.kernels import convolution
from blobnet.kernels.workspace import work_array
from blobnet.layers.convolution import Convolution


class FrozenConvolution(Group):
    """Convolution, then any of BatchNorm, Scale, Eltwise SUM with another blob z and ReLU, as one convolution.

    BatchNorm and Scale give s x + t by channel, so that w' = s w and b' = s b + t; a sum c z + d x has d in both.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._by_type = {layer.type: layer for layer in self.layers}
        self._clips = "ReLU" in self._by_type
        self._kept: dict = {}
        if self.is_suited():
            self._weights, self._bias = self._folded()
            self._addend, self._coefficient = self._added()
            self.steady = self._addend is None or self._coefficient == 1

    @property
    def convolution(self) -> Convolution:
        return self.layers[0]

    def is_suited(self) -> bool:
        """Whether statistics are those remembered, and channels and sums are where the kernels expect them."""
        by_type = self._by_type
        fixed = "BatchNorm" not in by_type or by_type["BatchNorm"].use_global_stats
        by_channel = len(self.layers) == 1 or self.convolution.channel_axis == 1
        return fixed and by_channel and not (self.convolution.depthwise and "Eltwise" in by_type)

    @property
    def joinable(self) -> bool:
        plain = not self.convolution.depthwise and self.convolution.channel_axis == 1
        return plain and self.is_suited() and self._addend is None

    def forward_as_one(self, backward_follows: bool) -> None:
        layer, (target, first) = self.convolution, self.target.place
        x, y = layer.planes(self.bottom[0].data), layer.planes(target.data)
        addend = self._scaled_addend()
        convolution.forward(
            x, self._weights, y, layer.geometry, layer.group, self._bias, self._clips, addend, self._kept, first
        )

    def _folded(self) -> tuple[np.ndarray, np.ndarray | None]:
        """w' and b'."""
        weights, bias = self.convolution.weights(), self.convolution.bias
        if not self._by_type.keys() & {"BatchNorm", "Scale", "Eltwise"}:
            return weights, bias
        rate, shift = np.ones(len(weights)), np.zeros(len(weights))
        if bias is not None:
            shift += bias
        if norm := self._by_type.get("BatchNorm"):
            mean, factor = norm.remembered()
            rate, shift = factor, (shift - mean) * factor
        if scale := self._by_type.get("Scale"):
            factor, offset = scale.factor_and_shift(self.bottoms[self.layers.index(scale)])
            rate, shift = rate * factor, shift * factor + offset
        if eltwise := self._by_type.get("Eltwise"):
            own = eltwise.coefficients[1 - self._other(eltwise)]
            rate, shift = rate * own, shift * own
        return (rate[:, None, None] * weights).astype(weights.dtype), shift.astype(weights.dtype)

    def _scaled_addend(self) -> np.ndarray | None:
        """c z as the planes of the top."""
        if self._addend is None:
            return None
        addend = self.convolution.planes(self._addend.data)
        if self._coefficient == 1:
            return addend
        return np.multiply(addend, self._coefficient, out=work_array("addend", addend.shape, addend.dtype))

    def _added(self):
        """The other blob of a sum and its coefficient; None and 0 where there is no sum."""
        eltwise = self._by_type.get("Eltwise")
        if eltwise is None:
            return None, 0
        other = self._other(eltwise)
        return self.bottoms[self.layers.index(eltwise)][other], eltwise.coefficients[other]

    def _other(self, eltwise) -> int:
        """Which bottom of the sum does not come from the convolution."""
        index = self.layers.index(eltwise)
        return int(self.bottoms[index][0] is self.tops[index - 1][0])


FROZEN_GROUPS: dict[str, type[Group]] = GROUPS | {"Convolution": FrozenConvolution}
