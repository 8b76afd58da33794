"""The pass that keeps the layers meant for a state: phase, level and stages."""

import itertools

from blobnet.errors import error_at
from blobnet.passes.size import check_size
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def filter_net(param: pb.NetParameter, state: pb.NetState) -> pb.NetParameter:
    """A copy of the net with only those layers whose include or exclude rules meet the state.

    A layer with ``include`` rules stays where one of them is met, a layer with ``exclude`` rules where none is,
    a layer with neither always; both together are an error.
    """
    stages = frozenset(state.stage)
    included = [_is_included(layer, state, stages) for layer in param.layer]
    kept = pb.NetParameter()
    kept.CopyFrom(param)
    if not all(included):
        del kept.layer[:]
        kept.layer.extend(itertools.compress(param.layer, included))
    kept.state.CopyFrom(state)
    return kept


def connected_net(param: pb.NetParameter, state: pb.NetState) -> pb.NetParameter:
    """The filtered net. A bottom that only layers of other states make is an error, which says what those ask for.

    Nets of ``size`` beyond any real one are refused.
    """
    kept = filter_net(param, state)
    check_size(kept)
    if len(kept.layer) < len(param.layer):
        _check_makers(param, kept, state)
    return kept


def _check_makers(param: pb.NetParameter, kept: pb.NetParameter, state: pb.NetState) -> None:
    here = {top for layer in kept.layer for top in layer.top}
    elsewhere: dict[str, list[pb.LayerParameter]] = {}
    for layer in param.layer:
        for top in layer.top:
            if top not in here:
                elsewhere.setdefault(top, []).append(layer)
    for layer in kept.layer:
        for bottom in layer.bottom:
            if bottom in elsewhere:
                rules = dict.fromkeys(map(_described, elsewhere[bottom]))
                rule = f'bottom "{bottom}" is made by layers of other states alone; the net is built for'
                raise error_at(layer, f"{rule} {_named(state)}, the layers have {', '.join(rules)}", "bottom")


def _described(layer: pb.LayerParameter) -> str:
    kind = "include" if layer.include else "exclude"
    return " ".join(f"{kind} {{ {_named(rule)} }}" for rule in layer.include or layer.exclude)


def _named(message: pb.NetState | pb.NetStateRule) -> str:
    """The fields of a state or a rule in one line of prototxt."""
    return " ".join(text.dump(message).split())


def _is_included(layer: pb.LayerParameter, state: pb.NetState, stages: frozenset[str]) -> bool:
    include, exclude = layer.include, layer.exclude
    if include and exclude:
        raise error_at(layer, "give either include rules or exclude rules, not both", "exclude")
    if include:
        return any(_is_met(rule, state, stages) for rule in include)
    return not any(_is_met(rule, state, stages) for rule in exclude)


def _is_met(rule: pb.NetStateRule, state: pb.NetState, stages: frozenset[str]) -> bool:
    """Whether the state, with these stages, meets every condition that the rule states."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and stages.issuperset(rule.stage)
        and stages.isdisjoint(rule.not_stage)
    )
