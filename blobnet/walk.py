"""Walk: the passes over the layers of a net, one by one, or as groups that run as one (``fused``)."""

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from blobnet import config
from blobnet.blob import Blob
from blobnet.frozen import FROZEN_GROUPS
from blobnet.fused import GROUPS, Fusion, Group
from blobnet.kernels.parallel import repeated, unrepeatable
from blobnet.layers.base import describe
from blobnet.passes import fusion
from blobnet.replay import Replay

if TYPE_CHECKING:
    from blobnet.net import Net


Step = tuple[range, Group | None]  # the indices of layers, and the group as which they run


class _Stretch(NamedTuple):
    """Steps of a pass that follow each other, all of them recorded or none."""

    steps: list[Step]
    replay: Replay | None


class WeightedTop:
    """A top with a loss weight: its diff holds the weight from the start, and again when its shape has changed."""

    def __init__(self, blob: Blob, weight: float):
        self.blob = blob
        self.weight = weight
        self.loss = 0.0
        self._fill()

    def _fill(self) -> None:
        self.blob.diff[...] = self.weight
        self._filled_shape = self.blob.shape

    def measure(self) -> None:
        """Its part of the ``loss`` is the sum of data times diff."""
        if self.blob.shape != self._filled_shape:
            self._fill()
        weighted = self.blob.data * self.blob.diff
        self.loss = float(weighted if self.blob.shape == () else weighted.sum())


class Walk:
    """Runs a net that is built. ``losses``: the weighted tops of each layer."""

    def __init__(self, net: "Net", losses: Sequence[Sequence[WeightedTop]]):
        # The net owns its walk: a cycle would keep both until garbage is collected.
        self._owner = weakref.ref(net)
        self._losses = losses
        self._blobs = [[*bottom, *top] for bottom, top in zip(net.bottoms, net.tops, strict=True)]
        self._seen_shapes = [_shapes(bottom) for bottom in net.bottoms]
        self._ready_shapes: list[list[tuple[int, ...]]] = [[] for _ in net.layers]
        self.fuse(lean=False)

    @property
    def _net(self) -> "Net":
        return cast("Net", self._owner())

    def fuse(self, lean: bool, frozen: bool = False) -> None:
        """Plan which neighbours run as one.

        lean    the blobs between them, and their diffs, need not be there
        frozen  there is no backward pass, and weights stay as they are
        """
        reference = config.reference_kernels()
        plan = [] if reference else fusion.plan_fusion(self._net.param.layer, lean, frozen)
        self._fusion = Fusion(self._net, plan, FROZEN_GROUPS if frozen else GROUPS, lean)
        self._records = lean and not reference
        self._stretches: dict[tuple[int, int, tuple | None], list[_Stretch]] = {}
        self._reshaped = False

    def hidden(self) -> set[str]:
        """The names of the blobs between layers that run as one."""
        return self._fusion.hidden

    def placed(self) -> set[str]:
        """The names of the blobs that have no data but in the tops of Concats."""
        return self._fusion.placed

    def overwritten(self) -> list[tuple[Blob, Blob]]:
        """Pairs of blobs: layers that run as one may write the second's diff over the first's."""
        return self._fusion.overwritten

    def joined(self) -> dict[int, list[Blob]]:
        """By the index of a Concat: the bottoms whose diffs their makers read in that of the top."""
        return {group.indices[0]: [maker.top for maker in group.makers.values()] for group in self._fusion.joined}

    def steps(self) -> list[range]:
        """The indices of the layers in the order that they run; neighbours that run as one are one step."""
        return [indices for indices, _ in self._fusion.steps(0, len(self._net.layers) - 1)]

    def forward(self, first: int, last: int) -> float:
        """Run layers first to last; returns the loss: the sum of that of their weighted tops."""
        self._run(self._forward_step, self._planned(first, last))
        return sum((top.loss for tops in self._losses[first : last + 1] for top in tops), 0.0)

    def backward(self, first: int, last: int) -> None:
        """Run the backward passes of layers first down to last, those that the plan needs."""
        self._run(self._backward_step, self._planned(first, last, backward=True))

    def _run(self, run: Callable, stretches: Sequence[_Stretch]) -> None:
        self._check_replays()
        for steps, replay in stretches:
            if replay is not None:
                replay.run(run, steps)
            else:
                for step in steps:
                    run(*step)

    def reshape(self, index: int) -> None:
        """Carry the shapes of a layer's bottoms through it."""
        layer, bottom, top = self._net.layers[index], self._net.bottoms[index], self._net.tops[index]
        layer.reshape(bottom, top)
        layer.charge_tops(bottom, top)
        self._seen_shapes[index] = _shapes(bottom)
        self._reshaped = True

    def _planned(self, first: int, last: int, backward: bool = False) -> list[_Stretch]:
        """The stretches of the pass from layer first to layer last."""
        place = first, last, self._wanted() if backward else None
        planned = self._stretches.get(place)
        if planned is None:
            steps = reversed(self._fusion.steps(last, first)) if backward else self._fusion.steps(first, last)
            runs = itertools.groupby(steps, lambda step: self._is_recorded(step, backward))
            stretches = [(recorded, list(steps)) for recorded, steps in runs]
            planned = [
                _Stretch(steps, self._replay(steps, backward) if recorded else None) for recorded, steps in stretches
            ]
            self._stretches[place] = planned
        return planned

    def _wanted(self) -> tuple:
        """Which gradients a backward pass makes."""
        net = self._net
        learned = (layer.param_propagate_down for layer in net.layers)
        return tuple(map(tuple, net.bottom_need_backward)), tuple(map(tuple, learned))

    def _is_recorded(self, step: Step, backward: bool) -> bool:
        """Whether a step runs regions only, the same ones while its blobs keep their memory."""
        indices, group = step
        first = self._net.layers[indices[0]]
        steady = first.is_own and first.steady if group is None else group.steady
        needed = not backward or self._net.layer_need_backward[indices[0]]
        return self._records and steady and needed

    def _replay(self, steps: Sequence[Step], backward: bool) -> Replay:
        blobs = dict.fromkeys(blob for step in steps for blob in self._seen_blobs(*step))
        return Replay([*blobs], [self._learned(indices) if backward else [] for indices, _ in steps])

    def _seen_blobs(self, indices: range, group: Group | None) -> list[Blob]:
        """The blobs of a step, but for those that a group does not make."""
        blobs = [*dict.fromkeys(blob for index in indices for blob in self._blobs[index]), *self._learned(indices)]
        if group is None:
            return [*blobs, *(blob for index in indices for blob in self._net.layers[index].inner_blobs)]
        return [*(blob for blob in blobs if blob not in group.hidden), group.source.blob, *group.spares]

    def _learned(self, indices: range) -> list[Blob]:
        """The learnable blobs of layers."""
        return [blob for index in indices for blob in self._net.layers[index].blobs]

    def _check_replays(self) -> None:
        """Before a pass: forget what layers ran before they were reshaped, and where hooks want to see each of them."""
        net = self._net
        hooks = net.before_forward, net.after_forward, net.before_backward, net.after_backward
        if self._reshaped or any(hooks):
            for _, replay in itertools.chain(*self._stretches.values()):
                if replay is not None:
                    replay.forget()
        self._reshaped = False

    def _forward_step(self, indices: range, group: Group | None) -> None:
        if group is None or not self._forward_group(group):
            for index in indices:
                self._forward_layer(index)

    def _forward_group(self, group: Group) -> bool:
        """Run layers as one, unless a hook wants to see each; returns whether they ran."""
        net = self._net
        if net.before_forward or net.after_forward:
            return False
        for index in group.shaped:
            self._make_ready(index)
        if not group.is_suited():
            return False
        group.forward(net.layer_need_backward[group.indices[-1]])
        return True

    def _forward_layer(self, index: int) -> None:
        net = self._net
        for hook in net.before_forward:
            hook(net, index)
        self._make_ready(index)
        self._tell_if_steady(index)
        net.layers[index].forward(net.bottoms[index], net.tops[index])
        if group := self._fusion.group(index):
            group.folded = False
        for top in self._losses[index]:
            repeated(top.measure)
        for hook in net.after_forward:
            hook(net, index)

    def _tell_if_steady(self, index: int) -> None:
        """A layer that is not steady may run where its group, which is, does not suit the shapes."""
        if not self._net.layers[index].steady:
            unrepeatable()

    def _make_ready(self, index: int) -> None:
        """Reshape a layer where its bottoms have changed; refuse empty blobs."""
        blobs = self._blobs[index]
        if _shapes(blobs) == self._ready_shapes[index]:
            return
        if _shapes(self._net.bottoms[index]) != self._seen_shapes[index]:
            self.reshape(index)
        for blob in blobs:
            if 0 in blob.shape:
                self._net.layers[index].fail(f"{describe(blob)} is empty; every extent must be 1 or more")
        self._ready_shapes[index] = _shapes(blobs)

    def _backward_step(self, indices: range, group: Group | None) -> None:
        if group is None or not self._backward_group(group):
            for index in reversed(indices):
                self._backward_layer(index)

    def _backward_group(self, group: Group) -> bool:
        """Run layers backward as one where every gradient is wanted, unless a hook wants to see each."""
        net = self._net
        if net.before_backward or net.after_backward or not group.is_suited():
            return False
        first, *others = group.indices
        wanted = net.bottom_need_backward[first]
        runs = group.differentiates(wanted) and net.layer_need_backward[first]
        runs = runs and all(net.layer_need_backward[index] and all(net.bottom_need_backward[index]) for index in others)
        if runs:
            group.backward(wanted)
        return runs

    def _backward_layer(self, index: int) -> None:
        net = self._net
        for hook in net.before_backward:
            hook(net, index)
        if net.layer_need_backward[index]:
            group = self._fusion.group(index)
            if group is not None and group.folded:
                group.unfold()
                group.folded = False
            self._tell_if_steady(index)
            net.layers[index].backward(net.tops[index], net.bottom_need_backward[index], net.bottoms[index])
        for hook in net.after_backward:
            hook(net, index)


def _shapes(blobs: Sequence[Blob]) -> list[tuple[int, ...]]:
    return [blob.shape for blob in blobs]
