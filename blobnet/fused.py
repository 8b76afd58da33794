"""Groups of neighbouring layers that run as one, found by ``passes.fusion`` and run by ``Net``.

A group computes what its layers would: forward to the same bits, backward within rounding, since its gradient takes
fewer steps. Its state is that of its layers, so that one pass may run as a group and the next one layer by layer.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from blobnet import config
from blobnet.blob import Blob
from blobnet.kernels import elements, eltwise
from blobnet.kernels.normalization import Line
from blobnet.layers.base import Layer
from blobnet.layers.eltwise import Scale
from blobnet.layers.normalization import BatchNorm
from blobnet.passes import fusion

if TYPE_CHECKING:
    from blobnet.net import Net


class Group:
    """Base of groups: the indices of layers in their net, the layers, and the bottoms and tops of each.

    lean    blobs between the layers, and their diffs, need not hold what Caffe leaves in them
    folded  the last forward pass ran as one, and ``unfold`` was not called since
    """

    def __init__(
        self,
        indices: range,
        layers: Sequence[Any],
        bottoms: Sequence[list[Blob]],
        tops: Sequence[list[Blob]],
        lean: bool,
    ):
        self.indices = indices
        self.layers, self.bottoms, self.tops = layers, bottoms, tops
        self.bottom, self.top = bottoms[0], tops[-1][0]
        self.lean = lean
        self.folded = False

    def is_suited(self) -> bool:
        """Whether the blobs have shapes that the group can handle."""
        return True

    def forward(self, backward_follows: bool) -> None:
        """``backward_follows``: leave what the backward pass needs."""
        raise NotImplementedError

    def backward(self) -> None:
        """All gradients of the bottoms, and those wanted of the learnable blobs."""
        raise NotImplementedError

    def unfold(self) -> None:
        """After ``forward``: leave what the layers need to run backward one by one."""
        raise NotImplementedError


class NormalizedLine(Group):
    """BatchNorm, then Scale, ReLU or both: moments, and one pass that normalises, scales, shifts and clips.

    y = max(0, a xhat + b);  with g = dy where y > 0, else 0:  da = sum of g xhat,  db = sum of g,
    dx = a factor (g - mean of g - xhat (mean of g xhat)): one pass for the sums, one for dx.
    """

    @property
    def norm(self) -> BatchNorm:
        return self.layers[0]

    @property
    def scale(self) -> Scale | None:
        return self.layers[1] if self.layers[1].type == "Scale" else None

    def is_suited(self) -> bool:
        """Not for tables [N, C]: a Scale layer rounds twice there."""
        return self.bottom[0].count_between(2) > 1

    def forward(self, backward_follows: bool) -> None:
        self.norm.take_statistics(self.bottom[0], self.top, keep_input=backward_follows)
        self.norm.apply(self._line(), self.top)

    def backward(self) -> None:
        line = self._line()
        sums = self.norm.gradient_sums(line, self.top)
        self.norm.differentiate(line, sums, self.top, self.bottom[0])
        if self.scale is not None:
            self.scale.add_gradients(*reversed(sums))
        if not self.lean and self.top is not self.bottom[0]:
            self.norm.differentiate_fixed(line, line.scale, self.top, self.top)

    def unfold(self) -> None:
        if self.tops[0][0] is self.bottom[0] is not self.top:
            self.norm.move_input()
        self.norm.apply(self.norm.line(), self.tops[0][0])
        _run_forward(self.layers[1:], self.bottoms[1:], self.tops[1:])

    def _line(self) -> Line:
        scale, shift = (None, None) if self.scale is None else self.scale.factor_and_shift(self.bottoms[1])
        return self.norm.line(scale, shift, clip=self.layers[-1].type == "ReLU")


class ClippedSum(Group):
    """Eltwise SUM of two bottoms, then ReLU: y = max(0, c0 x0 + c1 x1), dxi = ci g, g = dy where y > 0, else 0."""

    def forward(self, backward_follows: bool) -> None:
        (x, z), y = (blob.data.reshape(-1) for blob in self.bottom), self.top.data.reshape(-1)
        a, b = self.layers[0].coefficients
        elements.run(eltwise.clipped_sum, y.size, x, a, z, b, y)

    def backward(self) -> None:
        y, dy = self.top.data.reshape(-1), self.top.diff.reshape(-1)
        dx, dz = (blob.diff.reshape(-1) for blob in self.bottom)
        a, b = self.layers[0].coefficients
        elements.run(eltwise.clipped_sum_gradient, y.size, y, a, b, dy, dx, dz, not self.lean)

    def unfold(self) -> None:
        if self.tops[0][0] is not self.top:
            _run_forward(self.layers, self.bottoms, self.tops)


def _run_forward(layers: Sequence[Layer], bottoms: Sequence[list[Blob]], tops: Sequence[list[Blob]]) -> None:
    for layer, bottom, top in zip(layers, bottoms, tops, strict=True):
        layer.forward(bottom, top)


_BY_FIRST_TYPE: dict[str, type[Group]] = {"BatchNorm": NormalizedLine, "Eltwise": ClippedSum}


class Fusion:
    """The groups among the layers of a net."""

    def __init__(self, net: "Net", lean: bool):
        self._groups: dict[int, Group] = {}  # by the index of each of their layers
        for indices in [] if config.reference_kernels() else fusion.plan_fusion(net.param.layer, lean):
            within = slice(indices.start, indices.stop)
            group_type = _BY_FIRST_TYPE[net.layers[indices[0]].type]
            group = group_type(indices, net.layers[within], net.bottoms[within], net.tops[within], lean)
            self._groups.update(dict.fromkeys(indices, group))

    def group(self, index: int) -> Group | None:
        """The group of a layer, if it is in one."""
        return self._groups.get(index)

    def steps(self, first: int, last: int) -> Iterator[tuple[range, Group | None]]:
        """The layers first to last in steps: groups that lie between, and other layers one by one."""
        while first <= last:
            indices, group = range(first, first + 1), self._groups.get(first)
            if group is not None and group.indices[0] == first and group.indices[-1] <= last:
                indices = group.indices
            else:
                group = None
            yield indices, group
            first = indices.stop
