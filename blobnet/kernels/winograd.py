"""3 x 3 convolutions at stride 1 by Winograd's minimal filtering: a quarter of the multiplications.

F(4 x 4, 3 x 3) of Lavin and Gray 2016, section 4.1: a tile of 4 x 4 outputs comes from 6 x 6 inputs d and the
filter g as

    A^T [ (G g G^T) . (B^T d B) ] A        . element by element, then summed over the channels

so a sum over channels and 9 taps becomes 36 products of matrices, one per element of the tile:
36 / (16 x 9) of the work. The matrices follow from the points at which Toom and Cook multiply polynomials;
those here lose two to four times less precision than the usual 0, 1, -1, 2, -2. Measured over 64 to 512
channels, the worst error is 1.4e-6 to 4e-6 of the largest output, that of the direct sum 1.2e-6 to 2.5e-6.

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
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.product import matrix_layout, multiply

LANES = simd.lanes(np.dtype(np.float32))
PANEL = product.NV * LANES
OUT, IN, TAPS = 4, 6, 3
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


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T, G and B^T: the powers of the points, and the inverse of those."""
    points = (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)

    def powers(count):
        return np.array([[point**k for k in range(count)] for point in points] + [[0] * (count - 1) + [1]], float)

    inverse = np.linalg.inv(powers(IN)).T
    return powers(OUT).T, powers(TAPS), np.where(abs(inverse) < 1e-12, 0, inverse)


_AT, _G, _BT = _matrices()

_transform_input = simd.tile_transform(_BT.tolist())
_transform_filter = simd.tile_transform(_G.tolist())
_transform_output = simd.tile_transform(_AT.tolist())
_transform_gradient = simd.tile_transform(_AT.T.tolist())
_transform_filter_back = simd.tile_transform(_G.T.tolist())


def pays(
    geometry: Geometry, images: int, channels: int, filters: int, group: int, dtype: np.dtype, least_tiles: int
) -> bool:
    """Whether this way applies and is the faster one. In float64 the direct sum keeps its precision."""
    return (
        dtype == np.float32
        and group == 1
        and geometry.kernel == (TAPS, TAPS)
        and geometry.stride == geometry.dilation == (1, 1)
        and max(geometry.pad) < TAPS
        and channels % LANES == filters % LANES == 0
        and min(channels, filters) >= LEAST_CHANNELS
        and images * -(-geometry.output[0] // OUT) * -(-geometry.output[1] // OUT) >= least_tiles
    )


class Grid(NamedTuple):
    """The tiles of an image, and the zero-padded image in channels last that they cover."""

    rows: int  # tiles
    columns: int
    height: int  # pixels
    width: int
    size: int  # elements from one image to the next: pixels x channels, and a vector of slack for each channel


def _grid(outputs: tuple[int, ...], channels: int, tile: int) -> Grid:
    """Tiles of IN x IN inputs, which overlap, or of OUT x OUT outputs, over outputs of the given extents."""
    rows, columns = (-(-extent // OUT) for extent in outputs)
    height, width = (count * OUT + tile - OUT for count in (rows, columns))
    return Grid(rows, columns, height, width, (height * width + LANES) * channels)


def transformed(w: np.ndarray) -> np.ndarray:
    """The filters w [O, C, taps] as ``correlate`` takes them."""
    o, c, _ = w.shape
    filters = np.empty(ELEMENTS * c * o, w.dtype)
    parallel_for(transform_filters, c, w, np.empty((c, TAPS * TAPS, o), w.dtype), filters, grain=8)
    return filters


def correlate(
    x, filters, y, sizes, pad, outputs, bias: np.ndarray | None, least: float = -math.inf, accumulate: bool = False
) -> None:
    """y = w * x + bias, + y where it accumulates, or ``least`` where that is less.

    x [N, C, pixels] of the given sizes, filters: w ``transformed``, y [N, O, pixels]
    """
    bias = np.zeros(y.shape[1], y.dtype) if bias is None else bias
    for part in _portions(x, outputs):
        _correlate_portion(x[part], filters, y[part], sizes, pad, outputs, bias, y.dtype.type(least), accumulate)


def _correlate_portion(x, filters, y, sizes, pad, outputs, bias, least, accumulate) -> None:
    n, c, o = len(x), x.shape[1], y.shape[1]
    inputs, grid = _grid(outputs, c, IN), _grid(outputs, o, OUT)
    images = _channels_last(x, sizes, pad, inputs)
    results = np.empty(n * grid.size, y.dtype)
    tiles = n * grid.rows * grid.columns
    blocks = -(-tiles // (BLOCK_TILES if c < MANY_CHANNELS else BLOCK_TILES_OF_MANY))
    blocks += -blocks % config.threads()
    block = -(-tiles // blocks // product.MR) * product.MR
    blocks = -(-tiles // block)
    work = scratch(ELEMENTS * block * (c + o + 2 * LANES), y.dtype)
    parallel_for(correlate_blocks, blocks, images, inputs, c, filters, results, grid, o, tiles, block, scratch=work)
    parallel_for(to_channels_first, n * (o // LANES), results, grid, y, *outputs, bias, least, accumulate)


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry) -> None:
    """dw += G^T [ sum over tiles of (B^T d B) . (A dy A^T) ] G."""
    c, o = x.shape[1], dy.shape[1]
    sums = np.zeros((ELEMENTS, c, o), dw.dtype)
    for part in _portions(x, geometry.output):
        _add_products(x[part], dy[part], geometry, sums)
    taps = np.empty((c, TAPS * TAPS, o), dw.dtype)
    parallel_for(transform_filters_back, c, sums.reshape(-1), taps, dw, grain=8)


def _add_products(x, dy, geometry, sums) -> None:
    c, o = x.shape[1], dy.shape[1]
    inputs, grid = _grid(geometry.output, c, IN), _grid(geometry.output, o, OUT)
    images = _channels_last(x, geometry.input, geometry.pad, inputs)
    gradients = _channels_last(dy, geometry.output, (0, 0), grid)
    tiles = len(x) * grid.rows * grid.columns
    for first in range(0, tiles, TILES_AT_ONCE):
        count = min(TILES_AT_ONCE, tiles - first)
        v, z = (np.empty(ELEMENTS * count * channels, x.dtype) for channels in (c, o))
        parallel_for(transform_inputs, count, first, images, inputs, c, v, c, count * c, grain=8)
        parallel_for(transform_gradients, count, first, gradients, grid, o, z, count * o, grain=8)
        a, b = (matrix_layout(count, channels, transposed=True, batch=ELEMENTS) for channels in (c, o))
        multiply(v, a, z, b, sums, matrix_layout(c, o, batch=ELEMENTS), beta=1)


def _portions(x: np.ndarray, outputs: tuple[int, int]) -> Iterator[slice]:
    """As many images at once as keep their copies small and all threads busy."""
    images = max(1, PIXELS_AT_ONCE // (outputs[0] * outputs[1]))
    return (slice(first, first + images) for first in range(0, len(x), images))


def _channels_last(x: np.ndarray, sizes, pad, grid: Grid) -> np.ndarray:
    images = np.empty(len(x) * grid.size, x.dtype)
    parallel_for(to_channels_last, len(x) * (x.shape[1] // LANES), x, *sizes, *pad, images, grid)
    return images


@jit
def correlate_blocks(start, stop, images, inputs, c, filters, results, outputs, o, tiles, block, work):
    """Blocks start to stop of the tiles: transform, multiply element by element, transform back."""
    v_row, m_row = c + LANES, o + LANES
    v_size, m_size = block * v_row, block * m_row
    m = ELEMENTS * v_size
    for first in range(start * block, min(stop * block, tiles), block):
        last = min(first + block, tiles)
        transform_inputs(0, last - first, first, images, inputs, c, work, v_row, v_size)
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
                _transform_output(
                    work, m + (tile - first) * m_row + k, IN * m_size, m_size, results, place + k, outputs.width * o, o
                )


@jit
def find_tile(grid, tile):
    """The pixel at the corner of a tile, counted over all images, slack included."""
    image, within = divmod(tile, grid.rows * grid.columns)
    row, column = divmod(within, grid.columns)
    return image * (grid.height * grid.width + LANES) + (row * grid.width + column) * OUT


@jit
def transform_inputs(start, stop, first, images, grid, c, v, tile_step, element_step):
    """v[e element_step + t tile_step + k] = element e of B^T d B for tile first + t, for t from start to stop."""
    for t in range(start, stop):
        place = find_tile(grid, first + t) * c
        for k in range(0, c, LANES):
            target = t * tile_step + k
            _transform_input(images, place + k, grid.width * c, c, v, target, IN * element_step, element_step)


@jit
def transform_gradients(start, stop, first, images, grid, o, z, element_step):
    """z[e element_step + t o + k] = element e of A dy A^T for tile first + t, for t from start to stop."""
    for t in range(start, stop):
        place = find_tile(grid, first + t) * o
        for k in range(0, o, LANES):
            _transform_gradient(images, place + k, grid.width * o, o, z, t * o + k, IN * element_step, element_step)


@jit
def transform_filters(start, stop, w, taps, filters):
    """G g G^T of w [O, C, 9] in panels [element, O / PANEL, C, PANEL], for the channels start to stop.

    taps [C, 9, O] takes the filters with vectors of outputs.
    """
    channels, _, o = taps.shape
    flat = taps.reshape(-1)
    for c in range(start, stop):
        for k in range(o):
            for t in range(TAPS * TAPS):
                taps[c, t, k] = w[k, c, t]
        for k in range(0, o, LANES):
            panel = k // PANEL * PANEL
            target = panel * channels + c * min(PANEL, o - panel) + k - panel
            step = channels * o
            _transform_filter(flat, c * TAPS * TAPS * o + k, TAPS * o, o, filters, target, IN * step, step)


@jit
def transform_filters_back(start, stop, sums, taps, dw):
    """dw [O, C, 9] += G^T s G of sums [element, C, O], for the channels start to stop; by way of taps [C, 9, O]."""
    channels, _, o = taps.shape
    flat = taps.reshape(-1)
    for c in range(start, stop):
        for k in range(0, o, LANES):
            step = channels * o
            _transform_filter_back(sums, c * o + k, IN * step, step, flat, c * TAPS * TAPS * o + k, TAPS * o, o)
        for k in range(o):
            for t in range(TAPS * TAPS):
                dw[k, c, t] += taps[c, t, k]


@jit
def to_channels_last(start, stop, x, height, width, pad_h, pad_w, images, grid):
    """x [N, C, pixels] to images [N, grid.height, grid.width, C], zeros around; an item is a vector of channels.

    A vector of pixels may overrun its row; the next row, or the slack after the image, takes it.
    """
    channels = x.shape[1]
    flat = x.reshape(-1)
    starts = np.arange(LANES) * x.shape[2]
    for item in range(start, stop):
        n, k = divmod(item, channels // LANES)
        source = (n * channels + k * LANES) * x.shape[2]
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
