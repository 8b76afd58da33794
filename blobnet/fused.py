"""Groups of neighbouring layers that run as one, found by ``passes.fusion`` and run by ``Net``.

A group computes what its layers would: forward to the same bits, backward within rounding, since its gradient takes
fewer steps. Its state is that of its layers, so that one pass may run as a group and the next one layer by layer.
In a net that is not lean, the blobs between the layers and all diffs hold what Caffe leaves in them; the result has
the same bits either way.

In a net that is lean, a group whose top is a bottom of Concat may read its gradient in Concat's top, and write its data
there (``Joined``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import activation, elements, eltwise
from blobnet.kernels.normalization import Line
from blobnet.kernels.parallel import repeated
from blobnet.layers.base import Layer
from blobnet.layers.convolution import Convolution
from blobnet.layers.eltwise import Scale
from blobnet.layers.normalization import BatchNorm
from blobnet.passes.fusion import Join, plan_joins

if TYPE_CHECKING:
    from blobnet.net import Net


class Channels(NamedTuple):
    """The channels of a blob that come after as many as some blobs have."""

    blob: Blob
    before: Sequence[Blob] = ()

    @property
    def place(self) -> tuple[Blob, int]:
        """The blob and the first channel."""
        return self.blob, self.first

    @property
    def first(self) -> int:
        return sum(blob.shape[1] for blob in self.before)

    def data(self, count: int) -> np.ndarray:
        """So many channels of the data."""
        return self.blob.data[:, self.first : self.first + count]


class Group:
    """Base of groups: the indices of layers in their net, the layers, and the bottoms and tops of each.

    lean      blobs between the layers, and all diffs but those of the bottoms, are nobody's concern
    may_swap  the first bottom may change its memory from pass to pass
    spares    blobs of its own
    target    where the data of the top are to be written, for groups that are ``joinable``
    source    where the gradient of the top is, likewise
    span      the layers that a pass must run if it runs the group
    shaped    those whose shapes must be known before
    folded    the last forward pass ran as one, and ``unfold`` was not called since
    steady    as of ``Layer``
    """

    steady: bool = False
    spares: Sequence[Blob] = ()

    def __init__(
        self,
        indices: range,
        layers: Sequence[Any],
        bottoms: Sequence[list[Blob]],
        tops: Sequence[list[Blob]],
        lean: bool,
        may_swap: bool,
    ):
        self.indices = indices
        self.layers, self.bottoms, self.tops = layers, bottoms, tops
        self.bottom, self.top = bottoms[0], tops[-1][0]
        self.lean = lean
        self.may_swap = may_swap
        self.target = self.source = Channels(self.top)
        self.span = self.shaped = indices
        self.folded = False

    def is_suited(self) -> bool:
        """Whether the blobs have shapes that the group can handle."""
        return True

    def differentiates(self, wanted: Sequence[bool]) -> bool:
        """Whether ``backward`` can make the gradients of the bottoms that are wanted, and no others."""
        return all(wanted)

    @property
    def joinable(self) -> bool:
        """Whether the top may be some channels of another blob."""
        return False

    @property
    def hidden(self) -> set[Blob]:
        """The blobs that nobody but the layers of the group reads."""
        return {top[0] for top in self.tops[:-1]} - {*self.bottom, self.top}

    @property
    def apart(self) -> bool:
        """Whether there are blobs between the layers, which in a net that is not lean need their values."""
        return self.tops[0][0] is not self.top or self.tops[-2][0] is not self.top

    @property
    def overwritten(self) -> list[tuple[Blob, Blob]]:
        """Pairs of a top and a bottom: where they share a diff, ``backward`` may write the bottom's over the top's."""
        return []

    def forward(self, backward_follows: bool) -> None:
        """``backward_follows``: leave what the backward pass needs."""
        self.folded = self.lean or not self.apart
        if self.folded:
            self.forward_as_one(backward_follows)
        else:
            _run_forward(self.layers, self.bottoms, self.tops)

    def forward_as_one(self, backward_follows: bool) -> None:
        """The last top, from the bottoms."""
        raise NotImplementedError

    def backward(self, propagate_down: Sequence[bool]) -> None:
        """The gradients of the bottoms, and those wanted of the learnable blobs."""
        raise NotImplementedError

    def unfold(self) -> None:
        """After ``forward``: leave what the layers need to run backward one by one."""
        raise NotImplementedError


class ClippedConvolution(Group):
    """Convolution, then ReLU: the sums are clipped as they are written, dy as it is summed for the bias."""

    steady = True

    @property
    def convolution(self) -> Convolution:
        return self.layers[0]

    @property
    def joinable(self) -> bool:
        return not self.convolution.depthwise and self.convolution.channel_axis == 1

    def differentiates(self, wanted: Sequence[bool]) -> bool:
        return True

    def forward_as_one(self, backward_follows: bool) -> None:
        self.convolution.convolve(self.bottom[0], self.target.blob, self.target.first, clip=True)

    def backward(self, propagate_down: Sequence[bool]) -> None:
        y = self.top if self.lean else self.tops[0][0]
        self.convolution.clip_gradient(y, *self.target.place, *self.source.place)
        self.convolution.differentiate(self.bottom[0], y, propagate_down[0])

    def unfold(self) -> None:
        """Where y is clipped, its sign is all that a ReLU needs."""
        if self.target.blob is not self.top:
            np.copyto(self.top.data, self.target.data(self.top.shape[1]))
        if self.apart:
            np.copyto(self.tops[0][0].data, self.top.data)


class NormalizedLine(Group):
    """BatchNorm, then Scale, ReLU or both: moments, and one pass that normalises, scales, shifts and clips.

    y = max(0, a xhat + b);  with g = dy where y > 0, else 0:  da = sum of g xhat,  db = sum of g,
    dx = a factor (g - mean of g - xhat (mean of g xhat)): one pass for the sums, one for dx.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._spare = Blob(dtype=self.norm.dtype)
        self.spares = [self._spare]
        self.steady = not self.norm.use_global_stats

    @property
    def norm(self) -> BatchNorm:
        return self.layers[0]

    @property
    def scale(self) -> Scale | None:
        return self.layers[1] if self.layers[1].type == "Scale" else None

    def is_suited(self) -> bool:
        """Not for tables [N, C]: a Scale layer rounds twice there."""
        return self.bottom[0].count_between(2) > 1

    def forward_as_one(self, backward_follows: bool) -> None:
        source = self._moved_input() if self.may_swap and backward_follows else self.bottom[0]
        self.norm.take_statistics(source, self.top, keep_input=backward_follows)
        self.norm.apply(self._line(), self.top)

    def _moved_input(self) -> Blob:
        """In place, the input for the backward pass: its memory changes hands, which costs nothing, unlike a copy."""
        if self.top is not self.bottom[0]:
            return self.bottom[0]
        self._spare.reshape_like(self.top)
        repeated(self._spare.swap_data, self.top, in_order=False)
        return self._spare

    def backward(self, propagate_down: Sequence[bool]) -> None:
        line = self._line()
        self._add_to_scale(*self.norm.differentiate(line, self.top, self.bottom[0]))
        if not self.lean:
            self._show_diffs(line)

    def _add_to_scale(self, db: np.ndarray, da: np.ndarray) -> None:
        if self.scale is not None:
            self.scale.add_gradients(da, db)

    def _show_diffs(self, line: Line) -> None:
        """Leave the diffs of the tops but the bottom: a g of the normalised x, g of what is clipped."""
        shown = list(self.bottom)
        for rate, [blob] in zip((line.scale, np.ones_like(line.scale)), self.tops[:-1], strict=False):
            if blob not in shown:
                self.norm.differentiate_fixed(line, rate, self.top, blob)
                shown.append(blob)

    def unfold(self) -> None:
        if self.tops[0][0] is self.bottom[0] is not self.top:
            self.norm.move_input()
        self.norm.apply(self.norm.line(), self.tops[0][0])
        _run_forward(self.layers[1:], self.bottoms[1:], self.tops[1:])

    def _line(self) -> Line:
        scale, shift = (None, None) if self.scale is None else self.scale.factor_and_shift(self.bottoms[1])
        return self.norm.line(scale, shift, clip=self.layers[-1].type == "ReLU")


class NormalizedSum(NormalizedLine):
    """The end of a residual block, in a lean net: BatchNorm, Scale, Eltwise SUM with another blob z, ReLU, Split.

    y = max(0, a xhat + b + z), of which no part is kept;  with g = dy1 + dy2 where y > 0, else 0:  dz = g, and the
    others as in ``NormalizedLine``.
    """

    @property
    def _y(self) -> Blob:
        return self.bottoms[-1][0]

    @property
    def _other(self) -> Blob:
        return next(blob for blob in self.bottoms[2] if blob is not self.tops[1][0])

    @property
    def overwritten(self) -> list[tuple[Blob, Blob]]:
        return list(zip(self.tops[-1], (self.bottom[0], self._other), strict=True))

    def forward_as_one(self, backward_follows: bool) -> None:
        self.norm.take_statistics(self.bottom[0], self._y)
        self.norm.join(self._line(), self._other, self._y)
        self.layers[-1].forward(self.bottoms[-1], self.tops[-1])

    def backward(self, propagate_down: Sequence[bool]) -> None:
        first, second = self.tops[-1]
        joined = self.norm.joined(self._y, second, self._other)
        self._add_to_scale(*self.norm.differentiate(self._line(), first, self.bottom[0], joined))


class ClippedSum(Group):
    """Eltwise SUM of two bottoms, then ReLU: y = max(0, c0 x0 + c1 x1), dxi = ci g, g = dy where y > 0, else 0."""

    steady = True

    def forward_as_one(self, backward_follows: bool) -> None:
        (x, z), y = (blob.data.reshape(-1) for blob in self.bottom), self.top.data.reshape(-1)
        a, b = self.layers[0].coefficients
        elements.run(eltwise.clipped_sum, y.size, x, a, z, b, y)

    def backward(self, propagate_down: Sequence[bool]) -> None:
        y, dy = self.top.data.reshape(-1), self.top.diff.reshape(-1)
        dx, dz = (blob.diff.reshape(-1) for blob in self.bottom)
        a, b = self.layers[0].coefficients
        if self.apart and not self.lean:
            elements.run(activation.relu_gradient, y.size, y, dy, self.tops[0][0].diff.reshape(-1))
        shown = not self.apart and not self.lean
        elements.run(eltwise.clipped_sum_gradient, y.size, y, a, b, dy, dx, dz, shown)

    def unfold(self) -> None:
        if self.apart:
            _run_forward(self.layers, self.bottoms, self.tops)


class Joined(Group):
    """Concat, in a lean net: groups that make bottoms read the gradients of these in its top, instead of copies.

    makers   these groups, by the position of the bottom
    written  they make all bottoms, and write them into the top, too
    """

    steady = True

    def __init__(self, *arguments, makers: Mapping[int, Group], span: range, written: bool):
        super().__init__(*arguments)
        self.makers, self.span, self.written = makers, span, written
        for position, group in makers.items():
            group.source, group.span = Channels(self.top, self.bottom[:position]), span
            if written:
                group.target, group.shaped = group.source, span

    def differentiates(self, wanted: Sequence[bool]) -> bool:
        return True

    def forward_as_one(self, backward_follows: bool) -> None:
        if not self.written:
            _run_forward(self.layers, self.bottoms, self.tops)

    def backward(self, propagate_down: Sequence[bool]) -> None:
        copied = [wanted and position not in self.makers for position, wanted in enumerate(propagate_down)]
        if any(copied):
            self.layers[0].backward(self.tops[0], copied, self.bottom)

    def unfold(self) -> None:
        """Concat keeps nothing."""


def _run_forward(layers: Sequence[Layer], bottoms: Sequence[list[Blob]], tops: Sequence[list[Blob]]) -> None:
    for layer, bottom, top in zip(layers, bottoms, tops, strict=True):
        layer.forward(bottom, top)


# By the type of their first layer; one that ends in a Split is a ``NormalizedSum``.
GROUPS: dict[str, type[Group]] = {
    "BatchNorm": NormalizedLine,
    "Convolution": ClippedConvolution,
    "Eltwise": ClippedSum,
}


def _remade(net: "Net") -> set[Blob]:
    """The blobs that every pass makes anew, in memory of their own."""
    makers: dict[Blob, int] = {}
    for index, top in enumerate(net.tops):
        for blob in top:
            makers.setdefault(blob, index)
    return {blob for blob, maker in makers.items() if net.bottoms[maker] and net.layers[maker].type != "Split"}


def _within(net: "Net", indices: range) -> tuple[range, list[Layer], list[list[Blob]], list[list[Blob]]]:
    """Indices, and the layers, bottoms and tops there."""
    within = slice(indices.start, indices.stop)
    return indices, net.layers[within], net.bottoms[within], net.tops[within]


class Fusion:
    """The groups among the layers of a net: of these layers (see ``passes.fusion``) and types.

    hidden       the names of the blobs that nobody but the layers of a group reads
    placed       those of the blobs that have no data but in the tops of Concats
    overwritten  as of ``Group``, of all groups
    joined       those that are Concats
    """

    def __init__(self, net: "Net", plan: Sequence[range], types: Mapping[str, type[Group]], lean: bool):
        self._groups: dict[int, Group] = {}  # by the index of each of their layers
        remade = _remade(net) if lean else set()
        for indices in plan:
            ends_in_split = net.layers[indices[-1]].type == "Split"
            kind = NormalizedSum if ends_in_split else types[net.layers[indices[0]].type]
            group = kind(*_within(net, indices), lean, net.bottoms[indices[0]][0] in remade)
            self._groups.update(dict.fromkeys(indices, group))
        self.joined = [*self._join(net, plan_joins(net.param.layer, plan))] if lean else []
        self._groups.update((group.indices[0], group) for group in self.joined)
        self.placed = {group.top.name for join in self.joined if join.written for group in join.makers.values()}
        self.hidden = {blob.name for group in self._groups.values() for blob in group.hidden}
        self.overwritten = [pair for group in dict.fromkeys(self._groups.values()) for pair in group.overwritten]
        self._steps: dict[tuple[int, int], list[tuple[range, Group | None]]] = {}

    def _join(self, net: "Net", joins: Sequence[Join]) -> Iterator[Joined]:
        """The Concats of bottoms whose gradients are read elsewhere than in them.

        What is written before a Concat runs must not find other channels there, nor another shape when that runs.
        """
        for concat, makers, lasts in joins:
            groups = {position: self._groups[maker[0]] for position, maker in enumerate(makers) if maker}
            joinable = {position: group for position, group in groups.items() if group.joinable}
            if joinable:
                span = range(min(group.indices[0] for group in joinable.values()), concat + 1)
                keeps_shapes = all(layer.is_own and layer.steady for layer in net.layers[span.start : span.stop])
                written = lasts and keeps_shapes and len(joinable) == len(makers)
                arguments = *_within(net, range(concat, concat + 1)), True, False
                yield Joined(*arguments, makers=joinable, span=span, written=written)

    def group(self, index: int) -> Group | None:
        """The group of a layer, if it is in one."""
        return self._groups.get(index)

    def steps(self, first: int, last: int) -> list[tuple[range, Group | None]]:
        """The layers first to last in steps: groups whose span lies between, and other layers one by one."""
        if (first, last) not in self._steps:
            self._steps[first, last] = [*self._cut(first, last)]
        return self._steps[first, last]

    def _cut(self, first: int, last: int) -> Iterator[tuple[range, Group | None]]:
        index = first
        while index <= last:
            indices, group = range(index, index + 1), self._groups.get(index)
            if group and group.indices[0] == index and first <= group.span[0] and group.span[-1] <= last:
                indices = group.indices
            else:
                group = None
            yield indices, group
            index = indices.stop
