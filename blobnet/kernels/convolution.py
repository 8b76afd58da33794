"""Convolution and its gradients over any number of spatial axes, grouped.

With x [N, C, input pixels], w [O, C / G, taps], y [N, O, output pixels] and every group on its own:

    forward           y[n, o, p] = b[o] + sum over c, t of w[o, c, t] x[n, c, pixel under tap t of p]
    backward data     the same sum read for dx: a convolution of dy for each phase of the input
    backward weights  dw[o, c, t] = sum over n, p of dy[n, o, p] x[n, c, pixel under tap t of p] + beta dw[o, c, t]

Each is one ``product`` of the arrays as they lie in memory: im2col is never made, ``patches`` tells where the
elements of its columns are. Where another way is faster it is taken: ``winograd``, ``strips``, ``unpacked``,
``shallow``, ``depthwise``, ``spread``. Where Winograd's way pays for each of some groups, they are convolutions of
their own, of copies of their channels. A deconvolution is the same three with the first two exchanged.

A sum takes in the zeros of the padding, as Caffe's does: an infinite weight over padding gives NaN. The
gradient of the input has no padding in Caffe, so there weights that are not finite take the reference path, unless
they are of one tap, which meets none.
"""

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np

from blobnet import config
from blobnet.kernels import (
    depthwise,
    parts,
    patches,
    product,
    reference,
    shallow,
    simd,
    spread,
    strips,
    unpacked,
    winograd,
)
from blobnet.kernels._jit import jit
from blobnet.kernels.finite import all_finite
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for, repeated, scratch
from blobnet.kernels.product import Layout
from blobnet.kernels.tiles import FRAMES_AT_ONCE, PIXELS_AT_ONCE
from blobnet.kernels.workspace import work_array

# Convolution by one pixel leaves pixels unpacked where a plane has so many vectors, of which the last is not full, and
# there are pixels enough for all threads, but at most so many channels: at 56 x 56, 64 filters of 256 channels take
# 4.0 ms packed and 5.7 unpacked, of 64 channels 1.3 and 1.05, 16 filters of 128 channels 2.5 and 1.4.
LEAST_VECTORS, LEAST_PIXELS, MOST_CHANNELS = 4, 512, 128

# Channels of each group, in and out, from which on groups are convolved one by one where that may be by Winograd's way.
# Batch 32, two threads, forward, data, weights: AlexNet's 256 filters of 5 x 5 in two groups take 77, 90, 75 ms at once
# and 30, 30, 45 one by one, its 384 of 3 x 3 32, 39, 33 and 22, 23, 27; 32 groups of 16 channels take longer.
LEAST_CHANNELS_OF_A_GROUP = 32

# Most output pixels of all images that are read in place by filters that are kept, which come from far away meanwhile:
# on one thread 2048 filters of 512 channels by one pixel take 1.05 instead of 1.4 ms over 7 x 7 pixels, 512 of 512 take
# 0.9 instead of 1.0 over 14 x 14.
FEW_PIXELS = 256


def forward(
    x: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    geometry: Geometry,
    group: int,
    bias: np.ndarray | None = None,
    clip: bool = False,
    addend: np.ndarray | None = None,
    kept: dict | None = None,
    first: int = 0,
) -> None:
    """y = w * x + bias + addend, or 0 where that is negative and ``clip`` is set.

    addend  [N, O, output pixels], not y
    kept    where w never changes: a dictionary, empty at first, in which w stays in the orders that kernels read
    first   where y has more channels, and nothing is added: the first of those that are written
    Depthwise convolution leaves out to add, and to write into more channels.
    """
    if config.reference_kernels():
        reference.forward(x, w, y, geometry, group, bias)
        return
    least = 0.0 if clip else -math.inf
    if group == x.shape[1] > 1:
        depthwise.forward(x, w, y, geometry, bias, least)
        return
    if _skips(geometry):
        forward(_taken(x, geometry), w, y, _dense(geometry), group, bias, clip, addend, kept, first)
        return
    least_tiles = winograd.LEAST_TILES if kept is None else winograd.LEAST_TILES_KEPT
    if addend is None and _pays_by_groups(geometry, x, w, group, least_tiles):
        for number, source in enumerate(_split(x, group, "channels")):
            filters = _part(len(w), group, number)
            own_bias = None if bias is None else bias[filters]
            own_kept = None if kept is None else kept.setdefault(number, {})
            forward(source, w[filters], y, geometry, 1, own_bias, clip, None, own_kept, first + filters.start)
        return
    shifts = np.zeros(len(w), y.dtype) if bias is None else bias
    if _by_one_pixel(geometry, x, group):
        filters = _ordered(kept, "unpacked", unpacked.panels, w[:, :, 0], kept is not None)
        unpacked.multiply(filters, x, y, shifts, least, addend, first)
        return
    if strips.pays(geometry, len(x), x.shape[1], len(w), group, x.dtype) and _ordered(kept, "finite", all_finite, w):
        filters = _ordered(kept, "strips", strips.transformed, w, kept is not None)
        if strips.correlate(x, filters, y, geometry, shifts, least, addend, first):
            return
    tiled = winograd.pays(geometry, len(x), x.shape[1], len(w), group, x.dtype, least_tiles)
    if tiled and _ordered(kept, "finite", all_finite, w):
        filters = None if kept is None else _ordered(kept, "transformed", winograd.transformed, w, True)
        if winograd.correlate(x, w, y, geometry, shifts, least, addend, first, filters=filters):
            return
    if shallow.pays(geometry, len(x), x.shape[1], len(w), group, x.dtype, shallow.FORWARD_LIMITS):
        filters = _ordered(kept, "unpacked", unpacked.panels, w.reshape(len(w), -1), kept is not None)
        shallow.forward(x, filters, y, geometry, shifts, least, addend, first)
        return
    frame, _, _, _, step = patches.patches(geometry)
    in_place = step > 1 or _pays_in_place(w, len(w) // group, w[0].size)
    in_place = in_place or (kept is not None and len(x) * y.shape[2] <= FEW_PIXELS)
    for part in _portions(x, frame, y.shape[2]):
        weights, columns, outputs = _layouts(geometry, len(y[part]), x.shape[1], len(w), group, y.shape[1], first)
        filters = w if kept is None else _ordered(kept, ("panels", in_place), product.panels, w, weights, in_place)
        source = patches.frames(x[part], frame)
        product.multiply(
            filters, weights, source, columns.transposed(), y[part], outputs,
            beta=addend is not None, addend=None if addend is None else addend[part],
            bias=bias, least=least, in_place=in_place, kept=kept is not None,
        )  # fmt: skip


def backward_weights(
    x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry, group: int, beta: int = 1
) -> None:
    """dw = the gradient of the weights + beta dw; beta 0 or 1, and with 0 the old dw is not read."""
    if config.reference_kernels():
        reference.backward_weights(x, dy, dw, geometry, group, beta)
        return
    if group == x.shape[1] > 1:
        if beta == 0:
            repeated(dw.fill, 0)
        depthwise.backward_weights(x, dy, dw, geometry)
        return
    if _pays_by_groups(geometry, x, dw, group, winograd.LEAST_TILES_OF_WEIGHTS):
        sources, gradients = _split(x, group, "channels"), _split(dy, group, "gradient channels")
        for number, (source, gradient) in enumerate(zip(sources, gradients, strict=True)):
            backward_weights(source, gradient, dw[_part(len(dw), group, number)], geometry, 1, beta)
        return
    tiled = winograd.pays(geometry, len(x), x.shape[1], len(dw), group, x.dtype, winograd.LEAST_TILES_OF_WEIGHTS)
    if tiled and winograd.backward_weights(x, dy, dw, geometry, accumulate=beta == 1):
        return
    if shallow.pays(geometry, len(x), x.shape[1], len(dw), group, x.dtype, shallow.BACKWARD_LIMITS):
        shallow.backward_weights(x, dy, dw, geometry, beta)
        return
    frame = patches.patches(geometry).frame
    in_place = product.pays_in_place(len(dw) // group, len(dy) * dy.shape[2], dw.dtype)
    for part in _portions(x, frame, dy.shape[2]):
        weights, columns, outputs = _layouts(geometry, len(dy[part]), x.shape[1], len(dw), group, len(dw), 0)
        source = patches.frames(x[part], frame)
        product.multiply(dy[part], outputs, source, columns, dw, weights, beta=beta, in_place=in_place)
        beta = 1


def backward_data(
    dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, group: int, bias: np.ndarray | None = None
) -> None:
    """dx = the gradient of the input (+ bias, where this is the forward pass of a deconvolution)."""
    if config.reference_kernels() or not (_meets_no_zeros(geometry) or all_finite(w)):
        reference.backward_data(dy, w, dx, geometry, group, bias)
        return
    if group == dx.shape[1] > 1:
        depthwise.backward_data(dy, w, dx, geometry, bias)
        return
    if _skips(geometry):
        taken, pixels = _room_for_taken(dx, geometry)
        backward_data(dy, w, taken, _dense(geometry), group, bias)
        others = np.zeros(dx.shape[1], dx.dtype) if bias is None else bias
        parallel_for(patches.spread_pixels, dx.shape[0] * dx.shape[1], taken, pixels, others, dx)
        return
    if _pays_by_groups(geometry, dx, w, group, winograd.LEAST_TILES):
        targets = _room_for_groups(dx, group, "channels")
        for number, (gradient, target) in enumerate(zip(_split(dy, group, "gradient channels"), targets, strict=True)):
            own_bias = None if bias is None else bias[_part(dx.shape[1], group, number)]
            backward_data(gradient, w[_part(len(w), group, number)], target, geometry, 1, own_bias)
        parts.join(list(targets), dx, axis=1)
        return
    if _by_one_pixel(geometry, dy, group):
        unpacked.multiply(unpacked.panels(w[:, :, 0], transposed=True), dy, dx, bias)
        return
    in_strips = strips.pays(geometry, len(dy), len(w), dx.shape[1], group, dy.dtype, backward=True)
    if in_strips and strips.backward_data(dy, w, dx, geometry, bias):
        return
    tiled = winograd.pays(geometry, len(dy), dx.shape[1], len(w), group, dy.dtype)
    if tiled and winograd.backward_data(dy, w, dx, geometry, bias):
        return
    if spread.pays(dy, geometry, group):
        spread.backward_data(dy, w, dx, geometry, group, bias)
        return
    frame, phases = patches.phases(geometry)
    in_place = _pays_in_place(w, w.shape[1], len(w) // group * w.shape[2])
    turned = [w if _lie_turned(geometry) else _turned(w, group, phase.taps) for phase in phases]
    if not all(len(phase.taps) for phase in phases):
        repeated(np.copyto, dx, 0 if bias is None else bias[:, None])
    for part in _portions(dy, frame, dy.shape[2]):
        source = patches.frames(dy[part], frame)
        layouts = _phase_layouts(geometry, len(source), dx.shape[1], len(w), group)
        for phase, filters, (weights, columns, inputs) in zip(phases, turned, layouts, strict=True):
            if len(phase.taps):
                product.multiply(
                    filters, weights, source, columns.transposed(), dx[part], inputs, bias=bias, in_place=in_place
                )


def _pays_by_groups(geometry: Geometry, x: np.ndarray, w: np.ndarray, group: int, least_tiles: tuple) -> bool:
    """Whether groups are better convolved one after the other by Winograd's way, on copies of their channels."""
    channels, filters = x.shape[1] // group, len(w) // group
    many = group > 1 and min(channels, filters) >= LEAST_CHANNELS_OF_A_GROUP
    return many and winograd.pays(geometry, len(x), channels, filters, 1, x.dtype, least_tiles)


def _part(channels: int, group: int, number: int) -> slice:
    """The channels of a group."""
    each = channels // group
    return slice(number * each, (number + 1) * each)


def _split(x: np.ndarray, group: int, use: str) -> np.ndarray:
    """Copies of the channels of each group [group, N, C / group, pixels]."""
    split = _room_for_groups(x, group, use)
    parts.split(x, [split.shape[2]] * group, list(split), axis=1)
    return split


def _room_for_groups(x: np.ndarray, group: int, use: str) -> np.ndarray:
    return work_array(use, (group, len(x), x.shape[1] // group, x.shape[2]), x.dtype)


def _pays_in_place(w: np.ndarray, rows: int, depth: int) -> bool:
    """Likewise of ``product``, but a pixel that meets one tap is packed at the cost of a copy."""
    return w.shape[2] > 1 and product.pays_in_place(rows, depth, w.dtype)


def _meets_no_zeros(geometry: Geometry) -> bool:
    """Whether backward data multiplies filters by gradients only, by no zeros around them."""
    return _lie_turned(geometry) and not any(geometry.pad)


def _lie_turned(geometry: Geometry) -> bool:
    """Whether backward data reads the filters where they lie: those of one tap. Others are turned first."""
    return math.prod(geometry.kernel) == 1


def _by_one_pixel(geometry: Geometry, x: np.ndarray, group: int) -> bool:
    """Whether pixels of few channels are multiplied by the filters as they are, and there are enough of them."""
    images, channels, pixels = x.shape
    dense = set(geometry.kernel) == {1} and not any(geometry.pad) and geometry.input == geometry.output
    large = pixels >= LEAST_VECTORS * simd.lanes(x.dtype) and images * pixels >= LEAST_PIXELS
    return dense and large and group == 1 and channels <= MOST_CHANNELS


@functools.lru_cache(maxsize=256)
def _skips(geometry: Geometry) -> bool:
    """Whether some pixels of the input meet no tap, because the kernel is one pixel."""
    return set(geometry.kernel) == {1} and not any(geometry.pad) and geometry.input != geometry.output


def _dense(geometry: Geometry) -> Geometry:
    """The convolution of those pixels that meet a tap."""
    ones = (1,) * len(geometry.kernel)
    return Geometry(geometry.output, ones, ones, geometry.pad, ones, geometry.output)


def _taken(x: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The pixels of x [N, C, pixels] that meet a tap, closed up."""
    taken, pixels = _room_for_taken(x, geometry)
    parallel_for(patches.take_pixels, x.shape[0] * x.shape[1], x, pixels, taken)
    return taken


def _room_for_taken(x: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """A work array for the pixels of x that meet a tap, and where in a plane these are."""
    pixels = patches.patches(geometry).pixels
    return work_array("pixels", (*x.shape[:2], len(pixels)), x.dtype), pixels


def _ordered(kept: dict | None, key: object, make: Callable, *args):
    """What ``make`` makes of its arguments; from ``kept``, where it has been made before."""
    if kept is None:
        return make(*args)
    if key not in kept:
        kept[key] = make(*args)
    return kept[key]


def backward_bias(dy: np.ndarray, db: np.ndarray, beta: int) -> None:
    """db[o] = sum over n, p of dy[n, o, p] + beta db[o]; beta 0 or 1, and with 0 the old db is not read."""
    parallel_for(sum_channels, len(db), dy, db, beta, scratch=scratch(len(db), float))


def clip_gradient(
    y: np.ndarray, y_first: int, dy: np.ndarray, dy_first: int, g: np.ndarray | None, db: np.ndarray, beta: int
) -> None:
    """g = dy, but 0 where y is clipped, and ``backward_bias`` of g; of the channels of y and dy from some on.

    g None: in place of dy, which has no others.
    """
    work = scratch(len(db), float)
    parallel_for(clip_and_sum_channels, len(db), y, y_first, dy, dy_first, g, db, beta, scratch=work)


def _portions(source: np.ndarray, frame: patches.Frame, pixels: int) -> Iterator[slice]:
    """The images in portions to be done at once: all of them, unless they must be copied into frames."""
    images = len(source)
    if not frame.identity:
        images = max(1, PIXELS_AT_ONCE // pixels, FRAMES_AT_ONCE // (source.shape[1] * frame.size))
    return (slice(first, first + images) for first in range(0, len(source), images))


@functools.lru_cache(maxsize=64)
def _layouts(
    geometry: Geometry, images: int, c: int, o: int, group: int, y_channels: int, first: int
) -> tuple[Layout, Layout, Layout]:
    """Per group: w [O / G, C / G x taps], patches [C / G x taps, N x P], y [O / G, N x P], some channels of it."""
    frame, taps, pixels, _, _ = patches.patches(geometry)
    size = len(pixels)
    return (
        product.matrix_layout(o // group, c // group * len(taps), batch=group),
        _planes(images, c, group, frame.size, taps, pixels),
        _planes(images, o, group, size, np.zeros(1, np.int64), first * size + np.arange(size), y_channels),
    )


@functools.lru_cache(maxsize=64)
def _phase_layouts(geometry: Geometry, images: int, c: int, o: int, group: int) -> list[tuple[Layout, Layout, Layout]]:
    """For each phase of the input: w [C / G, O / G x taps], patches of dy, dx [C / G, N x pixels]."""
    frame, phases = patches.phases(geometry)
    size = int(np.prod(geometry.input))
    layouts = []
    for phase in phases:
        if _lie_turned(geometry):
            weights = product.matrix_layout(o // group, c // group, transposed=True, batch=group)
        else:
            weights = product.matrix_layout(c // group, o // group * len(phase.taps), batch=group)
        columns = _planes(images, o, group, frame.size, phase.offsets, phase.sources)
        inputs = _planes(images, c, group, size, np.zeros(1, np.int64), phase.targets)
        layouts.append((weights, columns, inputs))
    return layouts


def _planes(
    images: int, channels: int, group: int, size: int, taps: np.ndarray, pixels: np.ndarray, of_channels: int = 0
) -> Layout:
    """[N, channels, size] seen per group as [channels / G x taps, N x pixels]; or so many of more channels."""
    starts = np.arange(group) * (channels // group * size)
    rows = np.add.outer(np.arange(channels // group) * size, taps).reshape(-1)
    columns = np.add.outer(np.arange(images) * ((of_channels or channels) * size), pixels).reshape(-1)
    return Layout(starts, rows, columns, True)


def _turned(w: np.ndarray, group: int, taps: np.ndarray) -> np.ndarray:
    """The filters as backward data reads them: w [O, C / G, taps] as [G, C / G, O / G, some taps]."""
    filters = w.reshape(group, len(w) // group, *w.shape[1:])
    turned = np.empty((group, w.shape[1], len(w) // group, len(taps)), w.dtype)
    parallel_for(turn_filters, turned.shape[1], filters, taps, turned, grain=16)
    return turned


@jit
def turn_filters(start, stop, w, taps, turned):
    """turned[g, c, o, t] = w[g, o, c, taps[t]] for the channels start to stop."""
    for g in range(turned.shape[0]):
        for c in range(start, stop):
            for o in range(turned.shape[2]):
                for t in range(turned.shape[3]):
                    turned[g, c, o, t] = w[g, o, c, taps[t]]


@jit
def clip_and_sum_channels(start, stop, y, y_first, dy, dy_first, g, db, beta, totals):
    """``clip_gradient`` for the channels start to stop, image by image, as they lie in memory."""
    nothing = dy.dtype.type(0)
    totals[start:stop] = 0
    for n in range(dy.shape[0]):
        for c in range(start, stop):
            values, source = y[n, y_first + c], dy[n, dy_first + c]
            target = source if g is None else g[n, c]
            for p in range(values.size):
                target[p] = nothing if values[p] <= 0 else source[p]
            total = nothing
            for p in range(values.size):
                total += target[p]
            totals[c] += total
    for c in range(start, stop):
        db[c] = totals[c] + (db[c] if beta else 0)


@jit
def sum_channels(start, stop, dy, db, beta, totals):
    """``backward_bias`` for the channels start to stop."""
    totals[start:stop] = 0
    for n in range(dy.shape[0]):
        for c in range(start, stop):
            values, total = dy[n, c], dy.dtype.type(0)
            for p in range(values.size):
                total += values[p]
            totals[c] += total
    for c in range(start, stop):
        db[c] = totals[c] + (db[c] if beta else 0)
