"""Layers that give data another shape, or move it: Flatten, Reshape, Concat, Slice, Split, Tile, Crop."""

import math

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import eltwise, parts
from blobnet.kernels.parallel import repeated
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register


class Reshaping(Layer):
    """Base of layers whose top is the bottom in another shape.

    It is a copy: a layer that works in place on the top must not reach what others read.
    """

    def forward(self, bottom, top):
        np.copyto(top[0].data, bottom[0].data.reshape(top[0].shape))

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            np.copyto(bottom[0].diff, top[0].diff.reshape(bottom[0].shape))


@register("Flatten")
class Flatten(Reshaping):
    """The axes ``axis`` (default 1) to ``end_axis`` (default -1), both included, become one (flatten_param)."""

    def reshape(self, bottom, top):
        flatten, shape = self.param.flatten_param, bottom[0].shape
        first = self.axis(bottom[0], flatten.axis, "flatten_param.axis")
        last = self.axis(bottom[0], flatten.end_axis, "flatten_param.end_axis")
        self.require(
            first <= last,
            f"axis must not come after end_axis; got axis {flatten.axis}, end_axis {flatten.end_axis} "
            f"for {describe(bottom[0])}",
            "flatten_param.axis",
        )
        flat = bottom[0].count_between(first, last + 1)
        top[0].reshape(*shape[:first], flat, *shape[last + 1 :])


@register("Reshape")
class Reshape(Reshaping):
    """Axes of the bottom are replaced by those of ``shape`` (reshape_param); the count stays.

    shape     extents; 0 copies the bottom's extent at that place, one -1 takes what is left
    axis      first axis replaced (default 0); a negative one counts from behind the last: -1 appends
    num_axes  how many axes are replaced (default -1: all from ``axis`` on; 0 inserts)
    """

    def setup(self, bottom, top):
        dims = list(self.param.reshape_param.shape.dim)
        self.require(
            min(dims, default=0) >= -1, f"shape must have extents of -1 or more; got {dims}", "reshape_param.shape"
        )
        self.require(dims.count(-1) <= 1, f"shape may have one -1 at most; got {dims}", "reshape_param.shape")

    def reshape(self, bottom, top):
        start, stop = self._replaced_axes(bottom[0])
        shape = bottom[0].shape
        wanted = self.param.reshape_param.shape.dim
        dims = [self._extent(bottom[0], axis, dim) for axis, dim in enumerate(wanted, start)]
        result = [*shape[:start], *dims, *shape[stop:]]
        if -1 in dims:
            known = -math.prod(result)
            self.require(
                known > 0 and bottom[0].count % known == 0,
                f"the other extents of {_extents(result)} must divide the count of {describe(bottom[0])}",
                "reshape_param.shape",
            )
            result[start + dims.index(-1)] = bottom[0].count // known
        self.require(
            math.prod(result) == bottom[0].count,
            f"the top must have the count of the bottom; {_extents(result)} has {math.prod(result)}, "
            f"{describe(bottom[0])} has {bottom[0].count}",
            "reshape_param.shape",
        )
        top[0].reshape(*result)

    def _replaced_axes(self, blob: Blob) -> tuple[int, int]:
        param, axes = self.param.reshape_param, blob.num_axes
        start = param.axis if param.axis >= 0 else axes + 1 + param.axis
        self.require(
            0 <= start <= axes,
            f"axis must be between {-axes - 1} and {axes} for {describe(blob)}; got {param.axis}",
            "reshape_param.axis",
        )
        self.require(
            -1 <= param.num_axes <= axes - start,
            f"num_axes must be -1 or at most {axes - start}, the axes of {describe(blob)} from axis {start} on; "
            f"got {param.num_axes}",
            "reshape_param.num_axes",
        )
        return start, axes if param.num_axes == -1 else start + param.num_axes

    def _extent(self, blob: Blob, axis: int, dim: int) -> int:
        if dim != 0:
            return dim
        self.require(
            axis < blob.num_axes,
            f"an extent of 0 copies axis {axis} of the bottom; {describe(blob)} has {blob.num_axes} axes",
            "reshape_param.shape",
        )
        return blob.shape[axis]


@register("Split")
class Split(Layer):
    """Every top is the bottom: it reads the bottom's memory and has a diff of its own; dx = the sum of the dy."""

    tops = (1, None)
    steady = True

    def setup(self, bottom, top):
        for blob in top:
            blob.origin = bottom[0].origin

    def reshape(self, bottom, top):
        for blob in top:
            blob.reshape_like(bottom[0])
            blob.share_data(bottom[0])

    def forward(self, bottom, top):
        for blob in top:
            repeated(blob.share_data, bottom[0], in_order=False)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            diffs = [blob.diff.reshape(-1) for blob in top]
            eltwise.add_up(diffs, [self.dtype.type(1)] * len(diffs), bottom[0].diff.reshape(-1))


class AlongAxis(Layer):
    """Base of Concat and Slice: where the parts of a blob lie along one axis."""

    def parts_axis(self, blob: Blob, message: str, old_field: str) -> int:
        """``axis``, or the field of old files that names it (not both; the old one not negative)."""
        param = getattr(self.param, message)
        if not param.HasField(old_field):
            return self.axis(blob, param.axis, f"{message}.axis")
        self.require(
            not param.HasField("axis"),
            f"give axis or {old_field}, which means the same, not both",
            f"{message}.{old_field}",
        )
        return self.axis(blob, getattr(param, old_field), f"{message}.{old_field}")


@register("Concat")
class Concat(AlongAxis):
    """The bottoms joined along ``axis`` (concat_param, default 1); in all other axes they agree.

    Each bottom gets its part of dy. ``concat_dim`` is the axis in old files.
    """

    bottoms = (1, None)
    steady = True

    def reshape(self, bottom, top):
        self.joint_axis = axis = self.parts_axis(bottom[0], "concat_param", "concat_dim")
        before, after = bottom[0].shape[:axis], bottom[0].shape[axis + 1 :]
        for blob in bottom[1:]:
            self.require(
                (blob.shape[:axis], blob.shape[axis + 1 :]) == (before, after),
                f"bottoms must have one shape but for axis {axis}; got {describe(bottom[0])} and {describe(blob)}",
                "bottom",
            )
        top[0].reshape(*before, sum(blob.shape[axis] for blob in bottom), *after)

    def forward(self, bottom, top):
        parts.join([blob.data for blob in bottom], top[0].data, self.joint_axis)

    def backward(self, top, propagate_down, bottom):
        diffs = [blob.diff if wanted else None for blob, wanted in zip(bottom, propagate_down, strict=True)]
        parts.split(top[0].diff, [blob.shape[self.joint_axis] for blob in bottom], diffs, self.joint_axis)


@register("Slice")
class Slice(AlongAxis):
    """The tops are parts of the bottom along ``axis`` (slice_param, default 1); dx is the dy joined.

    ``slice_point`` says where each part but the first begins; left out, the parts are equal. ``slice_dim`` is the
    axis in old files.
    """

    tops = (1, None)

    def setup(self, bottom, top):
        points = list(self.param.slice_param.slice_point)
        self.require(
            len(points) in (0, len(top) - 1),
            f"slice_point must be left out or given {len(top) - 1} times, once less than there are tops; "
            f"got {len(points)}",
            "slice_param.slice_point",
        )

    def reshape(self, bottom, top):
        self.joint_axis = self.parts_axis(bottom[0], "slice_param", "slice_dim")
        shape = bottom[0].shape
        for blob, extent in zip(top, self._extents(bottom[0], len(top)), strict=True):
            blob.reshape(*shape[: self.joint_axis], extent, *shape[self.joint_axis + 1 :])

    def _extents(self, blob: Blob, parts: int) -> list[int]:
        whole = blob.shape[self.joint_axis]
        points = list(self.param.slice_param.slice_point)
        if not points:
            self.require(
                whole % parts == 0,
                f"axis {self.joint_axis} of {describe(blob)} does not divide into {parts} equal tops; give slice_point",
                "slice_param",
            )
            return [whole // parts] * parts
        extents = np.diff([0, *points, whole]).tolist()
        self.require(
            min(extents) > 0,
            f"slice_point must rise, from more than 0 to less than {whole}, axis {self.joint_axis} of "
            f"{describe(blob)}; got {points}",
            "slice_param.slice_point",
        )
        return extents

    def forward(self, bottom, top):
        extents = [blob.shape[self.joint_axis] for blob in top]
        parts.split(bottom[0].data, extents, [blob.data for blob in top], self.joint_axis)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            parts.join([blob.diff for blob in top], bottom[0].diff, self.joint_axis)


@register("Tile")
class Tile(Layer):
    """The bottom repeated ``tiles`` times (required) along ``axis`` (tile_param, default 1); dx = the sum of the dy."""

    def setup(self, bottom, top):
        tiles = self.param.tile_param.tiles
        self.require(tiles > 0, f"tiles must be given, and more than 0; got {tiles}", "tile_param.tiles")

    def reshape(self, bottom, top):
        tiles, shape = self.param.tile_param.tiles, list(bottom[0].shape)
        axis = self.axis(bottom[0], self.param.tile_param.axis, "tile_param.axis")
        shape[axis] *= tiles
        top[0].reshape(*shape)
        self._blocks = (bottom[0].count_between(0, axis), 1, bottom[0].count_between(axis))
        self._tiled = (self._blocks[0], tiles, self._blocks[2])

    def forward(self, bottom, top):
        top[0].data.reshape(self._tiled)[...] = bottom[0].data.reshape(self._blocks)

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            np.sum(top[0].diff.reshape(self._tiled), axis=1, keepdims=True, out=bottom[0].diff.reshape(self._blocks))


@register("Crop")
class Crop(Layer):
    """The part of the first bottom that has the second one's extents from ``axis`` on (crop_param, default 2).

    ``offset`` says where the part begins: once for all cropped axes (default 0), or once an axis. dx is dy there and 0
    elsewhere; the second bottom gives its shape only, so that its gradient is 0.
    """

    bottoms = (2, 2)

    def reshape(self, bottom, top):
        whole, like = bottom
        axis = self.axis(whole, self.param.crop_param.axis, "crop_param.axis")
        self.require(
            like.num_axes == whole.num_axes,
            f"bottoms must have equally many axes; got {describe(whole)} and {describe(like)}",
            "bottom",
        )
        offsets = self._offsets(whole.num_axes - axis)
        for offset, index in zip(offsets, range(axis, whole.num_axes), strict=True):
            self.require(
                offset + like.shape[index] <= whole.shape[index],
                f"the crop must lie inside {describe(whole)}; at axis {index} it begins at {offset} and "
                f"has the extent {like.shape[index]} of {describe(like)}",
                "crop_param",
            )
        shape = (*whole.shape[:axis], *like.shape[axis:])
        begins = [0] * axis + offsets
        self.part = tuple(slice(begin, begin + extent) for begin, extent in zip(begins, shape, strict=True))
        top[0].reshape(*shape)

    def _offsets(self, count: int) -> list[int]:
        offsets = list(self.param.crop_param.offset) or [0]
        self.require(
            len(offsets) in (1, count),
            f"offset must be given once, or once for each of the {count} cropped axes; got {len(offsets)}",
            "crop_param.offset",
        )
        return offsets if len(offsets) == count else offsets * count

    def forward(self, bottom, top):
        np.copyto(top[0].data, bottom[0].data[self.part])

    def backward(self, top, propagate_down, bottom):
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff[...] = 0
        if propagate_down[0]:
            bottom[0].diff[self.part] = top[0].diff


def _extents(shape) -> str:
    return " x ".join(map(str, shape)) or "scalar"
