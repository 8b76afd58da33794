"""The pass that keeps the layers meant for a state: phase, level and stages."""

from blobnet.errors import error_at
from blobnet.proto import blobnet_pb2 as pb


def filter_net(param: pb.NetParameter, state: pb.NetState) -> pb.NetParameter:
    """A copy of the net with only those layers whose include or exclude rules meet the state.

    A layer with ``include`` rules stays where one of them is met, a layer with ``exclude`` rules where none is,
    a layer with neither always; both together are an error.
    """
    kept = pb.NetParameter()
    kept.CopyFrom(param)
    del kept.layer[:]
    kept.layer.extend(layer for layer in param.layer if is_included(layer, state))
    kept.state.CopyFrom(state)
    return kept


def is_included(layer: pb.LayerParameter, state: pb.NetState) -> bool:
    if layer.include and layer.exclude:
        raise error_at(layer, "give either include rules or exclude rules, not both", "exclude")
    if layer.include:
        return any(is_met(rule, state) for rule in layer.include)
    return not any(is_met(rule, state) for rule in layer.exclude)


def is_met(rule: pb.NetStateRule, state: pb.NetState) -> bool:
    """Whether the state meets every condition that the rule states."""
    stages = set(state.stage)
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and stages.issuperset(rule.stage)
        and stages.isdisjoint(rule.not_stage)
    )
