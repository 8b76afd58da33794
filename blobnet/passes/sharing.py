"""The plan of learnable blobs: equal parameter names mean one blob, with one learning rate and one decay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blobnet.errors import error_at
from blobnet.proto import blobnet_pb2 as pb


def param_spec(layer: pb.LayerParameter, index: int) -> pb.ParamSpec:
    """The ``param { }`` of a layer's learnable blob; the default one where the layer gives none."""
    return layer.param[index] if index < len(layer.param) else pb.ParamSpec()


class ParamUse(NamedTuple):
    """One learnable blob of one layer."""

    layer_index: int
    param_index: int
    layer: pb.LayerParameter
    shape: tuple[int, ...]

    @property
    def spec(self) -> pb.ParamSpec:
        return param_spec(self.layer, self.param_index)

    @property
    def field(self) -> str:
        return f"param[{self.param_index}]"


@dataclass
class Learnable:
    """A learnable blob: the layer that owns it, those that share it, and its multipliers (None: not stated)."""

    owner: ParamUse
    sharers: list[ParamUse]
    lr_mult: float | None
    decay_mult: float | None


def plan_sharing(uses: Sequence[ParamUse]) -> list[Learnable]:
    """The learnable blobs in order of their owners.

    Blobs whose specs carry the same name are shared: by the first, under ``share_mode`` STRICT (equal shapes, the
    default) or PERMISSIVE (equal counts) of the sharer. A multiplier may be stated by any of them, but only once
    or always alike.
    """
    learnables: list[Learnable] = []
    named: dict[str, Learnable] = {}
    for use in uses:
        spec = use.spec
        owner = named.get(spec.name)
        if owner is None:
            owner = Learnable(use, [], _stated(spec, "lr_mult"), _stated(spec, "decay_mult"))
            learnables.append(owner)
            if spec.name:
                named[spec.name] = owner
        else:
            _check_shape(use, owner.owner)
            owner.lr_mult = _agree(use, owner, "lr_mult")
            owner.decay_mult = _agree(use, owner, "decay_mult")
            owner.sharers.append(use)
    return learnables


def _stated(spec: pb.ParamSpec, multiplier: str) -> float | None:
    return getattr(spec, multiplier) if spec.HasField(multiplier) else None


def _check_shape(use: ParamUse, owner: ParamUse) -> None:
    if use.spec.share_mode == pb.ParamSpec.PERMISSIVE:
        fits, rule = math.prod(use.shape) == math.prod(owner.shape), "the same count (share_mode PERMISSIVE)"
    else:
        fits, rule = use.shape == owner.shape, "the same shape (share_mode STRICT)"
    if not fits:
        raise error_at(
            use.layer,
            f'param "{use.spec.name}" is shared with layer "{owner.layer.name}" and must have {rule}; '
            f"got {_extents(use.shape)}, there {_extents(owner.shape)}",
            use.field,
        )


def _agree(use: ParamUse, owner: Learnable, multiplier: str) -> float | None:
    mine, theirs = _stated(use.spec, multiplier), getattr(owner, multiplier)
    if mine is not None and theirs is not None and mine != theirs:
        raise error_at(
            use.layer,
            f'param "{use.spec.name}" is shared with layer "{owner.owner.layer.name}", so {multiplier} must be the '
            f"same or left out; got {mine:g}, there {theirs:g}",
            f"{use.field}.{multiplier}",
        )
    return mine if theirs is None else theirs


def _extents(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"
