"""The transforms of ``winograd``: tiles of inputs, outputs and gradients, and filters.

Images are turned to vectors of channels, a row of tiles at a time. The matrices A, B and G follow from the points at
which Toom and Cook multiply polynomials.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from blobnet.kernels import patches, product, simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.lanes import place_planes
from blobnet.kernels.workspace import CACHE_LINE

LANES = simd.lanes(np.dtype(np.float32))
PANEL = product.NV * LANES  # outputs
UNIT = max(LANES, product.MR)  # channels
STEP = 4  # extent of a tile of outputs


Matrix = list[list[float]]


# Those at which polynomials are multiplied for so many taps.
_POINTS = {3: (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2), 5: (0, 1 / 2, -1 / 2, 1, -1, 2, -2)}


def matrices(taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """A^T, G and B^T for so many taps: the powers of the points and of infinity, and the inverse of those."""
    points = _POINTS[taps]

    def powers(count):
        return np.array([[point**k for k in range(count)] for point in points] + [[0] * (count - 1) + [1]], float)

    inverse = np.linalg.inv(powers(len(points) + 1)).T.round(12)
    return powers(STEP).T.tolist(), powers(taps).tolist(), inverse.tolist()


def _transposed(matrices: dict[int, Matrix]) -> dict[int, Matrix]:
    return {taps: [list(column) for column in zip(*matrix, strict=True)] for taps, matrix in matrices.items()}


_AT, _G, _BT = ({taps: matrices(taps)[number] for taps in _POINTS} for number in range(3))

_transform_input, _add_input_back = simd.tile_transform(_BT), simd.tile_transform(_transposed(_BT), adds=True)
_transform_filter, _transform_filter_back = simd.tile_transform(_G), simd.tile_transform(_transposed(_G))
_transform_output, _transform_gradient = simd.tile_transform(_AT), simd.tile_transform(_transposed(_AT))


class Grid(NamedTuple):
    """The tiles of images, and the planes [height, width] whose pixels they take in or give out."""

    taps: tuple[int, ...]  # of a filter along an axis (``taps_of``)
    side: int  # of a tile of inputs along an axis, and of its transform
    rows: int  # of tiles
    columns: int
    height: int
    width: int
    pad_h: int  # pixels of the first tile outside the plane
    pad_w: int


def taps_of(count: int) -> tuple[int, ...]:
    """Numbers of the taps along an axis, for so many in all. A tuple: compiled code is for as many as it has."""
    return tuple(range(math.isqrt(count)))


@functools.lru_cache(maxsize=256)
def grids(geometry: Geometry) -> tuple[Grid, Grid]:
    """The tiles of inputs, which overlap, and those of outputs."""
    taps = taps_of(math.prod(geometry.kernel))
    tiles = taps, STEP - 1 + len(taps), *(-(-extent // STEP) for extent in geometry.output)
    return Grid(*tiles, *geometry.input, *geometry.pad), Grid(*tiles, *geometry.output, 0, 0)


def row_size(inputs: Grid) -> int:
    """Elements for the pixels of a row of tiles, a vector of channels each, and as many more as a copy may overrun."""
    return (inputs.side * (inputs.columns * STEP + inputs.side - STEP) + LANES) * LANES


def elements_of(count: int) -> int:
    """Elements of a transformed tile for filters of so many taps in all."""
    return (STEP - 1 + len(taps_of(count))) ** 2


def whole_units(channels: int) -> int:
    """Channels rounded up to whole units."""
    return -(-channels // UNIT) * UNIT


def spaced(size: int) -> int:
    """Elements from one element of the tiles to the next: an odd number of cache lines, lest they evict each other."""
    line = CACHE_LINE // 4
    return (-(-size // line) | 1) * line


@jit
def padded(count):
    """Taps or channels rounded up to whole vectors."""
    return -(-count // LANES) * LANES


@jit
def find_piece(grid, tile, last):
    """The image, row and column of a tile, and how many are left of its row, none at ``last`` or beyond."""
    image, within = divmod(tile, grid.rows * grid.columns)
    row, column = divmod(within, grid.columns)
    return image, row, column, min(grid.columns - column, last - tile)


@jit
def first_image(tile, x, grid):
    """Where the first image of x [N, C, pixels] begins whose tiles are all ``tile`` or later ones."""
    return -(-tile // (grid.rows * grid.columns)) * x.shape[1] * x.shape[2]


@jit
def transform_tiles(first, last, x, grid, row, v, tile_step, unit_step, element_step):
    """B^T d B of the tiles first to last of x [N, C, pixels]; returns the sum of 0 times each value of x.

    Element e of unit k of the channels of tile first + t begins at v[e element_step + t tile_step + k unit_step].
    """
    c, flat, side = x.shape[1], x.reshape(-1), grid.side
    starts, nothing = stack.empty(LANES, np.int64), stack.zeros(LANES, x.dtype)
    for k in range(0, c, LANES):
        tile, target = first, k // UNIT * unit_step + k % UNIT
        place_planes(starts, 0, c - k, grid.height * grid.width)
        while tile < last:
            image, above, left, count = find_piece(grid, tile, last)
            overlap = side - STEP
            width = count * STEP + overlap
            known = overlap if above > 0 and count == grid.columns <= tile - first else 0  # from the row of tiles above
            patches.copy(row[: known * width * LANES], row[STEP * width * LANES :])
            plane = (image * c + k) * grid.height * grid.width
            turn_rows(flat, plane, starts, grid, above, left, known, side, width, row, nothing)
            fetch_next_row(flat, c, k, starts, grid, first, tile + count, last, overlap)
            for t in range(tile - first, tile - first + count):
                place = (t + first - tile) * STEP * LANES
                spot = target + t * tile_step
                _transform_input(
                    grid.taps, row, place, width * LANES, LANES, v, spot, side * element_step, element_step
                )
            tile += count
    return nothing.sum()


@jit
def fetch_next_row(x, c, k, starts, grid, first, tile, last, overlap):
    """Fetch the row of tiles that begins with a tile, of the channels from k on: what the row above does not meet.

    At the end of the tiles first to last it is that of the next vector of channels, or of the tiles that follow.
    """
    if tile == last:
        tile, k = (first, k + LANES) if k + LANES < c else (last, 0)
    image, above, left, _ = find_piece(grid, tile, last)
    top = above * STEP - grid.pad_h
    begin, end = max(0, top + overlap if above > 0 else top), min(grid.height, top + STEP + overlap)
    place = ((image * c + k) * grid.height + begin) * grid.width
    for lane in range(LANES if left == 0 else 0):
        simd.fetch(x, place + starts[lane], (end - begin) * grid.width)


@jit
def transform_some(start, stop, x, inputs: Grid, v, v_row, nothing, row):
    """``transform_tiles`` for the tiles start to stop; ``nothing`` takes what it returns."""
    nothing[start] = transform_tiles(
        start, stop, x, inputs, row, v.reshape(-1)[start * v_row :], v_row, UNIT, v.shape[1]
    )


@jit
def turn_rows(x, plane, starts, grid, above, left, first, last, width, row, nothing):
    """Rows first to last of a row of tiles, as row [last, width, LANES] of vectors of channels, zeros around.

    plane    where the first of the channels begins in x; each begins at plane + starts[lane]
    nothing  [LANES] grows by 0 times each value
    A vector of pixels may overrun its row; the next row, or the slack after the last one, takes it.
    """
    size, corner, top = width * LANES, left * STEP - grid.pad_w, above * STEP - grid.pad_h
    begin, end = max(0, -corner), min(width, grid.width - corner)
    inside, below = max(first, -top), min(last, grid.height - top)
    if begin >= end or inside >= below:
        inside = below = last
    patches.fill(row, first * size, inside * size)
    for r in range(inside, below):
        source, target = plane + (top + r) * grid.width + corner, r * size
        patches.fill(row, target, target + begin * LANES)
        for q in range(begin, end, LANES):
            _transpose_and_check(row, target + q * LANES, LANES, x, source + q, starts, min(LANES, end - q), nothing)
        patches.fill(row, target + end * LANES, target + size)
    patches.fill(row, below * size, last * size)


@jit
def write_tiles(first, last, k_start, k_stop, m, start, tile_step, element_step, row, y, y_first, grid, bias, least,
                addend, accumulate):  # fmt: skip
    """y [N, O, pixels] = A^T m A of tiles first to last, + bias, + addend where it accumulates, not below ``least``.

    Of the outputs k_start to k_stop, of which the first is channel y_first of y; element e of tile first + t begins at
    m[start + e element_step + t tile_step].
    """
    flat, known, size, side = y.reshape(-1), addend.reshape(-1), grid.height * grid.width, grid.side
    for k in range(k_start, k_stop, LANES):
        tile = first
        while tile < last:
            image, above, left, count = find_piece(grid, tile, last)
            width = count * STEP * LANES
            for t in range(tile - first, tile - first + count):
                source, place = start + t * tile_step + k - k_start, (t + first - tile) * STEP * LANES
                _transform_output(grid.taps, m, source, side * element_step, element_step, row, place, width, LANES)
            rows = min(STEP, grid.height - above * STEP)
            pixels = min(count * STEP, grid.width - left * STEP)
            target = (image * y.shape[1] + y_first + k) * size + above * STEP * grid.width + left * STEP
            channels = min(LANES, k_stop - k)
            write_rows(flat, target, grid, channels, rows, pixels, row, 0, width, bias, k, least, known, accumulate)
            tile += count


@jit
def write_rows(y, target, grid, channels, rows, pixels, row, start, width, bias, k, least, addend, accumulate):
    """Some rows of pixels of a vector of channels, which are ``width`` apart from row[start] on, to planes of y."""
    size = grid.height * grid.width
    if pixels == grid.width and pixels * LANES == width:  # neighbours in memory, row after row
        rows, pixels = 1, rows * pixels
    for r in range(rows):
        for q in range(0, pixels, LANES):
            simd.write_transposed(
                y, target + r * grid.width + q, size, channels, row, start + r * width + q * LANES, LANES,
                bias, k, least, addend, accumulate, min(LANES, pixels - q),
            )  # fmt: skip


@jit
def write_overlapping_tiles(image, m, start, tile_step, element_step, row, dx, grid, bias):
    """dx [N, C, pixels] = the sum of B m B^T over the tiles of an image, + bias.

    Element e of tile t of the image begins at m[start + e element_step + t tile_step].
    """
    c, flat, size, side = dx.shape[1], dx.reshape(-1), grid.height * grid.width, grid.side
    width = (grid.columns * STEP + side - STEP) * LANES
    whole, overlap, lowest = side * width, (side - STEP) * width, dx.dtype.type(-np.inf)
    for k in range(0, c, LANES):
        patches.fill(row, 0, whole)
        for above in range(grid.rows):
            for left in range(grid.columns):
                source, place = start + (above * grid.columns + left) * tile_step + k, left * STEP * LANES
                _add_input_back(grid.taps, m, source, side * element_step, element_step, row, place, width, LANES)
            top = above * STEP - grid.pad_h
            begin, end = max(0, -top), min(STEP if above < grid.rows - 1 else side, grid.height - top)
            target = (image * c + k) * size + (top + begin) * grid.width
            write_rows(
                flat, target, grid, min(LANES, c - k), end - begin, grid.width, row, begin * width + grid.pad_w * LANES,
                width, bias, k, lowest, flat, False,
            )  # fmt: skip
            patches.copy(row[:overlap], row[STEP * width :])
            patches.fill(row, overlap, whole)


@jit
def transform_both(start, stop, first, x, inputs: Grid, v, dy, outputs: Grid, z, count, nothing, row):
    """B^T d B and A dy A^T of tile first + t, for t from start to stop, in panels for ``add_products``.

    v [element, C / UNIT, count, UNIT], z [element, O / PANEL, count, PANEL or what whole vectors are left]
    nothing  at ``start`` grows by the sum of 0 times each value of x and dy
    """
    v_size, z_size, o = v.shape[1], z.shape[1], dy.shape[1]
    flat, absent = z.reshape(-1), stack.zeros(LANES, x.dtype)
    begin, end = first + start, first + stop
    total = transform_tiles(begin, end, x, inputs, row, v.reshape(-1)[start * UNIT :], UNIT, count * UNIT, v_size)
    for k in range(0, o, LANES):
        panel = k // PANEL * PANEL
        step = min(PANEL, padded(o) - panel)
        target = panel * count + start * step + k - panel
        transform_gradients(begin, end, dy, outputs, k, row, flat, target, step, z_size, absent)
    nothing[start] += total + absent.sum()


@jit
def transform_gradients(first, last, dy, grid, k, row, z, target, tile_step, element_step, nothing):
    """A dy A^T of the tiles first to last of dy [N, O, pixels], for the vector of channels that begins with k.

    Element e of tile first + t begins at z[target + e element_step + t tile_step].
    nothing  [LANES] grows by 0 times each value
    """
    o, flat, side = dy.shape[1], dy.reshape(-1), grid.side
    tile, starts = first, stack.empty(LANES, np.int64)
    place_planes(starts, 0, o - k, grid.height * grid.width)
    while tile < last:
        image, above, left, count = find_piece(grid, tile, last)
        plane, width = (image * o + k) * grid.height * grid.width, count * STEP
        turn_rows(flat, plane, starts, grid, above, left, 0, STEP, width, row, nothing)
        fetch_next_row(flat, o, k, starts, grid, first, tile + count, last, 0)
        for t in range(tile - first, tile - first + count):
            source, spot = (t + first - tile) * STEP * LANES, target + t * tile_step
            _transform_gradient(
                grid.taps, row, source, width * LANES, LANES, z, spot, side * element_step, element_step
            )
        tile += count


@jit
def transform_filter(w, taps, turned, backward, channel, output, width, filters, target, element, row):
    """G g G^T of the filters of one channel and of ``width`` outputs; element e begins at filters[target + e element].

    turned    channels and outputs are C and O exchanged
    backward  the taps are in opposite order
    ``row`` takes the filters with vectors of outputs.
    """
    o, c, count = w.shape
    side = STEP - 1 + len(taps)
    channel_step, output_step, outputs = (c * count, count, c) if turned else (count, c * count, o)
    flat, starts = w.reshape(-1), stack.empty(LANES, np.int64)
    first, step = ((count - 1) * width, -width) if backward else (0, width)
    for k in range(0, width, LANES):
        source = channel * channel_step + (output + k) * output_step
        place_planes(starts, 0, outputs - output - k, output_step)
        for tap in range(0, count, LANES):
            _transpose(row, tap * width + k, width, flat, source + tap, starts, min(LANES, count - tap))
        _transform_filter(taps, row, first + k, len(taps) * step, step, filters, target + k, side * element, element)


@jit
def transform_back(sums, first, element, dw, taps, channel, output, width, accumulate, row):
    """dw (+)= G^T s G for one channel and ``width`` outputs; element e of s begins at sums[first + e element].

    ``row`` takes those of a vector of outputs.
    """
    o, c, count = dw.shape
    side, flat, nothing = STEP - 1 + len(taps), dw.reshape(-1), stack.zeros(LANES, dw.dtype)
    for k in range(0, width, LANES):
        _transform_filter_back(taps, sums, first + k, side * element, element, row, 0, len(taps) * LANES, LANES)
        for tap in range(0, count, LANES):
            simd.write_transposed(
                flat, ((output + k) * c + channel) * count + tap, c * count, min(LANES, o - output - k),
                row, tap * LANES, LANES, nothing, 0, dw.dtype.type(-np.inf), flat, accumulate, min(LANES, count - tap),
            )  # fmt: skip


_transpose, _transpose_and_check = simd.transposing_copy(LANES), simd.transposing_copy(LANES, checks=True)
