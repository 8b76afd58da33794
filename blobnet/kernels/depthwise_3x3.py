"""Depthwise convolution as nets use it: 3 x 3, one filter a channel, padding 1, stride 1 or 2.

Neighbouring pixels of a row are a vector. A strip of a plane, one vector wide, is gone down row by row, so that each
row is read once, though three rows of taps meet it: the three vectors that the taps of a row meet stay in registers
for the rows that follow. Where a vector reaches beyond the ends of a row, a mask reads zeros there, the padding.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.instructions import MOST_LANES, Emitter, constant, opened
from blobnet.kernels.parallel import parallel_for, repeated
from blobnet.kernels.rows import at, total
from blobnet.kernels.tiles import DEPTHWISE_BAND
from blobnet.kernels.workspace import work_array

TAPS = 3
# Pixels whose gradients are added in float32, before float64 takes them: those of several small images.
_PIXELS = 1 << 10

_TOTALS = TAPS * TAPS * MOST_LANES


def fits(geometry: Geometry, channels: int, filters: int) -> bool:
    """Whether the convolution is one of these."""
    stride = geometry.stride[:1]
    shape = (geometry.kernel, geometry.pad, geometry.dilation, geometry.stride)
    return channels == filters and stride in ((1,), (2,)) and shape == ((TAPS,) * 2, (1, 1), (1, 1), stride * 2)


def forward(
    x: np.ndarray, w: np.ndarray, y: np.ndarray, geometry: Geometry, bias: np.ndarray | None, least: float = -math.inf
) -> None:
    """y[n, c] = w[c] * x[n, c] + bias[c], or ``least`` where that is less."""
    _run(correlate, x, w, y, geometry, bias, y.dtype.type(least))


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """dx[n, c] = dy[n, c] spread by w[c]; at stride 1 a convolution with the filter turned round."""
    if geometry.stride[0] == 1:
        turned = work_array("filters", (len(w), TAPS * TAPS), w.dtype)
        repeated(np.copyto, turned, w.reshape(turned.shape)[:, ::-1])
        forward(dy, turned, dx, geometry, bias)
    else:
        _run(spread, dy, w, dx, geometry, bias)


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry) -> None:
    """dw[c] += dy[n, c] against each shift of x[n, c]."""
    parallel_for(add_gradients, len(dw), x, dy, _sizes(geometry), geometry.stride[0], dw.reshape(-1))


def _run(kernel: Callable, source, w, target, geometry: Geometry, bias, *others) -> None:
    images, channels = target.shape[:2]
    bias = np.zeros(channels, target.dtype) if bias is None else bias
    args = source, w.reshape(-1), bias, _sizes(geometry), geometry.stride[0], target, *others
    parallel_for(kernel, images * channels, *args, grain=8)


def _sizes(geometry: Geometry) -> tuple[int, ...]:
    return (*geometry.input, *geometry.output)


@jit
def correlate(start, stop, x, w, bias, sizes, stride, y, least):
    """y of the planes start to stop."""
    H, W, PH, PW = sizes
    channels, flat, y_flat = x.shape[1], x.reshape(-1), y.reshape(-1)
    band = _rows_at_once(W * stride, x.itemsize)
    for plane in range(start, stop):
        weights, shift = at(w, plane % channels * TAPS * TAPS), bias[plane % channels]
        source, target = at(flat, plane * H * W), at(y_flat, plane * PH * PW)
        for row in range(0, PH, band):
            last = min(row + band, PH) - 1
            if stride == 1:
                _correlate_rows(source, H, W, weights, shift, row, last, PW, target, least)
            else:
                _correlate_rows_by_2(source, H, W, weights, shift, row, last, PW, target, least)


@jit
def _rows_at_once(width, itemsize):
    return max(1, DEPTHWISE_BAND // (width * itemsize))


def _rows_correlated(stride: int):
    """The intrinsic for rows of the convolution."""

    @intrinsic
    def correlate_rows(typing, plane, height, width, weights, bias, first, last, count, y, least):
        """Rows first to last of y, of ``count`` pixels each."""

        def emit(context, builder, signature, arguments):
            emitter, plane, weights, y = opened(context, builder, signature, arguments, 0, 3, 8)
            _, height, width, _, bias, first, last, count, _, least = arguments
            factors, shift, least = _factors(emitter, weights), emitter.splat(bias), emitter.splat(least)
            for column, masked in _strips(emitter, count, width, stride):
                load = _met(emitter, plane, width, stride, column, count, masked)
                results = _Strip(emitter, y, count, [column], [count] if masked else None)
                for row, pixels in _down(emitter, load, height, first, last, stride):
                    result = shift
                    for factor, pixel in zip(factors, pixels, strict=True):
                        result = emitter.multiply_add(factor, pixel, result)
                    results.store(row, [emitter.at_least(least, result)])
            return context.get_dummy_value()

        index = types.intp
        return types.void(plane, index, index, weights, bias, index, index, index, y, least), emit

    return correlate_rows


_correlate_rows, _correlate_rows_by_2 = _rows_correlated(1), _rows_correlated(2)


@jit
def spread(start, stop, dy, w, bias, sizes, stride, dx):
    """dx of the planes start to stop, at stride 2."""
    H, W, PH, PW = sizes
    channels, flat, dx_flat = dy.shape[1], dy.reshape(-1), dx.reshape(-1)
    band = _rows_at_once(W * stride, dy.itemsize)
    for plane in range(start, stop):
        weights, shift = at(w, plane % channels * TAPS * TAPS), bias[plane % channels]
        source, target = at(flat, plane * PH * PW), at(dx_flat, plane * H * W)
        for row in range(0, PH, band):
            _spread_rows(source, PH, PW, weights, shift, row, min(row + band, PH) - 1, H, W, target)


@intrinsic
def _spread_rows(typing, plane, height, width, weights, bias, first, last, dx_height, dx_width, dx):
    """The pairs first to last of the rows of dx: a row of dy and the next one meet both.

    The even rows of dx meet the middle row of taps, the odd ones the others; columns likewise.
    """

    def emit(context, builder, signature, arguments):
        emitter, plane, weights, dx = opened(context, builder, signature, arguments, 0, 3, 9)
        _, height, width, _, bias, first, last, dx_height, dx_width, _ = arguments
        w, shift = _factors(emitter, weights), emitter.splat(bias)

        def sum_up(*products):
            result = shift
            for factor, pixels in products:
                result = emitter.multiply_add(w[factor], pixels, result)
            return result

        for column, masked in _strips(emitter, width, width):
            columns, double = [column, builder.add(column, constant(1))], builder.mul(column, constant(2))
            met = _Strip(emitter, plane, width, columns, [width] * 2 if masked else None)
            columns = [double, builder.add(double, constant(emitter.lanes))]
            results = _Strip(emitter, dx, dx_width, columns, [dx_width] * 2 if masked else None)
            for row, (this, right, under, corner) in _down(emitter, met.load, height, first, last, tall=2, above=0):
                even = [sum_up((4, this)), sum_up((3, right), (5, this))]
                odd = [sum_up((1, under), (7, this)), sum_up((0, corner), (2, under), (6, right), (8, this))]
                target = builder.mul(row, constant(2))
                results.store(target, emitter.transpose(even))
                target = builder.add(target, constant(1))
                with builder.if_then(builder.icmp_signed("<", target, dx_height)):
                    results.store(target, emitter.transpose(odd))
        return context.get_dummy_value()

    index = types.intp
    return types.void(plane, index, index, weights, bias, index, index, index, index, dx), emit


@jit
def add_gradients(start, stop, x, dy, sizes, stride, dw):
    """dw of the channels start to stop, some images at a time."""
    H, W, PH, PW = sizes
    images, channels, flat, dy_flat = x.shape[0], x.shape[1], x.reshape(-1), dy.reshape(-1)
    band, at_once = _rows_at_once(W * stride, x.itemsize), max(1, _PIXELS // (PH * PW))
    lanes = simd.VECTOR_BYTES // x.itemsize
    totals = stack.empty(_TOTALS, np.float64)[: TAPS * TAPS * lanes]
    for c in range(start, stop):
        totals[:] = 0
        for n in range(0, images, at_once):
            source, slopes = at(flat, (n * channels + c) * H * W), at(dy_flat, (n * channels + c) * PH * PW)
            count = min(at_once, images - n)
            for row in range(0, PH, band):
                last = min(row + band, PH) - 1
                if stride == 1:
                    _add_rows(source, H, W, slopes, PH, PW, row, last, channels, count, at(totals, 0))
                else:
                    _add_rows_by_2(source, H, W, slopes, PH, PW, row, last, channels, count, at(totals, 0))
        for t in range(TAPS * TAPS):
            dw[c * TAPS * TAPS + t] += total(totals, t * lanes, lanes)


def _rows_of_gradients(stride: int):
    """The intrinsic for what rows add to the gradients of the weights."""

    @intrinsic
    def add_rows(typing, planes, height, width, slopes, dy_height, count, first, last, step, images, totals):
        """totals [taps, lanes], float64, grow by the products of rows first to last of dy and what they meet.

        Of so many planes, each ``step`` planes after the one before.
        """

        def emit(context, builder, signature, arguments):
            emitter, planes, slopes, totals = opened(context, builder, signature, arguments, 0, 3, 10)
            _, height, width, _, dy_height, count, first, last, step, images, _ = arguments
            sums = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in range(TAPS * TAPS)]
            sizes = [builder.mul(step, builder.mul(*extents)) for extents in ((height, width), (dy_height, count))]
            with cgutils.for_range(builder, images) as image:
                plane, slopes = (
                    emitter.address(base, builder.mul(image.index, size))
                    for base, size in zip((planes, slopes), sizes, strict=True)
                )
                for column, masked in _strips(emitter, count, width, stride):
                    load = _met(emitter, plane, width, stride, column, count, masked)
                    gradients = _Strip(emitter, slopes, count, [column], [count] if masked else None)
                    for row, pixels in _down(emitter, load, height, first, last, stride):
                        (slope,) = gradients.load(row)
                        for spot, pixel in zip(sums, pixels, strict=True):
                            builder.store(emitter.multiply_add(slope, pixel, builder.load(spot)), spot)
            for number, spot in enumerate(sums):
                emitter.add_wide(builder.load(spot), totals, number)
            return context.get_dummy_value()

        index = types.intp
        return types.void(planes, index, index, slopes, *[index] * 6, totals), emit

    return add_rows


_add_rows, _add_rows_by_2 = _rows_of_gradients(1), _rows_of_gradients(2)


def _factors(emitter: Emitter, weights: ir.Value) -> list[ir.Value]:
    """The taps of a filter, each in all lanes."""
    places = [emitter.address(weights, constant(tap)) for tap in range(TAPS * TAPS)]
    return [emitter.splat(emitter.builder.load(place)) for place in places]


def _strips(emitter: Emitter, count: ir.Value, width: ir.Value, stride: int = 1) -> Iterator[tuple[ir.Value, bool]]:
    """The first column of each vector of a row of ``count``, and whether it needs masks.

    It does not where this vector is whole, and all it meets of a row of this width is, and none of the padding.
    """
    builder, lanes = emitter.builder, constant(emitter.lanes)
    with cgutils.for_range_slice(builder, constant(0), count, lanes) as (column, _):
        reached = builder.mul(builder.add(column, lanes), constant(stride))
        clear = builder.and_(builder.icmp_signed(">", column, constant(0)), builder.icmp_signed("<", reached, width))
        with builder.if_else(clear) as (inside, beside):
            with inside:
                yield column, False
            with beside:
                yield column, True


class _Strip:
    """Vectors of each row of a plane: those on its columns ``first`` to ``end``, the others of their lanes are 0.

    ends  None: all of them are on the plane
    """

    def __init__(self, emitter: Emitter, plane: ir.Value, width: ir.Value, columns: list, ends: list | None):
        self._emitter, self._plane, self._width, self._columns = emitter, plane, width, columns
        self._masks = None if ends is None else [self._mask(*pair) for pair in zip(columns, ends, strict=True)]

    def _mask(self, column: ir.Value, end: ir.Value) -> ir.Value:
        builder, first = self._emitter.builder, self._emitter.first
        return builder.and_(first(builder.sub(end, column)), builder.not_(first(builder.sub(constant(0), column))))

    def load(self, row: ir.Value) -> list[ir.Value]:
        places = self._places(row)
        self._fetch(places[0])
        if self._masks is None:
            return [self._emitter.load(self._plane, place) for place in places]
        pairs = zip(places, self._masks, strict=True)
        return [self._emitter.load_masked(self._plane, place, mask) for place, mask in pairs]

    def store(self, row: ir.Value, vectors: list[ir.Value]) -> None:
        for number, (vector, place) in enumerate(zip(vectors, self._places(row), strict=True)):
            self._fetch(place, to_write=True)
            if self._masks is None:
                self._emitter.store(vector, self._plane, place)
            else:
                self._emitter.store_masked(vector, self._plane, place, self._masks[number])

    def _places(self, row: ir.Value) -> list[ir.Value]:
        start = self._emitter.builder.mul(row, self._width)
        return [self._emitter.builder.add(start, column) for column in self._columns]

    def _fetch(self, place: ir.Value, to_write: bool = False) -> None:
        later = self._emitter.builder.add(place, constant(DEPTHWISE_BAND // self._emitter.itemsize))
        self._emitter.fetch(self._plane, later, cache=1, to_write=to_write)


def _met(
    emitter: Emitter,
    plane: ir.Value,
    width: ir.Value,
    stride: int,
    column: ir.Value,
    count: ir.Value,
    masked: bool,
) -> Callable[[ir.Value], list[ir.Value]]:
    """The function that loads what the three taps of a row meet, at a strip of a row of ``count`` results."""
    builder = emitter.builder
    first, left = (builder.mul(number, constant(stride)) for number in (column, builder.sub(count, column)))
    columns, ends = [], []
    for tap in range(0, TAPS, stride):
        start = builder.add(first, constant(tap - 1))
        end = builder.add(start, left)
        ends += [builder.select(builder.icmp_signed("<", end, width), end, width)] * stride
        columns += [builder.add(start, constant(part * emitter.lanes)) for part in range(stride)]
    strip = _Strip(emitter, plane, width, columns, ends if masked else None)
    if stride == 1:
        return strip.load

    def load(row: ir.Value) -> list[ir.Value]:
        (left, right), (middle, _) = emitter.halves(strip.load(row))
        return [left, middle, right]

    return load


def _down(
    emitter: Emitter,
    load: Callable[[ir.Value], list[ir.Value]],
    height: ir.Value,
    first: ir.Value,
    last: ir.Value,
    step: int = 1,
    tall: int = TAPS,
    above: int = 1,
) -> Iterator[tuple[ir.Value, list[ir.Value]]]:
    """The rows first to last of results, each with the vectors of the ``tall`` rows that it meets, one after the other.

    Row r meets those from r step - above on. The padding above and below the plane is zeros.
    """
    builder = emitter.builder

    def load_or_zeros(row: ir.Value) -> list[ir.Value]:
        inside = builder.icmp_unsigned("<", row, height)
        there = builder.select(inside, row, constant(0))
        return [builder.select(inside, vector, emitter.zero()) for vector in load(there)]

    def row_met(row: ir.Value, number: int) -> ir.Value:
        return builder.add(builder.mul(row, constant(step)), constant(number - above))

    def meet(row: ir.Value, load_last: Callable) -> tuple[ir.Value, list[ir.Value]]:
        rows = [[builder.load(slot) for slot in slots] for slots in kept]
        rows += [load(row_met(row, number)) for number in range(tall - step, tall - 1)]
        rows.append(load_last(row_met(row, tall - 1)))
        for slots, vectors in zip(kept, rows[step:], strict=True):
            for slot, vector in zip(slots, vectors, strict=True):
                builder.store(vector, slot)
        return row, sum(rows, [])

    kept = [
        [cgutils.alloca_once_value(builder, vector) for vector in load_or_zeros(row_met(first, number))]
        for number in range(tall - step)
    ]
    with cgutils.for_range(builder, last, start=first) as loop:
        yield meet(loop.index, load)
    yield meet(last, load_or_zeros)
