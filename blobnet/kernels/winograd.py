"""3 x 3 and 5 x 5 convolutions at stride 1 by Winograd's minimal filtering: a quarter or a third of the work.

F(4 x 4, 3 x 3) and F(2 x 2, 5 x 5) of Lavin and Gray 2016, section 4.1: a tile of outputs comes from 6 x 6
inputs d and the filter g as

    A^T [ (G g G^T) . (B^T d B) ] A        . element by element, then summed over the channels

so a sum over channels and taps becomes 36 products of matrices, one per element of the tile: 36 / (16 x 9) and
36 / (4 x 25) of the multiplications. The matrices follow from the points at which Toom and Cook multiply
polynomials; those here lose two to four times less precision than the usual 0, 1, -1, 2, -2. Measured over 64 to
512 channels, the worst error is 1.4e-6 to 4e-6 of the largest output, that of the direct sum 1.2e-6 to 2.5e-6.

Transforms work on vectors of channels, so images are turned to channels last first. Tiles of all images form
one long row, cut into blocks: each block is transformed, multiplied and transformed back while it is in the
cache. What is not finite would spread over a tile, so the caller keeps it away.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from blobnet import config
from blobnet.kernels import product, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.finite import all_finite, sum_of_nothing
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.workspace import CACHE_LINE, work_array

LANES = simd.lanes(np.dtype(np.float32))
PANEL = product.NV * LANES  # outputs
UNIT = max(LANES, product.MR)  # channels
IN = 6  # extent of a tile of inputs; of one of outputs IN + 1 - taps
ELEMENTS = IN * IN

# Most tiles of a block, for few channels and for many: 36 x tiles x channels stay in the second cache.
BLOCK_TILES, MANY_CHANNELS, BLOCK_TILES_OF_MANY = 48, 256, 96

# Where it pays: channels, and tiles of a convolution and of a gradient of the weights. Measured on ResNet's and
# VGG's layers: 3 x 3 over 64 to 256 channels runs 2 to 2.8 times as fast as the direct sum.
LEAST_CHANNELS = 16
LEAST_TILES, LEAST_TILES_OF_WEIGHTS = 32, 48

# Likewise where the filters are kept: their transform, which takes as long as some 16 tiles, is done once.
LEAST_TILES_KEPT = 12

# Output pixels whose images are turned to channels last at once.
PIXELS_AT_ONCE = 16384

# Tiles whose transforms are kept at once for the gradient of the weights.
TILES_AT_ONCE = 256


def _matrices(taps: int) -> tuple[list[list[float]], ...]:
    """A^T, G and B^T for so many taps: the powers of the points, and the inverse of those."""
    points = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)

    def powers(count):
        return np.array([[point**k for k in range(count)] for point in points] + [[0] * (count - 1) + [1]], float)

    inverse = np.linalg.inv(powers(IN)).T
    matrices = powers(IN + 1 - taps).T, powers(taps), np.where(abs(inverse) < 1e-12, 0, inverse)
    return tuple(matrix.tolist() for matrix in matrices)


_AT3, _G3, _BT = _matrices(3)
_AT5, _G5, _ = _matrices(5)


def _transposed(matrix: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*matrix, strict=True)]


_transform_input = simd.tile_transform(_BT)
_transform_filter_3, _transform_filter_5 = simd.tile_transform(_G3), simd.tile_transform(_G5)
_transform_output_3, _transform_output_5 = simd.tile_transform(_AT3), simd.tile_transform(_AT5)
_transform_gradient_3, _transform_gradient_5 = (simd.tile_transform(_transposed(m)) for m in (_AT3, _AT5))
_transform_filter_back_3, _transform_filter_back_5 = (simd.tile_transform(_transposed(m)) for m in (_G3, _G5))


def pays(
    geometry: Geometry, images: int, channels: int, filters: int, group: int, dtype: np.dtype, least_tiles=LEAST_TILES
) -> bool:
    """Whether this way applies and is the faster one. In float64 the direct sum keeps its precision."""
    taps = geometry.kernel[0] if geometry.kernel in ((3, 3), (5, 5)) else 0
    return (
        taps > 0
        and dtype == np.float32
        and group == 1
        and geometry.stride == geometry.dilation == (1, 1)
        and max(geometry.pad) < taps
        and channels % UNIT == filters % UNIT == 0
        and min(channels, filters) >= LEAST_CHANNELS
        and images * math.prod(-(-extent // (IN + 1 - taps)) for extent in geometry.output) >= least_tiles
    )


class Grid(NamedTuple):
    """The tiles of an image, and the zero-padded image in channels last that they cover."""

    rows: int  # tiles
    columns: int
    step: int  # pixels from one tile to the next
    height: int  # pixels
    width: int
    size: int  # elements from one image to the next: pixels x channels, and a vector of slack for each channel


def _grid(outputs: tuple[int, ...], channels: int, step: int, tile: int) -> Grid:
    """Tiles of so many pixels, those of inputs overlapping, over outputs of the given extents."""
    rows, columns = (-(-extent // step) for extent in outputs)
    height, width = (count * step + tile - step for count in (rows, columns))
    return Grid(rows, columns, step, height, width, (height * width + LANES) * channels)


def transformed(w: np.ndarray, keep: bool = False) -> np.ndarray:
    """The filters w [O, C, taps] as ``correlate`` takes them; in memory of their own, if they are to be kept."""
    o, c, count = w.shape
    size = ELEMENTS * c * o
    filters = np.empty(size, w.dtype) if keep else work_array("filters", (size,), w.dtype)
    turned = work_array("taps", (c, count, o), w.dtype)
    parallel_for(transform_filters, c, w, math.isqrt(count), turned, filters, grain=8)
    return filters


def correlate(
    x, filters, y, geometry: Geometry, bias: np.ndarray | None, least: float = -math.inf, accumulate: bool = False
) -> bool:
    """y = w * x + bias, + y where it accumulates, or ``least`` where that is less.

    x [N, C, pixels], filters: w ``transformed``, y [N, O, pixels]
    False if not all of x is finite; then y holds nothing of use, or what it held, if it accumulates.
    """
    if accumulate and not all_finite(x):
        return False
    step = IN + 1 - geometry.kernel[0]
    grids = _grid(geometry.output, x.shape[1], step, IN), _grid(geometry.output, y.shape[1], step, step)
    bias = np.zeros(y.shape[1], y.dtype) if bias is None else bias
    what = filters, geometry, grids, bias, y.dtype.type(least), accumulate
    return all(_correlate_portion(x[part], y[part], *what) for part in _portions(x, geometry.output))


def _correlate_portion(x, y, filters, geometry, grids, bias, least, accumulate) -> bool:
    n, c, o = len(x), x.shape[1], y.shape[1]
    inputs, grid = grids
    images, finite = _channels_last("images", x, geometry.input, geometry.pad, inputs)
    if not finite:
        return False
    results = work_array("results", (n * grid.size,), y.dtype)
    tiles = n * grid.rows * grid.columns
    blocks = -(-tiles // (BLOCK_TILES if c < MANY_CHANNELS else BLOCK_TILES_OF_MANY))
    blocks += -blocks % config.threads()
    block = -(-tiles // blocks // product.MR) * product.MR
    blocks = -(-tiles // block)
    v_size, m_size = _spread(block * (c + LANES)), _spread(block * (o + LANES))
    work = scratch(ELEMENTS * (v_size + m_size), y.dtype)
    sizes = tiles, block, v_size, m_size
    parallel_for(correlate_blocks, blocks, images, inputs, c, filters, results, grid, o, *sizes, scratch=work)
    parallel_for(to_channels_first, n * (o // LANES), results, grid, y, *geometry.output, bias, least, accumulate)
    return True


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry) -> bool:
    """dw += G^T [ sum over tiles of (B^T d B) . (A dy A^T) ] G; False, and no change, if not all is finite."""
    c, o, taps = x.shape[1], dy.shape[1], geometry.kernel[0]
    step = IN + 1 - taps
    grids = _grid(geometry.output, c, step, IN), _grid(geometry.output, o, step, step)
    sums = work_array("filters", (ELEMENTS, c, o), dw.dtype)
    sums[...] = 0
    parts = _portions(x, geometry.output)
    if not all(_add_products(x[part], dy[part], geometry, grids, sums) for part in parts):
        return False
    turned = work_array("taps", (c, taps * taps, o), dw.dtype)
    parallel_for(transform_filters_back, c, sums.reshape(-1), taps, turned, dw, grain=8)
    return True


def _add_products(x, dy, geometry, grids, sums) -> bool:
    c, o = x.shape[1], dy.shape[1]
    images, finite = _channels_last("images", x, geometry.input, geometry.pad, grids[0])
    gradients, dy_finite = _channels_last("results", dy, geometry.output, (0, 0), grids[1])
    if not (finite and dy_finite):
        return False
    tiles = len(x) * grids[0].rows * grids[0].columns
    for first in range(0, tiles, TILES_AT_ONCE):
        count = min(TILES_AT_ONCE, tiles - first)
        v, z = (
            work_array(use, (ELEMENTS, _spread(count * channels)), x.dtype)
            for use, channels in (("input tiles", c), ("gradient tiles", o))
        )
        parallel_for(transform_both, count, first, images, grids[0], c, v, gradients, grids[1], o, z, count, grain=8)
        parallel_for(add_products, ELEMENTS * -(-o // PANEL), v, z, count, sums)
    return True


def _spread(size: int) -> int:
    """Elements from one element of the tiles to the next: an odd number of cache lines, lest they evict each other."""
    line = CACHE_LINE // 4
    return (-(-size // line) | 1) * line


def _portions(x: np.ndarray, outputs: tuple[int, int]) -> Iterator[slice]:
    """As many images at once as keep their copies small and all threads busy."""
    images = max(1, PIXELS_AT_ONCE // (outputs[0] * outputs[1]))
    return (slice(first, first + images) for first in range(0, len(x), images))


def _channels_last(use: str, x: np.ndarray, sizes, pad, grid: Grid) -> tuple[np.ndarray, bool]:
    """The images with channels last, and whether all of them are finite."""
    images = work_array(use, (len(x) * grid.size,), x.dtype)
    nothing = np.empty(len(x) * (x.shape[1] // LANES), x.dtype)
    parallel_for(to_channels_last, len(nothing), x, *sizes, *pad, images, grid, nothing)
    return images, not nothing.any()


@jit
def correlate_blocks(start, stop, images, inputs, c, filters, results, outputs, o, tiles, block, v_size, m_size, work):
    """Blocks start to stop of the tiles: transform, multiply element by element, transform back."""
    v_row, m_row = c + LANES, o + LANES
    m = ELEMENTS * v_size
    for first in range(start * block, min(stop * block, tiles), block):
        last = min(first + block, tiles)
        transform_inputs(0, last - first, first, images, inputs, c, work, v_row, UNIT, v_size)
        for element in range(ELEMENTS):
            for panel in range(0, o, PANEL):
                width = min(PANEL, o - panel)
                b = (element * o + panel) * c
                for tile in range(0, last - first, product.MR):
                    product.multiply_tile(
                        work, element * v_size + tile * v_row, v_row, 1, filters, b, width, c,
                        work, m + element * m_size + tile * m_row + panel, m_row, False, width // LANES,
                    )  # fmt: skip
        for tile in range(first, last):
            place = find_tile(outputs, tile) * o
            for k in range(0, o, LANES):
                source, row = m + (tile - first) * m_row + k, outputs.width * o
                if outputs.step == 4:
                    _transform_output_3(work, source, IN * m_size, m_size, results, place + k, row, o)
                else:
                    _transform_output_5(work, source, IN * m_size, m_size, results, place + k, row, o)


@jit
def find_tile(grid, tile):
    """The pixel at the corner of a tile, counted over all images, slack included."""
    image, within = divmod(tile, grid.rows * grid.columns)
    row, column = divmod(within, grid.columns)
    return image * (grid.height * grid.width + LANES) + (row * grid.width + column) * grid.step


@jit
def transform_inputs(start, stop, first, images, grid, c, v, tile_step, unit_step, element_step):
    """B^T d B of tile first + t, for t from start to stop.

    Element e of unit k of the channels begins at v[e element_step + t tile_step + k unit_step].
    """
    for t in range(start, stop):
        place = find_tile(grid, first + t) * c
        for k in range(0, c, LANES):
            target = t * tile_step + k // UNIT * unit_step + k % UNIT
            _transform_input(images, place + k, grid.width * c, c, v, target, IN * element_step, element_step)


@jit
def transform_both(start, stop, first, images, inputs, c, v, gradients, outputs, o, z, count):
    """B^T d B and A dy A^T of tile first + t, for t from start to stop, in panels for ``add_products``.

    v [element, C / UNIT, count, UNIT], z [element, O / PANEL, count, PANEL]
    """
    transform_inputs(start, stop, first, images, inputs, c, v.reshape(-1), UNIT, count * UNIT, v.shape[1])
    flat, row = z.reshape(-1), outputs.width * o
    for t in range(start, stop):
        place = find_tile(outputs, first + t) * o
        for k in range(0, o, LANES):
            panel = k // PANEL * PANEL
            target = panel * count + t * min(PANEL, o - panel) + k - panel
            if outputs.step == 4:
                _transform_gradient_3(gradients, place + k, row, o, flat, target, IN * z.shape[1], z.shape[1])
            else:
                _transform_gradient_5(gradients, place + k, row, o, flat, target, IN * z.shape[1], z.shape[1])


@jit
def add_products(start, stop, v, z, count, sums):
    """sums [element, C, O] += the sum over the tiles of v z; an item is a panel of outputs of an element."""
    _, c, o = sums.shape
    v_flat, z_flat, sums_flat = v.reshape(-1), z.reshape(-1), sums.reshape(-1)
    panels = -(-o // PANEL)
    for item in range(start, stop):
        element, panel = divmod(item, panels)
        panel *= PANEL
        width = min(PANEL, o - panel)
        b = element * z.shape[1] + panel * count
        for row in range(0, c, product.MR):
            a = element * v.shape[1] + row // UNIT * UNIT * count + row % UNIT
            product.multiply_tile(
                v_flat, a, 1, UNIT, z_flat, b, width, count,
                sums_flat, (element * c + row) * o + panel, o, True, width // LANES,
            )  # fmt: skip


@jit
def transform_filters(start, stop, w, taps, turned, filters):
    """G g G^T of w [O, C, taps] in panels [element, O / PANEL, C, PANEL], for the channels start to stop.

    turned [C, taps, O] takes the filters with vectors of outputs.
    """
    channels, count, o = turned.shape
    flat, step = turned.reshape(-1), channels * o
    for c in range(start, stop):
        for k in range(o):
            for t in range(count):
                turned[c, t, k] = w[k, c, t]
        for k in range(0, o, LANES):
            panel = k // PANEL * PANEL
            source, target = c * count * o + k, panel * channels + c * min(PANEL, o - panel) + k - panel
            if taps == 3:
                _transform_filter_3(flat, source, taps * o, o, filters, target, IN * step, step)
            else:
                _transform_filter_5(flat, source, taps * o, o, filters, target, IN * step, step)


@jit
def transform_filters_back(start, stop, sums, taps, turned, dw):
    """dw [O, C, taps] += G^T s G of sums [element, C, O], for the channels start to stop; by way of [C, taps, O]."""
    channels, count, o = turned.shape
    flat, step = turned.reshape(-1), channels * o
    for c in range(start, stop):
        for k in range(0, o, LANES):
            target = c * count * o + k
            if taps == 3:
                _transform_filter_back_3(sums, c * o + k, IN * step, step, flat, target, taps * o, o)
            else:
                _transform_filter_back_5(sums, c * o + k, IN * step, step, flat, target, taps * o, o)
        for k in range(o):
            for t in range(count):
                dw[k, c, t] += turned[c, t, k]


@jit
def to_channels_last(start, stop, x, height, width, pad_h, pad_w, images, grid, nothing):
    """x [N, C, pixels] to images [N, grid.height, grid.width, C], zeros around; an item is a vector of channels.

    A vector of pixels may overrun its row; the next row, or the slack after the image, takes it.
    nothing [items] becomes the sum of 0 times each value: NaN if one of them is not finite.
    """
    channels = x.shape[1]
    flat = x.reshape(-1)
    starts = np.arange(LANES) * x.shape[2]
    for item in range(start, stop):
        n, k = divmod(item, channels // LANES)
        source = (n * channels + k * LANES) * x.shape[2]
        nothing[item] = sum_of_nothing(flat[source : source + LANES * x.shape[2]])
        for row in range(grid.height):
            target = n * grid.size + row * grid.width * channels + k * LANES
            y = row - pad_h
            inside = 0 <= y < height
            count = min(width, grid.width - pad_w) if inside else 0
            for column in range(0, count, LANES):
                _transpose(
                    images, target + (pad_w + column) * channels, channels,
                    flat, source + y * width + column, starts, min(LANES, count - column),
                )  # fmt: skip
            for column in range(pad_w if inside else 0):
                simd.copy_first(images, target + column * channels, flat, 0, 0)
            for column in range(pad_w + count if inside else 0, grid.width):
                simd.copy_first(images, target + column * channels, flat, 0, 0)


@jit
def to_channels_first(start, stop, images, grid, y, height, width, bias, least, accumulate):
    """images [N, grid.height, grid.width, O] to y [N, O, pixels], + bias, + y if so, not below ``least``.

    An item is a vector of channels.
    """
    channels = y.shape[1]
    block = np.empty(LANES * LANES, y.dtype)
    starts = np.arange(LANES) * channels
    for item in range(start, stop):
        n, k = divmod(item, channels // LANES)
        for row in range(height):
            source = n * grid.size + row * grid.width * channels + k * LANES
            for column in range(0, width, LANES):
                count = min(LANES, width - column)
                _transpose(block, 0, LANES, images, source + column * channels, starts, LANES)
                for lane in range(LANES):
                    first = row * width + column
                    target = y[n, k * LANES + lane, first : first + count]
                    values = block[lane * LANES : lane * LANES + count]
                    if accumulate:
                        for p in range(count):
                            values[p] += target[p]
                    for p in range(count):
                        value = values[p] + bias[k * LANES + lane]
                        target[p] = least if value <= least else value


_transpose = simd.transposing_copy(LANES)
