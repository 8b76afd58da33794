"""Convolution of few channels, which reads pixels where they lie: packing them would take longer than multiplying.

Where neighbouring output pixels meet neighbours in memory, whole vectors of these are read from any place on. So a
*band* of an image, the rows that some rows of the output meet, is copied into a frame of zeros, its columns dealt out:
those with the same remainder by the stride lie side by side. With few channels that takes little time, and the frame
stays in the cache while all filters meet it.

    forward           a tile of filters times some vectors of pixels: the sum over the taps of their products
    backward weights  a tile of filters times some taps: products with each vector of pixels are added lane by lane, and
                      after a band the lanes
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import patches, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.instructions import constant, opened
from blobnet.kernels.parallel import parallel_for, repeated, scratch
from blobnet.kernels.patches import Axis
from blobnet.kernels.product import MOST_PARTS, even_part
from blobnet.kernels.tiles import FRAME_BYTES, FRAME_BYTES_BACKWARD, TILE_ROWS, TILE_VECTORS
from blobnet.kernels.tiles import SHALLOW_FILTERS as FILTERS
from blobnet.kernels.tiles import SHALLOW_TAPS as TAPS
from blobnet.kernels.workspace import work_array

# Most channels, and most products of a filter for one pixel, in all and wasted at the ends of rows, with which it pays:
# 32 filters of 8 x 3 x 3 at 56 x 56 take 3.6 ms instead of 5.1 forward but 4.3 instead of 4.1 backward, 64 of
# 3 x 5 x 5 at 14 x 14 (11 wasted) 1.06 instead of 1.27 and 1.48 instead of 1.11, at 10 x 10 (45 wasted) 0.84 instead of
# 0.72, 96 of 3 x 11 x 11 at stride 4 28 instead of 25 and 46 instead of 23.
FORWARD_LIMITS, BACKWARD_LIMITS = (16, 256, 30), (4, 150, 9)

# Products of a pass below which it would take many thousands of passes to make up for compiling the kernels: LeNet's
# first layer, with 1.8e7, gains 0.5 ms of 5 an iteration, and they take a second.
LEAST_PRODUCTS = 1 << 24


class Bands(NamedTuple):
    """How images are cut into bands, and where pixels lie in the frame of a band.

    count     bands of an image
    rows      of the output, along its first axis, in a band; the last one has what is left of ``all_rows``
    row_size  output pixels in a row
    starts    where in its plane each row of the frames of all bands begins, -1 for a row of padding
    advance   rows of the frame from one row of the output to the next
    height    rows of the frame, for each channel
    pitch     from one row to the next
    dealt     for each remainder of columns: its place in a row of the frame, and how many there are
    taps      what each channel and tap adds to the place of an output pixel
    whole     whole vectors of output pixels, row by row: place in the frame, place in the output
    ends      likewise those at the ends of rows, of ``left`` pixels each
    """

    count: int
    rows: int
    all_rows: int
    row_size: int
    starts: np.ndarray
    advance: int
    height: int
    pitch: int
    dealt: np.ndarray
    taps: np.ndarray
    whole: np.ndarray
    ends: np.ndarray
    left: int


def pays(
    geometry: Geometry, images: int, channels: int, filters: int, group: int, dtype: np.dtype, limits: tuple
) -> bool:
    """Whether a convolution is one of these, within the limits for its direction."""
    most_channels, most_products, most_wasted = limits
    if group > 1 or channels > most_channels or not geometry.kernel:
        return False
    products, width = channels * math.prod(geometry.kernel), geometry.output[-1]
    fits = products <= most_products and products * (-width % simd.lanes(dtype)) <= most_wasted * width
    return fits and images * filters * math.prod(geometry.output) * products >= LEAST_PRODUCTS


@functools.lru_cache(maxsize=64)
def bands_of(geometry: Geometry, channels: int, lanes: int, most: int, beside: int = 0) -> Bands:
    """Bands whose frames have at most so many elements, together with ``beside`` for each output pixel."""
    axes = patches.axes_of(geometry)
    axes = [Axis(1, 1, 1, 0, 1, 1)] * (2 - len(axes)) + axes
    *outer, last = axes
    width = last.output + last.reach
    extents = [(axis.output - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1 for axis in outer]
    extents.append(width * last.stride)
    steps, output_steps = patches.steps_of(extents), patches.steps_of([axis.output for axis in axes])
    frame = patches.frame_of([axis.input for axis in axes], [-axis.pad for axis in axes], extents)

    advance = channels * steps[0] * outer[0].stride
    overlap = channels * steps[0] * extents[0] - advance * outer[0].output
    row_size = output_steps[0]
    rows = even_part(outer[0].output, max(1, (most - overlap) // (advance + beside * row_size)), 1)
    plane = steps[0] * (extents[0] - (outer[0].output - rows) * outer[0].stride)

    columns = np.arange(last.stride)
    before, remainder = divmod(columns + last.pad, last.stride)
    there = np.clip(-((columns - last.input) // last.stride), 0, np.maximum(0, width - before))
    before_tap, tap_remainder = divmod(np.arange(last.kernel) * last.dilation, last.stride)
    taps = [np.arange(axis.kernel) * axis.dilation * step for axis, step in zip(outer, steps, strict=False)]
    taps = [np.arange(channels) * plane, *taps, tap_remainder * width + before_tap]

    firsts = np.arange(0, last.output, lanes)
    strides = [axis.stride * step for axis, step in zip(outer, steps, strict=False)]
    counts = [rows, *(axis.output for axis in outer[1:])]
    vectors = np.stack(
        [
            patches.sums_of([*(np.arange(count) * step for count, step in zip(counts, each, strict=False)), firsts])
            for each in (strides, output_steps)
        ],
        axis=-1,
    ).reshape(-1, len(firsts), 2)
    whole = last.output // lanes
    return Bands(
        count=-(-outer[0].output // rows),
        rows=rows,
        all_rows=outer[0].output,
        row_size=row_size,
        starts=frame.rows,
        advance=steps[0] // steps[-2] * outer[0].stride,
        height=plane // steps[-2],
        pitch=steps[-2],
        dealt=np.stack([remainder * width + before, there], axis=-1),
        taps=patches.sums_of(taps),
        whole=np.ascontiguousarray(vectors[:, :whole].reshape(-1, 2)),
        ends=np.ascontiguousarray(vectors[:, whole:].reshape(-1, 2)),
        left=last.output % lanes,
    )


def forward(
    x: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    geometry: Geometry,
    bias: np.ndarray | None,
    least: float,
    addend: np.ndarray | None,
    first: int = 0,
) -> None:
    """``convolution.forward`` with w in the ``panels`` of ``unpacked``, but ``least`` where a result is less.

    Where y has more channels, there is a bias.
    """
    bands = bands_of(geometry, x.shape[1], simd.lanes(x.dtype), FRAME_BYTES // x.itemsize)
    bias = np.zeros(y.shape[1], y.dtype) if bias is None else bias
    args = x, w, y, first, bands, bias, y.dtype.type(least), y if addend is None else addend, addend is not None
    parallel_for(correlate, len(x) * bands.count, *args, scratch=_frames(x, bands))


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry, beta: int) -> None:
    """``convolution.backward_weights``. Parts of the bands are summed apart, and then one after the other."""
    lanes = simd.lanes(x.dtype)
    bands = bands_of(geometry, x.shape[1], lanes, FRAME_BYTES_BACKWARD // x.itemsize, FILTERS)
    parts, depth = min(len(x) * bands.count, MOST_PARTS), len(bands.taps)
    tiles = -(-len(dw) // FILTERS), -(-depth // TAPS)
    sums = work_array("parts", (parts, *tiles, -(-FILTERS * TAPS // lanes) * lanes), dw.dtype)
    parallel_for(add_gradients, parts, x, dy, bands, sums, scratch=_frames(x, bands))
    repeated(_add_parts, sums, depth, dw, beta)


@np.errstate(all="ignore")
def _add_parts(sums: np.ndarray, depth: int, dw: np.ndarray, beta: int) -> None:
    """The gradient from the tiles of its parts [parts, rows of tiles, tiles of a row, elements]."""
    rows, columns = sums.shape[1:3]
    total = sums.sum(axis=0)[..., : FILTERS * TAPS].reshape(rows, columns, FILTERS, TAPS).swapaxes(1, 2)
    gradient = total.reshape(-1, columns * TAPS)[: len(dw), :depth].reshape(dw.shape)
    dw[...] = gradient + dw if beta else gradient


def _frames(x: np.ndarray, bands: Bands) -> np.ndarray:
    """A frame for each thread, with room for a vector that begins at its end."""
    return scratch(x.shape[1] * bands.height * bands.pitch + simd.lanes(x.dtype), x.dtype)


@jit
def correlate(start, stop, x, w, y, y_first, bands: Bands, bias, least, addend, accumulate, frame):
    """The output of the bands start to stop of all images."""
    filters, size = bias.size, y.shape[2]
    panels, target, known, depth = w.reshape(-1), y.reshape(-1), addend.reshape(-1), len(bands.taps)
    for item in range(start, stop):
        rows, first = copy_band(item, x, bands, frame), place(item, y, bands) + y_first * size
        for row in range(0, filters, TILE_ROWS):
            count, panel, spot = min(TILE_ROWS, filters - row), row * depth, first + row * size
            for vectors, pixels in ((bands.whole, simd.VECTOR_BYTES // y.itemsize), (bands.ends, bands.left)):
                stop_vector = len(vectors) // bands.rows * rows
                for vector in range(0, stop_vector, TILE_VECTORS):
                    _multiply_tile(
                        panels, panel, frame, bands.taps, depth, vectors, vector, stop_vector, pixels,
                        target, spot, size, count, bias, row, least, known, accumulate,
                    )  # fmt: skip


@jit
def add_gradients(start, stop, x, dy, bands: Bands, sums, frame):
    """sums[part] of tiles of the gradient, over a part of the bands of all images, for the parts start to stop."""
    filters, size = dy.shape[1:]
    slopes, depth, count = dy.reshape(-1), len(bands.taps), len(x) * bands.count
    for part in range(start, stop):
        totals = sums[part].reshape(-1)
        totals[:] = 0
        for item in range(count * part // len(sums), count * (part + 1) // len(sums)):
            rows, first, total = copy_band(item, x, bands, frame), place(item, dy, bands), 0
            wholes, ends = len(bands.whole) // bands.rows * rows, len(bands.ends) // bands.rows * rows
            for row in range(0, filters, FILTERS):
                last_row, spot = min(FILTERS, filters - row) - 1, first + row * size
                later = spot + FILTERS * size if row + FILTERS < filters else place(item + 1, dy, bands)
                for tap in range(0, depth, TAPS):
                    tile = tap // TAPS
                    _add_products(
                        frame, bands.taps, tap, depth - 1, slopes, spot, size, last_row, bands.whole, wholes,
                        bands.ends, ends, bands.left, later + tile * size if tile < FILTERS else spot, totals, total,
                    )  # fmt: skip
                    total += sums.shape[3]


@jit
def place(item, y, bands):
    """Where in y the first pixel of a band is."""
    n, band = divmod(item, bands.count)
    return n * y.shape[1] * y.shape[2] + band * bands.rows * bands.row_size


@jit
def copy_band(item, x, bands, frame):
    """Copy a band into the frame; returns how many rows of the output there are."""
    (_, channels, size), source, stride = x.shape, x.reshape(-1), len(bands.dealt)
    n, band = divmod(item, bands.count)
    rows = min(bands.rows, bands.all_rows - band * bands.rows)
    starts = bands.starts[band * bands.rows * bands.advance :][: bands.height - (bands.rows - rows) * bands.advance]
    frame[:] = 0
    for c in range(channels):
        i, j = c * bands.height * bands.pitch, (n * channels + c) * size
        if stride == 1:
            patches.copy_rows(frame, i, bands.pitch, source, j, starts, len(starts), bands.dealt)
        elif stride == 2:
            patches.deal_rows_by_2(frame, i, bands.pitch, source, j, starts, len(starts), bands.dealt)
        else:
            for row in range(len(starts)):
                for r in range(stride if starts[row] >= 0 else 0):
                    for q in range(bands.dealt[r, 1]):
                        frame[i + row * bands.pitch + bands.dealt[r, 0] + q] = source[j + starts[row] + r + q * stride]
    return rows


@intrinsic
def _multiply_tile(typing, w, i, frame, taps, depth, vectors, vector, stop, pixels, y,
                   j, step, rows, bias, row, least, addend, accumulate):  # fmt: skip
    """y[j + r step + spot_v + n] = sum over d of w[i + d TILE_ROWS + r] frame[place_v + taps[d] + n] + bias[row + r].

    For n below ``pixels``, r below ``rows`` and (place_v, spot_v) = vectors[vector + v], v below TILE_VECTORS; beyond
    ``rows`` and ``stop`` the last ones come again. The addend at the same place is added where it accumulates, and no
    result is below ``least``.
    """

    def emit(context, builder, signature, arguments):
        emitter, w, frame, taps, vectors, y, bias, addend = opened(
            context, builder, signature, arguments, 0, 2, 3, 5, 9, 13, 16
        )
        _, i, _, _, depth, _, vector, stop, pixels, _, j, step, rows, _, row, least, _, accumulate = arguments
        last_row, last_vector = builder.sub(rows, constant(1)), builder.sub(stop, constant(1))
        places, spots = [], []
        for v in range(TILE_VECTORS):
            number = builder.mul(_smaller(builder, builder.add(vector, constant(v)), last_vector), constant(2))
            places.append(builder.load(builder.gep(vectors, [number])))
            spots.append(builder.load(builder.gep(vectors, [builder.add(number, constant(1))])))
        sums, targets = [], []
        for r in range(TILE_ROWS):
            number = _smaller(builder, constant(r), last_row)
            shift = emitter.splat(builder.load(emitter.address(bias, builder.add(row, number))))
            first = builder.add(j, builder.mul(step, number))
            targets += [builder.add(first, spot) for spot in spots]
            sums += [cgutils.alloca_once_value(builder, shift) for _ in spots]
        for target in targets:
            emitter.fetch(y, target, cache=1, to_write=True)
        mask = emitter.first(pixels)
        with builder.if_then(accumulate):
            for total, target in zip(sums, targets, strict=True):
                builder.store(builder.fadd(builder.load(total), emitter.load_masked(addend, target, mask)), total)
        with cgutils.for_range(builder, depth) as loop:
            factors = builder.add(i, builder.mul(loop.index, constant(TILE_ROWS)))
            tap = builder.load(builder.gep(taps, [loop.index]))
            met = [emitter.load(frame, builder.add(place, tap)) for place in places]
            for r in range(TILE_ROWS):
                emitter.keep_order()
                factor = emitter.splat(builder.load(emitter.address(w, builder.add(factors, constant(r)))))
                for vector, total in zip(met, sums[r * TILE_VECTORS :], strict=False):
                    builder.store(emitter.multiply_add(factor, vector, builder.load(total)), total)
        least, results = emitter.splat(least), []
        for total in sums:
            result = builder.load(total)
            results.append(builder.select(builder.fcmp_ordered(">", least, result), least, result))
        with builder.if_else(builder.icmp_signed("==", pixels, constant(emitter.lanes))) as (whole, part):
            with whole:
                for result, target in zip(results, targets, strict=True):
                    emitter.store(result, y, target)
            with part:
                for result, target in zip(results, targets, strict=True):
                    emitter.store_masked(result, y, target, mask)
        return context.get_dummy_value()

    index = types.intp
    return types.void(
        w, index, frame, taps, index, vectors, index, index, index,
        y, index, index, index, bias, index, least, addend, types.boolean,
    ), emit  # fmt: skip


@intrinsic
def _add_products(
    typing, frame, taps, tap, last_tap, dy, j, step, last_row, whole, wholes, ends, end_count, left, later, totals, k
):
    """totals[k + r TAPS + t] += sum over v, n of dy[j + r step + spot_v + n] frame[place_v + taps[tap + t] + n].

    For the first ``wholes`` (place_v, spot_v) of ``whole`` and all n, for the first ``end_count`` of ``ends`` and n
    below ``left``; beyond the last row and tap these come again. dy[later + spot_v] is fetched.
    """

    def emit(context, builder, signature, arguments):
        emitter, frame, taps, dy, whole, ends, totals = opened(
            context, builder, signature, arguments, 0, 1, 4, 8, 10, 14
        )
        _, _, tap, last_tap, _, j, step, last_row, _, wholes, _, end_count, left, later, _, k = arguments
        taps_met = [_smaller(builder, builder.add(tap, constant(t)), last_tap) for t in range(TAPS)]
        starts = [builder.load(builder.gep(taps, [number])) for number in taps_met]
        rows = [_smaller(builder, constant(r), last_row) for r in range(FILTERS)]
        firsts = [builder.add(j, builder.mul(step, number)) for number in rows]
        sums = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in range(FILTERS * TAPS)]
        for total in sums:
            builder.store(emitter.zero(), total)
        mask = emitter.first(left)

        def load_left(base, position):
            return emitter.load_masked(base, position, mask)

        for vectors, count, load in ((whole, wholes, emitter.load), (ends, end_count, load_left)):
            with cgutils.for_range(builder, count) as loop:
                number = builder.mul(loop.index, constant(2))
                place = builder.load(builder.gep(vectors, [number]))
                spot = builder.load(builder.gep(vectors, [builder.add(number, constant(1))]))
                emitter.fetch(dy, builder.add(later, spot), cache=2)
                slopes = [load(dy, builder.add(first, spot)) for first in firsts]
                for t, start in enumerate(starts):
                    met = load(frame, builder.add(start, place))
                    for slope, total in zip(slopes, sums[t::TAPS], strict=True):
                        builder.store(emitter.multiply_add(slope, met, builder.load(total)), total)
        for number, vector in enumerate(emitter.lane_sums([builder.load(total) for total in sums])):
            spot = builder.add(k, constant(number * emitter.lanes))
            emitter.store(builder.fadd(emitter.load(totals, spot), vector), totals, spot)
        return context.get_dummy_value()

    index = types.intp
    return types.void(
        frame, taps, index, index, dy, index, index, index, whole, index, ends, index, index, index, totals, index
    ), emit


def _smaller(builder: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    return builder.select(builder.icmp_signed("<", one, other), one, other)
