"""The transforms of ``winograd``: tiles of inputs, outputs and gradients, and filters.

Images are turned to vectors of channels, a row of tiles at a time. The matrices A, B and G follow from the points at
which Toom and Cook multiply polynomials.
"""

from typing import NamedTuple

import numpy as np

from blobnet.kernels import patches, product, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.finite import sum_of_nothing
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.workspace import CACHE_LINE

LANES = simd.lanes(np.dtype(np.float32))
PANEL = product.NV * LANES  # outputs
UNIT = max(LANES, product.MR)  # channels
IN = 6  # extent of a tile of inputs; of one of outputs IN + 1 - taps
ELEMENTS = IN * IN


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


class Grid(NamedTuple):
    """The tiles of images, and the planes [height, width] whose pixels they take in or give out."""

    rows: int  # of tiles
    columns: int
    step: int  # pixels from one tile to the next
    height: int
    width: int
    pad_h: int  # pixels of the first tile outside the plane
    pad_w: int


def grids(geometry: Geometry) -> tuple[Grid, Grid]:
    """The tiles of inputs, which overlap, and those of outputs."""
    step = IN + 1 - geometry.kernel[0]
    rows, columns = (-(-extent // step) for extent in geometry.output)
    return Grid(rows, columns, step, *geometry.input, *geometry.pad), Grid(rows, columns, step, *geometry.output, 0, 0)


def row_size(inputs: Grid) -> int:
    """Elements for the pixels of a row of tiles, a vector of channels each, and as many more as a copy may overrun."""
    return (IN * (inputs.columns * inputs.step + IN - inputs.step) + LANES) * LANES


def spaced(size: int) -> int:
    """Elements from one element of the tiles to the next: an odd number of cache lines, lest they evict each other."""
    line = CACHE_LINE // 4
    return (-(-size // line) | 1) * line


@jit
def padded(count):
    """Taps rounded up to whole vectors."""
    return -(-count // LANES) * LANES


@jit
def find_piece(grid, tile, last):
    """The image, row and column of a tile, and how many are left of its row, none at ``last`` or beyond."""
    image, within = divmod(tile, grid.rows * grid.columns)
    row, column = divmod(within, grid.columns)
    return image, row, column, min(grid.columns - column, last - tile)


@jit
def transform_tiles(first, last, x, grid, row, v, tile_step, unit_step, element_step):
    """B^T d B of the tiles first to last of x [N, C, pixels]; returns the sum of 0 times each value of x.

    Element e of unit k of the channels of tile first + t begins at v[e element_step + t tile_step + k unit_step].
    """
    c, flat, nothing = x.shape[1], x.reshape(-1), x.dtype.type(0)
    for k in range(0, c, LANES):
        tile, target = first, k // UNIT * unit_step + k % UNIT
        while tile < last:
            image, above, left, count = find_piece(grid, tile, last)
            overlap = IN - grid.step
            width = count * grid.step + overlap
            known = overlap if above > 0 and count == grid.columns <= tile - first else 0  # from the row of tiles above
            patches.copy(row[: known * width * LANES], row[grid.step * width * LANES :])
            plane = (image * c + k) * grid.height * grid.width
            nothing += turn_rows(flat, plane, grid, above, left, known, IN, width, row)
            for t in range(tile - first, tile - first + count):
                place = (t + first - tile) * grid.step * LANES
                spot = target + t * tile_step
                _transform_input(row, place, width * LANES, LANES, v, spot, IN * element_step, element_step)
            tile += count
    return nothing


@jit
def transform_some(start, stop, x, inputs: Grid, v, v_row, nothing, row):
    """``transform_tiles`` for the tiles start to stop; ``nothing`` takes what it returns."""
    nothing[start] = transform_tiles(
        start, stop, x, inputs, row, v.reshape(-1)[start * v_row :], v_row, UNIT, v.shape[1]
    )


@jit
def turn_rows(x, plane, grid, above, left, first, last, width, row):
    """Rows first to last of a row of tiles, as row [last, width, LANES] of vectors of channels, zeros around.

    plane  where the first of the channels begins in x
    A vector of pixels may overrun its row; the next row, or the slack after the last one, takes it.
    Returns the sum of 0 times each value.
    """
    starts = np.arange(LANES) * (grid.height * grid.width)
    corner = left * grid.step - grid.pad_w
    for r in range(first, last):
        h, target = above * grid.step + r - grid.pad_h, r * width * LANES
        begin, end = max(0, -corner), max(0, min(width, grid.width - corner))
        if h < 0 or h >= grid.height:
            begin = end = 0
        for q in range(begin, end, LANES):
            source = plane + h * grid.width + corner + q
            _transpose(row, target + q * LANES, LANES, x, source, starts, min(LANES, end - q))
        patches.fill(row, target, target + begin * LANES)
        patches.fill(row, target + end * LANES, target + width * LANES)
    return sum_of_nothing(row[first * width * LANES : last * width * LANES])


@jit
def write_tiles(first, last, k_start, k_stop, m, start, tile_step, element_step, row, y, grid, bias, least, accumulate):
    """y [N, O, pixels] = A^T m A of the tiles first to last, + bias, + y where it accumulates, not below ``least``.

    Of the outputs k_start to k_stop; element e of tile first + t begins at m[start + e element_step + t tile_step].
    """
    o, flat, size = y.shape[1], y.reshape(-1), grid.height * grid.width
    for k in range(k_start, k_stop, LANES):
        tile = first
        while tile < last:
            image, above, left, count = find_piece(grid, tile, last)
            width = count * grid.step * LANES
            for t in range(tile - first, tile - first + count):
                source, place = start + t * tile_step + k - k_start, (t + first - tile) * grid.step * LANES
                if grid.step == 4:
                    _transform_output_3(m, source, IN * element_step, element_step, row, place, width, LANES)
                else:
                    _transform_output_5(m, source, IN * element_step, element_step, row, place, width, LANES)
            rows = min(grid.step, grid.height - above * grid.step)
            pixels = min(count * grid.step, grid.width - left * grid.step)
            if pixels == grid.width and pixels * LANES == width:  # neighbours in memory, row after row
                rows, pixels = 1, rows * pixels
            target = (image * o + k) * size + above * grid.step * grid.width + left * grid.step
            for r in range(rows):
                for q in range(0, pixels, LANES):
                    simd.write_transposed(
                        flat, target + r * grid.width + q, size, row, r * width + q * LANES, bias, k, least, accumulate,
                        min(LANES, pixels - q),
                    )  # fmt: skip
            tile += count


@jit
def transform_both(start, stop, first, x, inputs: Grid, v, dy, outputs: Grid, z, count, nothing, row):
    """B^T d B and A dy A^T of tile first + t, for t from start to stop, in panels for ``add_products``.

    v [element, C / UNIT, count, UNIT], z [element, O / PANEL, count, PANEL]
    nothing  at ``start`` grows by the sum of 0 times each value of x and dy
    """
    v_size, z_size, o = v.shape[1], z.shape[1], dy.shape[1]
    flat, gradients = z.reshape(-1), dy.reshape(-1)
    begin, end = first + start, first + stop
    total = transform_tiles(begin, end, x, inputs, row, v.reshape(-1)[start * UNIT :], UNIT, count * UNIT, v_size)
    for k in range(0, o, LANES):
        tile, panel = begin, k // PANEL * PANEL
        step = min(PANEL, o - panel)
        while tile < end:
            image, above, left, pieces = find_piece(outputs, tile, end)
            plane, width = (image * o + k) * outputs.height * outputs.width, pieces * outputs.step
            total += turn_rows(gradients, plane, outputs, above, left, 0, outputs.step, width, row)
            for t in range(tile - first, tile - first + pieces):
                source = (t + first - tile) * outputs.step * LANES
                target = panel * count + t * step + k - panel
                if outputs.step == 4:
                    _transform_gradient_3(row, source, width * LANES, LANES, flat, target, IN * z_size, z_size)
                else:
                    _transform_gradient_5(row, source, width * LANES, LANES, flat, target, IN * z_size, z_size)
            tile += pieces
    nothing[start] += total


@jit
def transform_filter(w, turned, channel, output, width, filters, target, element, taps):
    """G g G^T of the filters of one channel and of ``width`` outputs; element e begins at filters[target + e element].

    ``taps`` takes the filters with vectors of outputs.
    """
    _, c, count = w.shape
    channel_step, output_step = (c * count, count) if turned else (count, c * count)
    flat, starts = w.reshape(-1), np.arange(LANES) * output_step
    first, step = ((count - 1) * width, -width) if turned else (0, width)
    for k in range(0, width, LANES):
        source = channel * channel_step + (output + k) * output_step
        for tap in range(0, count, LANES):
            _transpose(taps, tap * width + k, width, flat, source + tap, starts, min(LANES, count - tap))
        if count == 9:
            _transform_filter_3(taps, first + k, 3 * step, step, filters, target + k, IN * element, element)
        else:
            _transform_filter_5(taps, first + k, 5 * step, step, filters, target + k, IN * element, element)


@jit
def transform_back(sums, first, element, dw, channel, output, width, accumulate, taps):
    """dw (+)= G^T s G for one channel and ``width`` outputs; element e of s begins at sums[first + e element].

    ``taps`` takes those of a vector of outputs.
    """
    _, c, count = dw.shape
    flat, nothing = dw.reshape(-1), np.zeros(LANES, dw.dtype)
    for k in range(0, width, LANES):
        if count == 9:
            _transform_filter_back_3(sums, first + k, IN * element, element, taps, 0, 3 * LANES, LANES)
        else:
            _transform_filter_back_5(sums, first + k, IN * element, element, taps, 0, 5 * LANES, LANES)
        for tap in range(0, count, LANES):
            simd.write_transposed(
                flat, ((output + k) * c + channel) * count + tap, c * count, taps, tap * LANES,
                nothing, 0, dw.dtype.type(-np.inf), accumulate, min(LANES, count - tap),
            )  # fmt: skip


_transpose = simd.transposing_copy(LANES)
