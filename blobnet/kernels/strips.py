"""3 x 3 convolution of few channels at stride 1: minimal filtering down the columns only, on images as they lie.

F(4, 3) of Lavin and Gray 2016, section 4.1, in one direction: four rows of outputs come from six rows of inputs d and
the filter g as

    A^T [ (G g) * (B^T d) ]        rows of outputs from rows, where * is a convolution along a row by three taps

summed over the channels: half of the multiplications. ``winograd``, which is minimal in both directions, takes a
quarter, but turns images to vectors of channels and back; where channels are few, that takes longer than to multiply.

An item of work is a *strip*, four rows of outputs of an image. Its transformed rows stay in the first cache, in frames
of zeros. What is not finite would spread over a strip, so it is left to other ways.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import product, simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.finite import all_finite
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.instructions import constant, opened
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.winograd_transforms import LANES, STEP, matrices, padded
from blobnet.kernels.workspace import work_array

TAPS = 3
SIDE = STEP + TAPS - 1  # rows of a strip of inputs, and of its transform
FILTERS = product.MR  # that are multiplied at once

_AT, _G, _BT = matrices(TAPS)

# Where it pays: least and most channels of input and output, and the least part of whole vectors that rows of outputs
# fill. Over 32 x 32 pixels 16 filters of 16 channels take 3.2 ms instead of 4.4 by ``winograd``, over 56 x 56 (7 / 8
# full) as long either way; 64 filters of 16 channels take 5.9 instead of 4.3, 24 of 24 3.2 instead of 2.8.
LEAST_CHANNELS, MOST_CHANNELS, LEAST_FILL = 8, 16, 0.9

# Multiplications of a pass below which it would take many thousands of passes to make up for compiling the kernel.
LEAST_PRODUCTS = 1 << 24


class Strips(NamedTuple):
    """How images are cut into strips, and how the rows of a strip lie in memory.

    count   strips of an image
    pitch   from one row of inputs to the next; the first of its pixels is ``LANES`` from its start
    length  of a row of outputs, in whole vectors
    tiles   into which it is cut, of vectors as even as can be
    """

    count: int
    input: tuple[int, ...]
    output: tuple[int, ...]
    pad: tuple[int, ...]
    pitch: int
    length: int
    tiles: int


@functools.lru_cache(maxsize=256)
def pays(
    geometry: Geometry, images: int, channels: int, filters: int, group: int, dtype: np.dtype, backward: bool = False
) -> bool:
    """Whether this way applies and is the fastest one, to the convolution or backward to the gradient of its input.

    In float64 the direct sum keeps its precision.
    """
    applies = (
        geometry.kernel == (TAPS, TAPS)
        and geometry.stride == geometry.dilation == (1, 1)
        and max(geometry.pad) < TAPS
        and group == 1
        and dtype == np.float32
    )
    if not applies or min(channels, filters) < LEAST_CHANNELS or max(channels, filters) > MOST_CHANNELS:
        return False
    height, width = _strips(geometry, backward).output
    products = images * channels * filters * height * width * TAPS * TAPS
    return width >= LEAST_FILL * padded(width) and products >= LEAST_PRODUCTS


def transformed(w: np.ndarray, keep: bool = False, turned: bool = False) -> np.ndarray:
    """G g of the filters w [O, C, taps] as [SIDE, O / FILTERS, C, TAPS, FILTERS].

    keep    in memory of its own
    turned  O and C are exchanged, and the taps are in opposite order
    """
    o, c = w.shape[1::-1] if turned else w.shape[:2]
    shape = SIDE, -(-o // FILTERS), c, TAPS, FILTERS
    filters = np.empty(shape, w.dtype) if keep else work_array("filters", shape, w.dtype)
    parallel_for(transform_filters, c, w, np.array(_G, w.dtype), turned, o, filters, grain=8)
    return filters


def correlate(
    x: np.ndarray,
    filters: np.ndarray,
    y: np.ndarray,
    geometry: Geometry,
    bias: np.ndarray | None,
    least: float = -math.inf,
    addend: np.ndarray | None = None,
    y_first: int = 0,
    backward: bool = False,
) -> bool:
    """y = w * x + bias + addend, or ``least`` where that is less, for w ``transformed``.

    x [N, C, pixels], y [N, O, pixels], addend [N, O, pixels], not y
    y_first   as ``first`` of ``convolution.forward``, where there is a bias
    backward  x and y are the gradients of output and input of a convolution of this geometry
    False if not all of x is finite; then y holds nothing of use.
    """
    strips = _strips(geometry, backward)
    bias = np.zeros(y.shape[1], y.dtype) if bias is None else bias
    results = y, y_first, bias, y.dtype.type(least), y if addend is None else addend, addend is not None
    nothing = np.empty(len(x) * strips.count, x.dtype)
    work = scratch(SIDE * (x.shape[1] * strips.pitch + FILTERS * strips.length), x.dtype)
    parallel_for(correlate_strips, len(nothing), x, filters, *results, strips, nothing, scratch=work)
    return all_finite(nothing)


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> bool:
    """dx = the gradient of the input of ``correlate`` + bias. False if not all of dy is finite."""
    return correlate(dy, transformed(w, turned=True), dx, geometry, bias, backward=True)


@functools.lru_cache(maxsize=64)
def _strips(geometry: Geometry, backward: bool) -> Strips:
    input, _, _, pad, _, output = geometry.reversed() if backward else geometry
    pitch = padded(LANES + padded(max(input[1], output[1])) + TAPS - 1)
    tiles = -(-output[1] // (product.NV * LANES))
    return Strips(-(-output[0] // STEP), input, output, pad, pitch, padded(output[1]), tiles)


@jit
def correlate_strips(start, stop, x, filters, y, y_first, bias, least, addend, accumulate,
                     strips: Strips, nothing, work):  # fmt: skip
    """Strips start to stop of all images: transform rows, convolve them, transform back.

    The results of some filters are fetched before they are multiplied, and the next strip meanwhile, line by line.
    nothing [strip]  becomes the sum of 0 times each value of x: NaN if one of them is not finite
    """
    (_, c, size), (_, y_channels, output_size), o = x.shape, y.shape, bias.size
    (height, width), (output_height, output_width) = strips.input, strips.output
    step, m_step = c * strips.pitch, FILTERS * strips.length
    m = SIDE * step
    work[:m] = 0
    source, panels, target, known = x.reshape(-1), filters.reshape(-1), y.reshape(-1), addend.reshape(-1)
    starts = stack.empty(SIDE, np.int64)
    for item in range(start, stop):
        image, strip = divmod(item, strips.count)
        absent = stack.zeros(LANES, x.dtype)
        for channel in range(c):
            for r in range(SIDE):
                row = strip * STEP + r - strips.pad[0]
                inside = 0 <= row < height
                starts[r] = (image * c + channel) * size + row * width if inside else -1
            _transform_rows(source, starts, width, work, channel * strips.pitch + LANES, step, absent)
        nothing[item] = absent.sum()
        rows = min(STEP, output_height - strip * STEP)
        later = first_new_pixel(item + 1, x, strips)
        for first in range(0, o, FILTERS):
            some = min(FILTERS, o - first)
            place = (image * y_channels + y_first + first) * output_size + strip * STEP * output_width
            for r in range(some):
                simd.fetch_to_write(target, place + r * output_size, rows * output_width)
            for row in range(SIDE):
                panel = (row * filters.shape[1] + first // FILTERS) * c * TAPS * FILTERS
                inputs = row * step + LANES - strips.pad[1]
                convolve_row(panels, panel, work, inputs, strips, c, m + row * m_step, source, later, size)
                later += strips.tiles * LANES
            for r in range(some):
                _write_rows(
                    work, m + r * strips.length, m_step, target, place + r * output_size, output_width, rows,
                    bias[first + r], least, known, accumulate,
                )  # fmt: skip


@jit
def first_new_pixel(item, x, strips):
    """Where in the first channel of an image that pixel of a strip is which the strip above does not meet."""
    image, strip = divmod(item, strips.count)
    row = min(max(0, strip * STEP + SIDE - STEP - strips.pad[0]), strips.input[0]) if strip > 0 else 0
    return image * x.shape[1] * x.shape[2] + row * strips.input[1]


@jit
def convolve_row(panels, panel, work, place, strips, c, target, later, line, distance):
    """A row of outputs of some filters; each tile fetches a line of each channel of ``later``."""
    vectors = strips.length // LANES
    for tile in range(strips.tiles):
        count = -(-vectors // (strips.tiles - tile))
        multiply_tile(
            panels, panel, work, place, strips.pitch, c, target, strips.length, count,
            later, line + tile * LANES, distance,
        )  # fmt: skip
        place, target, vectors = place + count * LANES, target + count * LANES, vectors - count


@jit
def multiply_tile(panels, panel, work, place, pitch, c, target, length, vectors, later, line, distance):
    """``simd.tile_product`` for 1 to NV vectors."""
    if vectors == 3:
        _multiply_3(
            panels, panel, 1, FILTERS, work, place, pitch, c, work, target, length, False, later, line, distance
        )
    elif vectors == 2:
        _multiply_2(
            panels, panel, 1, FILTERS, work, place, pitch, c, work, target, length, False, later, line, distance
        )
    else:
        _multiply_1(
            panels, panel, 1, FILTERS, work, place, pitch, c, work, target, length, False, later, line, distance
        )


_multiply_1, _multiply_2, _multiply_3 = (
    simd.tile_product(vectors, fetches=True, taps=TAPS) for vectors in range(1, product.NV + 1)
)


@jit
def transform_filters(start, stop, w, g, turned, outputs, filters):
    """``transformed`` for the channels start to stop; beyond the outputs there are zeros."""
    flat = w.reshape(-1)
    channel_step, output_step = w.shape[2], w.shape[1] * w.shape[2]
    if turned:
        channel_step, output_step = output_step, channel_step
    for channel in range(start, stop):
        for output in range(filters.shape[1] * FILTERS):
            panel, r = divmod(output, FILTERS)
            for tap in range(TAPS):
                for row in range(SIDE):
                    total = w.dtype.type(0)
                    for k in range(TAPS if output < outputs else 0):
                        place = k * TAPS + tap
                        place = TAPS * TAPS - 1 - place if turned else place
                        total += g[row, k] * flat[channel * channel_step + output * output_step + place]
                    filters[row, panel, channel, tap, r] = total


@intrinsic
def _transform_rows(typing, x, starts, width, v, i, step, nothing):
    """v[i + r step + q] = row r of B^T d at column q, for the rows of d that begin at x[starts]; -1: a row of zeros.

    The last vector ends in zeros.
    nothing  [LANES] grows by 0 times each value of d
    """

    def emit(context, builder, signature, arguments):
        emitter, x, starts, v, nothing = opened(context, builder, signature, arguments, 0, 1, 3, 6)
        _, _, width, _, i, step, _ = arguments
        places = [builder.load(builder.gep(starts, [constant(r)])) for r in range(SIDE)]
        there = [builder.icmp_signed(">=", place, constant(0)) for place in places]
        with cgutils.for_range_slice(builder, constant(0), width, constant(emitter.lanes)) as (q, _):
            left = builder.sub(width, q)
            rows = [
                emitter.load_masked(x, builder.add(place, q), emitter.first(builder.select(inside, left, constant(0))))
                for place, inside in zip(places, there, strict=True)
            ]
            emitter.store(builder.fadd(emitter.load(nothing, 0), emitter.nothing_of(rows)), nothing, 0)
            spot = builder.add(i, q)
            for r, vector in enumerate(emitter.combine(_BT, rows)):
                emitter.store(vector, v, builder.add(spot, builder.mul(step, constant(r))))
        return context.get_dummy_value()

    index = types.intp
    return types.void(x, starts, index, v, index, index, nothing), emit


@intrinsic
def _write_rows(typing, m, i, step, y, j, width, rows, shift, least, addend, accumulate):
    """y[j + r width + q] = row r of A^T m at column q, + shift, for some rows r of those that begin at m[i + s step].

    The addend at the same place is added where it accumulates; no result is below ``least``.
    """

    def emit(context, builder, signature, arguments):
        emitter, m, y, addend = opened(context, builder, signature, arguments, 0, 3, 9)
        _, i, step, _, j, width, rows, shift, least, _, accumulate = arguments
        shift, least = emitter.splat(shift), emitter.splat(least)
        with cgutils.for_range_slice(builder, constant(0), width, constant(emitter.lanes)) as (q, _):
            left, spot = builder.sub(width, q), builder.add(i, q)
            mask = emitter.first(left)
            vectors = [emitter.load(m, builder.add(spot, builder.mul(step, constant(s)))) for s in range(SIDE)]
            for r, vector in enumerate(emitter.combine(_AT, vectors)):
                with builder.if_then(builder.icmp_signed("<", constant(r), rows)):
                    place = builder.add(builder.add(j, q), builder.mul(width, constant(r)))
                    value = builder.fadd(vector, emitter.add_where(accumulate, shift, addend, place, mask))
                    emitter.store_masked(emitter.at_least(least, value), y, place, mask)
        return context.get_dummy_value()

    index = types.intp
    return types.void(m, index, index, y, index, index, index, y.dtype, least, addend, types.boolean), emit
