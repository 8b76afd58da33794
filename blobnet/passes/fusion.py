"""The plan of fusion: neighbouring layers that may run as one, and what Concat need not copy, from the text alone.

``blobnet.fused`` runs what is found here; ``Walk`` decides, run by run, whether a group or its layers run.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from blobnet.proto import blobnet_pb2 as pb

# Types of neighbours that run as one, the longest chain first where one begins as another.
CHAINS = (
    ("BatchNorm", "Scale", "ReLU"),
    ("BatchNorm", "Scale"),
    ("BatchNorm", "ReLU"),
    ("Convolution", "ReLU"),
    ("Eltwise", "ReLU"),
)

# Before these, in a net that is lean: what ends a residual block, where its sum is read by two.
RESIDUAL_END = ("BatchNorm", "Scale", "Eltwise", "ReLU", "Split")

# In a net that is frozen: a convolution takes in all that follows it and works by channel.
FROZEN_CHAINS = tuple(
    ("Convolution", *others)
    for length in reversed(range(5))
    for others in itertools.combinations(("BatchNorm", "Scale", "Eltwise", "ReLU"), length)
)


def plan_fusion(layers: Sequence[pb.LayerParameter], lean: bool = False, frozen: bool = False) -> list[range]:
    """The indices of the layers of each group, in order, for layers whose blobs are read once (see ``splits``)."""
    chains = (*FROZEN_CHAINS, *CHAINS) if frozen else (RESIDUAL_END, *CHAINS) if lean else CHAINS
    heads, longest = {chain[0] for chain in chains}, max(map(len, chains))
    groups = []
    first = 0
    while first < len(layers):
        length = 0
        if layers[first].type in heads:
            length = _chain_length(layers[first : first + longest], chains)
        if length:
            groups.append(range(first, first + length))
        first += max(1, length)
    return groups


class Join(NamedTuple):
    """A Concat of channels.

    concat  its index
    makers  the group that makes each of its bottoms for it; None: no group
    lasts   no layer changes its top in place
    """

    concat: int
    makers: list[range | None]
    lasts: bool


def plan_joins(layers: Sequence[pb.LayerParameter], groups: Sequence[range]) -> list[Join]:
    """The Concats that have bottoms from groups of ``plan_fusion``, of the same layers."""
    ends = {group[-1]: group for group in groups}
    newest: dict[str, int] = {}
    joins = []
    for index, layer in enumerate(layers):
        if layer.type == "Concat" and _joins_channels(layer):
            makers = [ends.get(newest[bottom]) for bottom in layer.bottom]
            if any(makers):
                changed = any(layer.top[0] in later.top for later in layers[index + 1 :])
                joins.append(Join(index, makers, not changed))
        newest.update(dict.fromkeys(layer.top, index))
    return joins


def _joins_channels(layer: pb.LayerParameter) -> bool:
    return layer.concat_param.axis == layer.concat_param.concat_dim == 1


def _chain_length(layers: Sequence[pb.LayerParameter], chains: Sequence[Sequence[str]]) -> int:
    """How many of the layers run as one, from the first on."""
    for chain in chains:
        members = layers[: len(chain)]
        if tuple(layer.type for layer in members) == chain and all(map(_is_plain, members)):
            pairs = zip(members, members[1:], strict=False)
            if all(layer.top[0] in reader.bottom for layer, reader in pairs) and (
                chain is not RESIDUAL_END or not members[2].eltwise_param.coeff
            ):
                return len(chain)
    return 0


def _is_plain(layer: pb.LayerParameter) -> bool:
    """Whether the layer is no loss, lets its whole gradient through, and has the settings that groups know."""
    passes_all = not any(layer.loss_weight) and not layer.propagate_down
    tops = 2 if layer.type == "Split" else 1
    return passes_all and len(layer.top) == tops and _KNOWN_SETTINGS[layer.type](layer)


def _has_channel_scale(layer: pb.LayerParameter) -> bool:
    return len(layer.bottom) == 1 and layer.scale_param.axis == 1 and layer.scale_param.num_axes == 1


def _is_sum_of_two(layer: pb.LayerParameter) -> bool:
    return len(layer.bottom) == 2 and layer.eltwise_param.operation == pb.EltwiseParameter.SUM


_KNOWN_SETTINGS: dict[str, Callable[[pb.LayerParameter], bool]] = {
    "Convolution": lambda layer: len(layer.bottom) == 1,
    "BatchNorm": lambda layer: len(layer.bottom) == 1,
    "Scale": _has_channel_scale,
    "ReLU": lambda layer: layer.relu_param.negative_slope == 0,
    "Eltwise": _is_sum_of_two,
    "Split": lambda layer: True,
}
