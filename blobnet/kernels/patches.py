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

from blobnet.kernels import parallel
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
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
    parallel.parallel_for(fill_frames, len(pixels), pixels, frame, copies.reshape(len(pixels), -1))
    return copies


@jit
def fill_frames(start, stop, planes, frame: Frame, frames):
    """Copy the planes start to stop of planes [count, pixels] into frames [count, frame.size]."""
    for plane in range(start, stop):
        for r in range(len(frame.rows)):
            target = frames[plane, r * frame.extent : (r + 1) * frame.extent]
            if frame.rows[r] < 0:
                fill(target, 0, frame.extent)
                continue
            row = planes[plane, frame.rows[r] : frame.rows[r] + frame.row_length]
            first, last = inside(frame)
            fill(target, 0, first)
            copy(target[first:last], row[frame.first + first :])
            fill(target, last, frame.extent)


@jit
def inside(frame):
    """Where the row of the plane begins and ends in a row of the frame."""
    first = min(frame.extent, max(0, -frame.first))
    return first, max(first, min(frame.extent, frame.row_length - frame.first))


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
