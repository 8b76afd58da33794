"""Depthwise convolution as nets use it: 3 x 3, one filter a channel, padding 1, stride 1 or 2.

A plane is copied into a frame, whose rows have one zero between them: the right border of one is the left border of
the next. Then neighbouring pixels of a row are a vector, and each tap of them all is another vector of the frame; at
stride 2, where taps meet every second pixel, once columns 0, 2, 4 ... of the frame and columns 1, 3, 5 ... have a frame
each. Vectors run over the ends of rows; what they leave there is overwritten by the row that follows. Of small planes
several are copied before the first is read, so that memory is read and written in longer pieces.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import simd
from blobnet.kernels._jit import inlined, jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.rows import at, total
from blobnet.kernels.simd import constant

TAPS = 3
# Bytes of frames that are filled, and then read, while they are in the nearest cache: one band of a large plane, or
# several small planes, whose reading and writing in turn takes two to three times as long at 7 x 7.
_BAND = 1 << 14


def fits(geometry: Geometry, channels: int, filters: int) -> bool:
    """Whether the convolution is one of these."""
    stride = geometry.stride[:1]
    shape = (geometry.kernel, geometry.pad, geometry.dilation, geometry.stride)
    return channels == filters and stride in ((1,), (2,)) and shape == ((TAPS,) * 2, (1, 1), (1, 1), stride * 2)


def forward(x: np.ndarray, w: np.ndarray, y: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """y[n, c] = w[c] * x[n, c] + bias[c]."""
    _run(correlate, x, w, y, geometry, bias)


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """dx[n, c] = dy[n, c] spread by w[c]; at stride 1 a convolution with the filter turned round."""
    if geometry.stride[0] == 1:
        _run(correlate, dy, np.ascontiguousarray(w.reshape(len(w), -1)[:, ::-1]), dx, geometry, bias)
    else:
        _run(spread, dy, w, dx, geometry, bias)


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry) -> None:
    """dw[c] += dy[n, c] against each shift of x[n, c]."""
    size, at_once = _frame_size(geometry, dw.dtype)
    sizes, frames = (*geometry.input, *geometry.output), scratch(size * at_once, dw.dtype)
    stride = geometry.stride[0]
    parallel_for(add_gradients, len(dw), x, dy, sizes, stride, size, at_once, dw.reshape(-1), scratch=frames)


def _run(kernel, source, w, target, geometry: Geometry, bias) -> None:
    images, channels = target.shape[:2]
    bias = np.zeros(channels, target.dtype) if bias is None else bias
    size, at_once = _frame_size(geometry, target.dtype)
    sizes, frames = (*geometry.input, *geometry.output), scratch(size * at_once, target.dtype)
    args = source, w.reshape(-1), bias, sizes, geometry.stride[0], size, at_once, target
    parallel_for(kernel, images * channels, *args, grain=8, scratch=frames)


def _frame_size(geometry: Geometry, dtype) -> tuple[int, int]:
    """The size of one frame or both, with room for vectors that run over the end, and how many planes go at once."""
    H, W = geometry.input
    size = (H + 2) * (W + 3) + 6 * simd.lanes(dtype)
    return size, max(1, _BAND // (size * dtype.itemsize))


@jit
def _distance(H, pitch, lanes):
    """From the frame of the even columns to that of the odd ones."""
    return (H + 2) * pitch + 2 * lanes


@jit
def correlate(start, stop, x, w, bias, sizes, stride, size, at_once, y, frames):
    """y of the planes start to stop."""
    H, W, PH, PW = sizes
    channels, end, flat, y_flat = x.shape[1], stop * PH * PW, x.reshape(-1), y.reshape(-1)
    pitch = W + 1 if stride == 1 else PW + 1
    odd, band = _distance(H, pitch, simd.VECTOR_BYTES // x.itemsize), _rows_at_once(W * stride, x.itemsize)
    frames[:] = 0
    for first in range(start, stop, at_once):
        last, filled = min(first + at_once, stop), 0
        for row in range(0, PH, band):
            rows = min(band, PH - row)
            reached = _rows_met(row + rows, H, stride)
            for plane in range(first, last):
                place = (plane - first) * size
                _frame_rows(flat, plane * H * W, filled, reached, W, stride, frames, place, pitch, odd)
            filled = reached
            for plane in range(first, last):
                weights, shift = at(w, plane % channels * TAPS * TAPS), bias[plane % channels]
                source, k = at(frames, (plane - first) * size + row * stride * pitch), (plane * PH + row) * PW
                if stride == 1:
                    _correlate_rows(source, pitch, odd, weights, shift, rows, PW, y_flat, k, end)
                else:
                    _correlate_rows_by_2(source, pitch, odd, weights, shift, rows, PW, y_flat, k, end)


@jit
def _rows_at_once(pitch, itemsize):
    return max(1, _BAND // (pitch * itemsize))


@jit
def _rows_met(rows, H, stride):
    """The rows of a plane that ``rows`` rows of windows meet."""
    return min(H, (rows - 1) * stride + 2)


@inlined
def _frame_rows(planes, first, row, stop, W, stride, frames, place, pitch, odd):
    """Fill in rows ``row`` to ``stop`` of the plane that begins at ``first``, in the frame that does at ``place``."""
    if stride == 1:
        _fill(planes, first, row, stop, W, frames, place + pitch + 1)
        return
    lanes = simd.VECTOR_BYTES // planes.itemsize
    for h in range(row, stop):
        even = place + (h + 1) * pitch + 1
        for q in range(0, W, 2 * lanes):
            _split_first(frames, even - 1 + odd + q // 2, even + q // 2, planes, first + h * W + q, W - q)


@inlined
def _fill(planes, first, row, stop, W, frames, place):
    """Rows ``row`` to ``stop`` of the plane that begins at ``first``, into the frame from ``place`` on, with zeros."""
    lanes = simd.VECTOR_BYTES // planes.itemsize
    for h in range(row, stop):
        for q in range(0, W, lanes):
            simd.copy_first(frames, place + h * (W + 1) + q, planes, first + h * W + q, W - q)


@intrinsic
def _split_first(typing, target, i, k, source, j, count):
    """Elements 0, 2, ... from source[j] on to target[i], 1, 3, ... to target[k]: ``count`` in all, then zeros."""

    def emit(context, builder, signature, arguments):
        emitter, target, source = simd.opened(context, builder, signature, arguments, 0, 3)
        _, i, k, _, j, count = arguments
        lanes = constant(emitter.lanes)
        pair = (
            emitter.load_first(source, j, count),
            emitter.load_first(source, builder.add(j, lanes), builder.sub(count, lanes)),
        )
        for first, place in enumerate((i, k)):
            numbers = list(range(first, 2 * emitter.lanes, 2))
            emitter.store(
                builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(ir.IntType(32), emitter.lanes), numbers)),
                target,
                place,
            )
        return context.get_dummy_value()

    index = types.intp
    return types.void(target, index, index, source, index, index), emit


def _rows_correlated(stride: int):
    """The intrinsic for rows of the convolution."""

    @intrinsic
    def correlate_rows(typing, frame, pitch, odd, weights, bias, rows, count, y, k, end):
        """y from k on, none at ``end``: rows of ``count`` pixels; the first tap of the first is at ``frame``."""

        def emit(context, builder, signature, arguments):
            emitter, frame, weights, y = simd.opened(context, builder, signature, arguments, 0, 3, 7)
            _, pitch, odd, _, bias, rows, count, _, k, end = arguments
            factors, shift = _factors(emitter, weights), emitter.splat(bias)
            with cgutils.for_range(builder, rows) as row, _vectors(emitter, count) as j:
                first = builder.add(_times(builder, row.index, pitch, stride), j)
                result = shift
                for tap_row in range(TAPS):
                    place = builder.add(first, builder.mul(pitch, constant(tap_row)))
                    for tap, pixels in enumerate(_met(emitter, frame, place, odd, stride)):
                        result = emitter.multiply_add(factors[tap_row * TAPS + tap], pixels, result)
                place = builder.add(k, builder.add(builder.mul(row.index, count), j))
                emitter.store_before(end, result, y, place)
            return context.get_dummy_value()

        index = types.intp
        return types.void(frame, index, index, weights, bias, index, index, y, index, index), emit

    return correlate_rows


_correlate_rows, _correlate_rows_by_2 = _rows_correlated(1), _rows_correlated(2)


@jit
def spread(start, stop, dy, w, bias, sizes, stride, size, at_once, dx, frames):
    """dx of the planes start to stop, at stride 2."""
    H, W, PH, PW = sizes
    channels, pitch, end = dy.shape[1], PW + 1, stop * H * W
    flat, dx_flat, band = dy.reshape(-1), dx.reshape(-1), _rows_at_once(pitch, dy.itemsize)
    frames[:] = 0
    for first in range(start, stop, at_once):
        last, filled = min(first + at_once, stop), 0
        for row in range(0, PH, band):
            rows = min(band, PH - row)
            reached = min(PH, row + rows + 1)
            for plane in range(first, last):
                _fill(flat, plane * PH * PW, filled, reached, PW, frames, (plane - first) * size)
            filled = reached
            for plane in range(first, last):
                weights, shift = at(w, plane % channels * TAPS * TAPS), bias[plane % channels]
                source, k = at(frames, (plane - first) * size + row * pitch), plane * H * W + 2 * row * W
                _spread_rows(source, pitch, weights, shift, rows, W, dx_flat, k, end)


@intrinsic
def _spread_rows(typing, frame, pitch, weights, bias, rows, width, dx, k, end):
    """dx from k on, none at ``end``: two rows of ``width`` pixels for each of the ``rows`` that begin at ``frame``.

    The even rows of dx meet the middle row of taps, the odd ones the others; columns likewise.
    """

    def emit(context, builder, signature, arguments):
        emitter, frame, weights, dx = simd.opened(context, builder, signature, arguments, 0, 2, 6)
        _, pitch, _, bias, rows, width, _, k, end = arguments
        w, shift, lanes = _factors(emitter, weights), emitter.splat(bias), constant(emitter.lanes)
        pairs = builder.sdiv(builder.add(width, constant(1)), constant(2))
        vectors = builder.sdiv(builder.add(pairs, builder.sub(lanes, constant(1))), lanes)

        def sum_up(*products):
            result = shift
            for factor, pixels in products:
                result = emitter.multiply_add(w[factor], pixels, result)
            return result

        with cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, vectors) as number:
            # from right to left: what runs over the end of an even row is overwritten by the odd row
            last = builder.sub(vectors, constant(1))
            j = builder.mul(builder.sub(last, number.index), lanes)
            here = builder.add(builder.mul(row.index, pitch), j)
            this, right = (emitter.load(frame, builder.add(here, constant(step))) for step in range(2))
            below = builder.add(here, pitch)
            under, corner = (emitter.load(frame, builder.add(below, constant(step))) for step in range(2))
            even = sum_up((4, this)), sum_up((3, right), (5, this))
            odd = sum_up((1, under), (7, this)), sum_up((0, corner), (2, under), (6, right), (8, this))
            place = builder.add(k, _times(builder, j, constant(2)))
            place = builder.add(place, builder.mul(builder.mul(row.index, width), constant(2)))
            for columns in (even, odd):
                for half, vector in enumerate(emitter.transpose(list(columns))):
                    emitter.store_before(end, vector, dx, builder.add(place, constant(half * emitter.lanes)))
                place = builder.add(place, width)
        return context.get_dummy_value()

    index = types.intp
    return types.void(frame, index, weights, bias, index, index, dx, index, index), emit


@jit
def add_gradients(start, stop, x, dy, sizes, stride, size, at_once, dw, frames):
    """dw of the channels start to stop, image after image."""
    H, W, PH, PW = sizes
    images, channels, flat, dy_flat = x.shape[0], x.shape[1], x.reshape(-1), dy.reshape(-1)
    pitch, lanes = W + 1 if stride == 1 else PW + 1, simd.VECTOR_BYTES // x.itemsize
    odd, band = _distance(H, pitch, lanes), _rows_at_once(W * stride, x.itemsize)
    totals = np.empty(TAPS * TAPS * lanes)
    frames[:] = 0
    for c in range(start, stop):
        totals[:] = 0
        for first in range(0, images, at_once):
            last, filled = min(first + at_once, images), 0
            for row in range(0, PH, band):
                rows = min(band, PH - row)
                reached = _rows_met(row + rows, H, stride)
                for n in range(first, last):
                    plane, place = (n * channels + c) * H * W, (n - first) * size
                    _frame_rows(flat, plane, filled, reached, W, stride, frames, place, pitch, odd)
                filled = reached
                for n in range(first, last):
                    source = at(frames, (n - first) * size + row * stride * pitch)
                    gradients = at(dy_flat, ((n * channels + c) * PH + row) * PW)
                    if stride == 1:
                        _add_rows(source, pitch, odd, gradients, rows, PW, at(totals, 0))
                    else:
                        _add_rows_by_2(source, pitch, odd, gradients, rows, PW, at(totals, 0))
        for t in range(TAPS * TAPS):
            dw[c * TAPS * TAPS + t] += total(totals, t * lanes, lanes)


def _rows_of_gradients(stride: int):
    """The intrinsic for what rows add to the gradients of the weights."""

    @intrinsic
    def add_rows(typing, frame, pitch, odd, gradients, rows, count, totals):
        """totals [taps, lanes], float64, grow by the products of ``rows`` rows of ``count`` gradients and the frame."""

        def emit(context, builder, signature, arguments):
            emitter, frame, gradients, totals = simd.opened(context, builder, signature, arguments, 0, 3, 6)
            _, pitch, odd, _, rows, count, _ = arguments
            sums = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in range(TAPS * TAPS)]

            def multiply(factor, first, mask=None):
                for tap_row in range(TAPS):
                    place = builder.add(first, builder.mul(pitch, constant(tap_row)))
                    for tap, pixels in enumerate(_met(emitter, frame, place, odd, stride)):
                        pixels = pixels if mask is None else builder.select(mask, pixels, emitter.zero())
                        spot = sums[tap_row * TAPS + tap]
                        builder.store(emitter.multiply_add(factor, pixels, builder.load(spot)), spot)

            with cgutils.for_range(builder, rows) as row, _vectors(emitter, count) as j:
                first = builder.add(_times(builder, row.index, pitch, stride), j)
                place, left = builder.add(builder.mul(row.index, count), j), builder.sub(count, j)
                with builder.if_else(builder.icmp_signed(">=", left, constant(emitter.lanes))) as (whole, part):
                    with whole:
                        multiply(emitter.load(gradients, place), first)
                    with part:
                        multiply(emitter.load_first(gradients, place, left), first, emitter.first(left))
            for number, spot in enumerate(sums):
                emitter.add_wide(builder.load(spot), totals, number)
            return context.get_dummy_value()

        index = types.intp
        return types.void(frame, index, index, gradients, index, index, totals), emit

    return add_rows


_add_rows, _add_rows_by_2 = _rows_of_gradients(1), _rows_of_gradients(2)


def _factors(emitter: simd.Emitter, weights: ir.Value) -> list[ir.Value]:
    """The taps of a filter, each in all lanes."""
    places = [emitter.address(weights, constant(tap)) for tap in range(TAPS * TAPS)]
    return [emitter.splat(emitter.builder.load(place)) for place in places]


def _met(emitter: simd.Emitter, frame: ir.Value, place: ir.Value, odd: ir.Value, stride: int) -> list[ir.Value]:
    """What the three taps of a row meet, the first of them at ``place``."""
    builder = emitter.builder
    after = builder.add(place, constant(1))
    middle, last = (after, builder.add(after, constant(1))) if stride == 1 else (builder.add(place, odd), after)
    return [emitter.load(frame, position) for position in (place, middle, last)]


def _vectors(emitter: simd.Emitter, count: ir.Value):
    """A loop over the vectors of a row: their first places."""
    return _first_of(cgutils.for_range_slice(emitter.builder, constant(0), count, constant(emitter.lanes)))


@contextmanager
def _first_of(loop) -> Iterator[ir.Value]:
    with loop as (first, _):
        yield first


def _times(builder: ir.IRBuilder, number: ir.Value, step: ir.Value, factor: int = 1) -> ir.Value:
    return builder.mul(builder.mul(number, step), constant(factor))
