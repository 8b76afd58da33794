"""Where the taps of a sliding kernel find their pixels: convolution as offsets for ``product``.

At output pixel o and tap k a convolution reads input pixel o stride + k dilation - pad. With the pixels of a
plane numbered in memory order, that is the sum of an offset of k and an offset of o, as ``product`` needs it,
once zeros stand around the plane: it is copied into a *frame* of them. Without padding it is its own frame.

The gradient of the input is a convolution of the output's gradient for each phase of the input, position mod
stride, with the taps that meet this phase.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import parallel, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.instructions import constant, opened
from blobnet.kernels.workspace import work_array


class Frame(NamedTuple):
    """How to copy a plane: frame row r, pixel q = plane[rows[r] + first + q], 0 where there is none.

    rows   the start of the plane's row, -1 for a row of padding
    first  the first position in each row, which may lie left of it
    """

    rows: np.ndarray
    first: int
    row_length: int  # of the plane
    extent: int  # pixels of a frame row
    identity: bool  # the plane is its own frame

    @property
    def size(self) -> int:
        return len(self.rows) * self.extent


class Patches(NamedTuple):
    """Offsets in a frame: tap t of output pixel p is at taps[t] + pixels[p].

    row   output pixels, from any multiple of it on, that are ``step`` apart in the frame
    """

    frame: Frame
    taps: np.ndarray
    pixels: np.ndarray
    row: int
    step: int


class Phase(NamedTuple):
    """The pixels of the input with one remainder of (position + pad) by the stride, and the taps that meet them.

    taps     their numbers
    offsets  of each such tap in the frame of the output's gradient
    sources  offset in that frame for each pixel of the phase
    targets  its place in the input plane
    row      pixels, from any multiple of it on, that are neighbours in the frame and ``step`` apart in the plane
    """

    taps: np.ndarray
    offsets: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    row: int
    step: int


@functools.lru_cache(maxsize=64)
def patches(geometry: Geometry) -> Patches:
    """The forward convolution, and the gradient of the weights, read these."""
    axes = axes_of(geometry)
    extents = [axis.input + 2 * axis.pad for axis in axes]
    steps = steps_of(extents)
    frame = frame_of([axis.input for axis in axes], [-axis.pad for axis in axes], extents)
    taps = [np.arange(axis.kernel) * axis.dilation * step for axis, step in zip(axes, steps, strict=True)]
    pixels = [np.arange(axis.output) * axis.stride * step for axis, step in zip(axes, steps, strict=True)]
    return Patches(frame, sums_of(taps), sums_of(pixels), axes[-1].output, axes[-1].stride)


@functools.lru_cache(maxsize=64)
def phases(geometry: Geometry) -> tuple[Frame, list[Phase]]:
    """The gradient of the input reads these: a frame for the output's gradient, and the phases of the input."""
    axes = axes_of(geometry)
    spans = [_axis_phases(axis) for axis in axes]
    lows = [min(first - axis.reach for first, _, _ in span) for axis, span in zip(axes, spans, strict=True)]
    highs = [max(first + count for first, count, _ in span) for span in spans]
    extents = [high - low for high, low in zip(highs, lows, strict=True)]
    frame = frame_of([axis.output for axis in axes], lows, extents)
    steps, input_steps = steps_of(extents), steps_of([axis.input for axis in axes])
    kernel_steps = steps_of([axis.kernel for axis in axes])
    found = []
    for chosen in itertools.product(*(range(len(span)) for span in spans)):
        taps, offsets, sources, targets = [], [], [], []
        for number, axis in enumerate(axes):
            first, count, phase = spans[number][chosen[number]]
            tap = np.flatnonzero(np.arange(axis.kernel) * axis.dilation % axis.stride == phase)
            pixel = np.arange(first, first + count)
            taps.append(tap * kernel_steps[number])
            offsets.append(-(tap * axis.dilation // axis.stride) * steps[number])
            sources.append((pixel - lows[number]) * steps[number])
            targets.append((pixel * axis.stride + phase - axis.pad) * input_steps[number])
        places = (sums_of(each) for each in (taps, offsets, sources, targets))
        found.append(Phase(*places, len(sources[-1]), axes[-1].stride))
    return frame, found


class Axis(NamedTuple):
    input: int
    kernel: int
    stride: int
    pad: int
    dilation: int
    output: int

    @property
    def reach(self) -> int:
        """Strides from the first tap to the last."""
        return (self.kernel - 1) * self.dilation // self.stride


def axes_of(geometry: Geometry) -> list[Axis]:
    """The axes one by one; no spatial axis counts as one of a single pixel."""
    return [Axis(*axis) for axis in zip(*geometry, strict=True)] or [Axis(1, 1, 1, 0, 1, 1)]


def _axis_phases(axis: Axis) -> list[tuple[int, int, int]]:
    """(first multiple of the stride, how many, phase) for each phase that has pixels in the input."""
    spans = []
    for phase in range(axis.stride):
        first = -((phase - axis.pad) // axis.stride)
        stop = -((phase - axis.pad - axis.input) // axis.stride)
        if stop > first:
            spans.append((first, stop - first, phase))
    return spans


def frame_of(sizes, firsts, extents) -> Frame:
    """A frame over planes of the given sizes, from the first position of each axis on."""
    rows = np.zeros(1, np.int64)
    for size, first, extent in zip(sizes[:-1], firsts, extents, strict=False):
        position = first + np.arange(extent)
        inside = (position >= 0) & (position < size) & (rows[:, None] >= 0)
        rows = np.where(inside, rows[:, None] * size + position, -1).reshape(-1)
    identity = not any(firsts) and list(sizes) == list(extents)
    return Frame(np.where(rows >= 0, rows * sizes[-1], -1), int(firsts[-1]), sizes[-1], int(extents[-1]), identity)


def steps_of(extents: list[int]) -> list[int]:
    """Elements from one position of each axis to the next, in an array of these extents."""
    return [int(np.prod(extents[axis + 1 :], dtype=np.int64)) for axis in range(len(extents))]


def sums_of(offsets: list[np.ndarray]) -> np.ndarray:
    """Every sum of one offset per axis, the last axis fastest."""
    return functools.reduce(lambda outer, inner: np.add.outer(outer, inner).reshape(-1), offsets)


def frames(planes: np.ndarray, frame: Frame) -> np.ndarray:
    """Every plane of [N, C, pixels] in its frame, [N, C, frame.size]: a copy unless the plane is its own."""
    if frame.identity:
        return planes
    copies = work_array("frames", (*planes.shape[:2], frame.size), planes.dtype)
    pixels = planes.reshape(-1, planes.shape[2])
    starts = parallel.scratch(len(frame.rows), np.int64)
    parallel.parallel_for(fill_frames, len(pixels), pixels, frame, copies.reshape(len(pixels), -1), scratch=starts)
    return copies


@jit
def fill_frames(start, stop, planes, frame: Frame, frames, starts):
    """Copy the planes start to stop of planes [count, pixels] into frames [count, frame.size].

    starts  takes where the row of the plane begins that goes to each row of the frame
    """
    first, last = inside(frame)
    dealt = stack.empty(2, np.int64)
    dealt[0], dealt[1] = first, last - first
    for row in range(len(frame.rows)):
        starts[row] = frame.rows[row] + frame.first + first if frame.rows[row] >= 0 else -1
    target, source = frames.reshape(-1), planes.reshape(-1)
    for plane in range(start, stop):
        frames[plane] = 0
        place, rows = plane * planes.shape[1], len(frame.rows)
        copy_rows(target, plane * frames.shape[1], frame.extent, source, place, starts, rows, dealt)


@jit
def inside(frame):
    """Where the row of the plane begins and ends in a row of the frame."""
    first = min(frame.extent, max(0, -frame.first))
    return first, max(first, min(frame.extent, frame.row_length - frame.first))


def _dealing(stride: int):
    """The intrinsic that copies rows of a plane, columns dealt out by their remainder by the stride, 1 or 2."""

    @intrinsic
    def deal_rows(typing, frame, i, pitch, source, j, starts, count, dealt):
        """frame[i + row pitch + p + q] = source[j + starts[row] + r + q stride] for q < n and (p, n) = dealt[r]."""

        def emit(context, builder, signature, arguments):
            emitter, frame, source, starts, dealt = opened(context, builder, signature, arguments, 0, 3, 5, 7)
            _, i, pitch, _, j, _, rows, _ = arguments
            table = [builder.load(builder.gep(dealt, [constant(number)])) for number in range(2 * stride)]
            places, counts = table[::2], table[1::2]
            shifts = [constant(number * emitter.lanes) for number in range(stride)]
            whole = builder.and_(counts[-1], constant(-emitter.lanes))  # the last remainder has the fewest
            left = [builder.sub(count, whole) for count in counts]
            ends = [emitter.first(count) for count in left]
            reached = functools.reduce(builder.add, left)
            masks = [emitter.first(builder.sub(reached, shift)) for shift in shifts]

            def deal(vectors, q, store):
                vectors = emitter.halves(vectors) if stride == 2 else [vectors]
                for remainder, (vector,) in enumerate(vectors):
                    store(vector, builder.add(q, places[remainder]), remainder)

            with cgutils.for_range(builder, rows) as row:
                start = builder.load(builder.gep(starts, [row.index]))
                with builder.if_then(builder.icmp_signed(">=", start, constant(0))):
                    plane_row = emitter.address(source, builder.add(j, start))
                    frame_row = emitter.address(frame, builder.add(i, builder.mul(row.index, pitch)))
                    with cgutils.for_range_slice(builder, constant(0), whole, constant(emitter.lanes)) as (q, _):
                        here = emitter.address(plane_row, builder.mul(q, constant(stride)))
                        deal(
                            [emitter.load(here, shift) for shift in shifts],
                            q,
                            lambda vector, spot, _: emitter.store(vector, frame_row, spot),
                        )
                    with builder.if_then(builder.icmp_signed(">", left[0], constant(0))):
                        here = emitter.address(plane_row, builder.mul(whole, constant(stride)))
                        deal(
                            [emitter.load_masked(here, shift, mask) for shift, mask in zip(shifts, masks, strict=True)],
                            whole,
                            lambda vector, spot, r: emitter.store_masked(vector, frame_row, spot, ends[r]),
                        )
            return context.get_dummy_value()

        index = types.intp
        return types.void(frame, index, index, source, index, starts, index, dealt), emit

    return deal_rows


copy_rows, deal_rows_by_2 = _dealing(1), _dealing(2)


@jit
def fill(target, first, last):
    """target[first:last] = 0, without the checks of an assignment to a slice; numbers from 0 on fill vectors."""
    part = target[first:last]
    for q in range(part.size):
        part[q] = 0


@jit
def copy(target, source):
    """target = the start of source, which may not overlap it."""
    for q in range(len(target)):
        target[q] = source[q]


@jit
def take_pixels(start, stop, x, pixels, taken):
    """taken[n, c, p] = x[n, c, pixels[p]] for the planes start to stop."""
    for plane in range(start, stop):
        n, c = divmod(plane, x.shape[1])
        for p in range(len(pixels)):
            taken[n, c, p] = x[n, c, pixels[p]]


@jit
def spread_pixels(start, stop, taken, pixels, others, x):
    """x[n, c, pixels[p]] = taken[n, c, p], and others[c] elsewhere, for the planes start to stop."""
    for plane in range(start, stop):
        n, c = divmod(plane, x.shape[1])
        for p in range(x.shape[2]):
            x[n, c, p] = others[c]
        for p in range(len(pixels)):
            x[n, c, pixels[p]] = taken[n, c, p]
