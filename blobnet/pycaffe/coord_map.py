"""How coordinates of one top map to those of another, and the Crop layer that lines two tops up.

A layer maps position x of its bottom to position a x + b of its top, on the spatial axes from ``axis`` + 1 on;
maps are triples (axis, a, b), where axis None fits any.
"""

from typing import Any

import numpy as np

from blobnet.pycaffe.net_spec import Function, Top
from blobnet.pycaffe.net_spec import layers as L  # noqa: N812

CoordMap = tuple[int | None, Any, Any]

PASS_THROUGH_LAYERS = ["AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN"]
PASS_THROUGH_LAYERS += ["MVN", "Power", "PReLU", "ReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold"]

IDENTITY: CoordMap = (None, 1, 0)


class UndefinedMapException(Exception):
    """The layer keeps no relation between positions."""


class AxisMismatchException(Exception):
    """Two maps begin at different axes."""


def conv_params(fn: Function) -> tuple[int, Any, Any, Any]:
    """Axis, stride, extent of the dilated kernel and padding of a layer with a window."""
    own = "pooling_param" if fn.type_name == "Pooling" else "convolution_param"
    params = fn.params.get(own, fn.params)
    legacy = sorted({"kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w"} & set(params))
    if legacy:
        raise AssertionError(f"{fn.type_name}: give kernel_size, stride and pad for each axis instead of {legacy}")
    kernel, dilation, stride, pad = (
        np.array(params.get(name, default), ndmin=1)
        for name, default in (("kernel_size", 1), ("dilation", 1), ("stride", 1), ("pad", 0))
    )
    return params.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, Any]:
    """Axis and offset of a Crop layer."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> CoordMap:
    """The map from the bottom of a layer to its top."""
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    raise UndefinedMapException(f"{fn.type_name} keeps no relation between positions")


def compose(base_map: CoordMap, next_map: CoordMap) -> CoordMap:
    """``next_map`` first, then ``base_map``."""
    (base_axis, base_a, base_b), (next_axis, next_a, next_b) = base_map, next_map
    if None not in (base_axis, next_axis) and base_axis != next_axis:
        raise AxisMismatchException(f"the maps begin at axes {base_axis} and {next_axis}")
    return next_axis if base_axis is None else base_axis, base_a * next_a, base_a * next_b + base_b


def inverse(coord_map: CoordMap) -> CoordMap:
    axis, a, b = coord_map
    return axis, 1 / a, -b / a


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """The map from positions of ``top_from`` to those of ``top_to``, through a top that both are computed from."""
    from_maps, to_maps = _maps_of_ancestors(top_from), _maps_of_ancestors(top_to)
    for top, to_map in to_maps.items():
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise RuntimeError("the tops have no common origin that spatial layers connect them with")


def _maps_of_ancestors(top: Top) -> dict[Top, CoordMap]:
    """For the top and each one that it is computed from, the nearest first: the map to the top."""
    maps = {top: IDENTITY}
    waiting = [top]
    while waiting:
        current = waiting.pop(0)
        try:
            step = coord_map(current.fn)
        except UndefinedMapException:
            continue
        for bottom in current.fn.inputs[:1] if current.fn.type_name == "Crop" else current.fn.inputs:
            if bottom not in maps:
                maps[bottom] = compose(maps[current], step)
                waiting.append(bottom)
    return maps


def crop(top_from: Top, top_to: Top) -> Top:
    """The Crop layer that cuts ``top_from`` to the positions of ``top_to``."""
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    first = 2 if axis is None else axis + 1
    shift = np.atleast_1d(shift)
    if np.any(scale != 1):
        raise AssertionError(f"the tops have different scales, so that none can be cropped to the other: a = {scale}")
    if np.any(shift > 0):
        raise AssertionError(f"the top to crop begins inside the other, so that the offset is negative: b = {shift}")
    if np.any(np.round(shift) != shift):
        raise AssertionError(f"the offset is no whole number: b = {shift}")
    return L.Crop(top_from, top_to, crop_param={"axis": first, "offset": [int(-value) for value in shift]})
