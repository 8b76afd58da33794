"""The plan of the backward pass: which layers run backward, and which of their bottoms need a gradient."""

from collections.abc import Sequence
from typing import NamedTuple


class LayerFacts(NamedTuple):
    """What the plan must know of a layer.

    propagate_down  what the prototxt says for each bottom; empty where it says nothing
    learns          whether a learnable blob has a nonzero learning rate
    is_loss         for each top, whether it has a loss weight
    can_backward    for each bottom, whether ``force_backward`` may ask for its gradient
    """

    bottoms: Sequence[str]
    tops: Sequence[str]
    propagate_down: Sequence[bool]
    learns: bool
    is_loss: Sequence[bool]
    can_backward: Sequence[bool]


class BackwardPlan(NamedTuple):
    layers: list[bool]
    bottoms: list[list[bool]]


def plan_backward(layers: Sequence[LayerFacts], force: bool = False) -> BackwardPlan:
    """A layer runs backward when something before it (or in it) learns and something after it is a loss.

    ``propagate_down: false`` cuts the way at a bottom. ``force`` (NetParameter.force_backward) runs every layer
    and asks for every gradient a layer can give.
    """
    plan = _reached_from_params(layers)
    _cut_where_no_loss_follows(layers, plan)
    if force:
        plan.layers[:] = [True] * len(layers)
        for layer, wanted in zip(layers, plan.bottoms, strict=True):
            wanted[:] = [want or can for want, can in zip(wanted, layer.can_backward, strict=True)]
    return plan


def _reached_from_params(layers: Sequence[LayerFacts]) -> BackwardPlan:
    needs_gradient: set[str] = set()
    plan = BackwardPlan([], [])
    for layer in layers:
        wanted = [bottom in needs_gradient for bottom in layer.bottoms]
        runs = layer.learns or any(wanted)
        if runs:
            needs_gradient.update(layer.tops)
        plan.layers.append(runs)
        plan.bottoms.append(list(layer.propagate_down) or wanted)
    return plan


def _cut_where_no_loss_follows(layers: Sequence[LayerFacts], plan: BackwardPlan) -> None:
    under_loss: set[str] = set()
    cut: set[str] = set()
    for index in range(len(layers) - 1, -1, -1):
        layer = layers[index]
        contributes = any(layer.is_loss) or not under_loss.isdisjoint(layer.tops)
        if plan.layers[index] and cut.issuperset(layer.tops):
            plan.layers[index] = False
            plan.bottoms[index] = [False] * len(layer.bottoms)
        plan.layers[index] &= contributes
        for position, bottom in enumerate(layer.bottoms):
            if contributes:
                under_loss.add(bottom)
            else:
                plan.bottoms[index][position] = False
            if not plan.bottoms[index][position]:
                cut.add(bottom)
