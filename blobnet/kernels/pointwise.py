"""Convolution by one pixel: a matrix product that reads the pixels, and writes them, where they lie.

The innermost loop takes neighbouring pixels of a channel for vectors, so that nothing need be packed but the filters.
"""

import math

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import simd
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for
from blobnet.kernels.product import WORTH_A_THREAD
from blobnet.kernels.simd import TILE_ROWS, TILE_VECTORS

# Channels beyond which ``product`` is faster: at 56 x 56, 64 filters of 256 channels take 4.0 ms there and 5.7 here, of
# 64 channels 1.3 and 1.05, 16 filters of 128 channels 2.5 and 1.4.
_MOST_DEPTH = 128
# Pixels that all filters meet before the next ones are read: of many channels they stay in the second cache.
_PIXELS = 384
# Channels from the one that is read to the one that is fetched: the processor does not foresee such steps.
_AHEAD = 16
# Planes of fewer vectors than this are not worth it: the last one of each is not full. Nor are fewer blocks of pixels,
# which threads could not share.
_LEAST_VECTORS, _LEAST_BLOCKS = 4, 8


def pays(geometry: Geometry, x: np.ndarray, group: int) -> bool:
    """Whether a convolution of x [N, K, P] is by one pixel of few channels, meets every pixel, and has enough of them."""
    images, depth, pixels = x.shape
    dense = set(geometry.kernel) == {1} and not any(geometry.pad) and geometry.input == geometry.output
    large = pixels >= _LEAST_VECTORS * simd.lanes(x.dtype) and images * -(-pixels // _PIXELS) >= _LEAST_BLOCKS
    return dense and large and group == 1 and depth <= _MOST_DEPTH


def panels(w: np.ndarray) -> np.ndarray:
    """The filters [M, K] as ``correlate`` reads them: TILE_ROWS of them side by side, zeros after the last."""
    tiles = -(-len(w) // TILE_ROWS)
    padded = np.zeros((tiles * TILE_ROWS, w.shape[1]), w.dtype)
    padded[: len(w)] = w
    return np.ascontiguousarray(padded.reshape(tiles, TILE_ROWS, -1).swapaxes(1, 2))


def correlate(
    x: np.ndarray,
    filters: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray | None,
    least: float = -math.inf,
    accumulate: bool = False,
) -> None:
    """y [N, M, P] = w [M, K] x [N, K, P] + bias [M], + y where it accumulates, or ``least`` where that is less.

    filters  w in ``panels``
    """
    images, rows, pixels = y.shape
    bias = np.zeros(rows, y.dtype) if bias is None else bias
    blocks = -(-pixels // _PIXELS)
    parallel_for(
        multiply, images * blocks, x, filters, y, _PIXELS, blocks, bias, y.dtype.type(least), accumulate,
        grain=max(1, WORTH_A_THREAD // (_PIXELS * filters.size)),
    )  # fmt: skip


@jit
def multiply(start, stop, x, filters, y, at_once, blocks, bias, least, accumulate):
    """Blocks of pixels start to stop of all images."""
    depth, pixels, rows = x.shape[1], x.shape[2], y.shape[1]
    lanes = simd.VECTOR_BYTES // x.itemsize
    panels, source, target = filters.reshape(-1), x.reshape(-1), y.reshape(-1)
    for item in range(start, stop):
        n, block = divmod(item, blocks)
        first, last = block * at_once, min((block + 1) * at_once, pixels)
        for row in range(0, rows, TILE_ROWS):
            count, panel, p = min(TILE_ROWS, rows - row), row * depth, first
            while p < last:
                place, spot, left = n * depth * pixels + p, (n * rows + row) * pixels + p, last - p
                if left >= TILE_VECTORS * lanes:
                    _multiply_whole(
                        panels, panel, source, place, pixels, depth, target, spot, count, left,
                        bias, row, least, accumulate,
                    )  # fmt: skip
                    p += TILE_VECTORS * lanes
                else:
                    _multiply_part(
                        panels, panel, source, place, pixels, depth, target, spot, count, left,
                        bias, row, least, accumulate,
                    )  # fmt: skip
                    p += lanes


def _tile(vectors: int, whole: bool):
    """The intrinsic for a tile of results: TILE_ROWS filters, so many vectors of pixels."""

    @intrinsic
    def multiply_tile(typing, w, i, x, j, step, depth, y, k, rows, pixels, bias, row, least, accumulate):
        """y[k + r step + p] = sum over d of w[i + d TILE_ROWS + r] x[j + d step + p] + bias[row + r], or least.

        For r below ``rows`` and p below ``pixels``, which a whole tile has.
        """

        def emit(context, builder, signature, arguments):
            emitter, w, x, y, bias = simd.opened(context, builder, signature, arguments, 0, 2, 6, 10)
            _, i, _, j, step, depth, _, k, rows, pixels, _, row, least, accumulate = arguments
            numbers = [(r, v) for r in range(TILE_ROWS) for v in range(vectors)]
            sums = {number: cgutils.alloca_once_value(builder, emitter.zero()) for number in numbers}
            mask = emitter.first(pixels)

            def load(memory, place):
                return emitter.load(memory, place) if whole else emitter.load_masked(memory, place, mask)

            with cgutils.for_range(builder, depth) as loop:
                factors = builder.add(i, builder.mul(loop.index, _index(TILE_ROWS)))
                place = builder.add(j, builder.mul(loop.index, step))
                ahead = builder.add(place, builder.mul(step, _index(_AHEAD)))
                for v in range(vectors):
                    emitter.fetch(x, builder.add(ahead, _index(v * emitter.lanes)), cache=1)
                met = [load(x, builder.add(place, _index(v * emitter.lanes))) for v in range(vectors)]
                for r in range(TILE_ROWS):
                    emitter.keep_order()
                    factor = emitter.splat(builder.load(emitter.address(w, builder.add(factors, _index(r)))))
                    for v in range(vectors):
                        total = sums[r, v]
                        builder.store(emitter.multiply_add(factor, met[v], builder.load(total)), total)
            least = emitter.splat(least)
            for r in range(TILE_ROWS):
                with builder.if_then(builder.icmp_signed("<", _index(r), rows)):
                    shift = emitter.splat(builder.load(emitter.address(bias, builder.add(row, _index(r)))))
                    spot = builder.add(k, builder.mul(step, _index(r)))
                    for v in range(vectors):
                        place = builder.add(spot, _index(v * emitter.lanes))
                        total = sums[r, v]
                        builder.store(builder.fadd(builder.load(total), shift), total)
                        with builder.if_then(accumulate):
                            builder.store(builder.fadd(builder.load(total), load(y, place)), total)
                        result = builder.load(total)
                        result = builder.select(builder.fcmp_ordered("<=", result, least), least, result)
                        if whole:
                            emitter.store(result, y, place)
                        else:
                            emitter.store_first(result, y, place, pixels)
            return context.get_dummy_value()

        index = types.intp
        return types.void(
            w, index, x, index, index, index, y, index, index, index, bias, index, least, types.boolean
        ), emit

    return multiply_tile


_multiply_whole, _multiply_part = _tile(TILE_VECTORS, True), _tile(1, False)


def _index(number: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), number)
