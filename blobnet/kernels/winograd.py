"""3 x 3 and 5 x 5 convolutions at stride 1 by Winograd's minimal filtering: a quarter or a sixth of the work.

F(4 x 4, 3 x 3) and F(4 x 4, 5 x 5) of Lavin and Gray 2016, section 4.1: a tile of 4 x 4 outputs comes from 6 x 6 or
8 x 8 inputs d and the filter g as

    A^T [ (G g G^T) . (B^T d B) ] A        . element by element, then summed over the channels

so a sum over channels and taps becomes 36 or 64 products of matrices, one per element of the tile: 36 / (16 x 9) and
64 / (16 x 25) of the multiplications. The matrices follow from the points at which Toom and Cook multiply
polynomials. Those here for 3 taps lose two to four times less precision than the usual 0, 1, -1, 2, -2: measured over
64 to 512 channels, the worst error is 1.4e-6 to 4e-6 of the largest output, that of the direct sum 1.2e-6 to 2.5e-6.
With 5 taps it is 5e-6 over 20 to 64 channels, that of the direct sum 1e-6.

The gradient of the input is the convolution of dy by the turned filters. Where dy has far fewer tiles than the input,
as without padding, it is instead the transpose of the above: the tiles B [ (G g G^T) . (A dy A^T) ] B^T of dy overlap
and add up (LeNet's second layer: 0.9 instead of 1.9 ms on one thread).

Transforms work on vectors of channels, the last of which may be empty in part. Tiles of all images form one long row,
cut into blocks: each block is turned to channels last, a vector of channels of a row of tiles at a time, transformed,
multiplied, transformed back and turned back while it is in the cache. Where there are many channels and few tiles,
filters outweigh them: then one panel of outputs after the other takes all tiles, and its filters, or their gradients,
are transformed in the cache. What is not finite would spread over a tile, so it is left to other ways.
"""

import functools
import math

import numpy as np

from blobnet import config
from blobnet.kernels import product, simd, stack
from blobnet.kernels._jit import jit
from blobnet.kernels.finite import all_finite
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.tiles import (
    CHANNELS_AT_ONCE,
    CHANNELS_TO_FETCH,
    FEW_TILES,
    MANY_CHANNELS,
    MOST_GROUPS,
    MOST_SUMS,
    SMALL_IMAGE,
    TILES_AT_ONCE,
    TIMES_OF_A_GROUP,
    TRANSFORMS_AT_ONCE,
    WINOGRAD_ELEMENTS,
    WINOGRAD_ELEMENTS_OF_MANY,
    WINOGRAD_ELEMENTS_OF_SMALL_IMAGES,
)
from blobnet.kernels.winograd_transforms import (
    LANES,
    PANEL,
    STEP,
    UNIT,
    Grid,
    elements_of,
    first_image,
    grids,
    padded,
    row_size,
    spaced,
    taps_of,
    transform_back,
    transform_both,
    transform_filter,
    transform_gradients,
    transform_some,
    transform_tiles,
    whole_units,
    write_overlapping_tiles,
    write_tiles,
)
from blobnet.kernels.workspace import work_array

# Where it pays: channels, and tiles for few channels and for many, of a convolution, of one whose filters are kept
# transformed, and of a gradient of the weights. Measured on ResNet's and VGG's layers: 3 x 3 over 64 to 256 channels
# runs 2 to 2.8 times as fast as the direct sum; kept filters of 256 channels over 16 tiles take 1.25 ms, directly 0.95.
LEAST_CHANNELS = 16
LEAST_TILES, LEAST_TILES_KEPT, LEAST_TILES_OF_WEIGHTS = (32, 16), (12, 20), (48, 16)

# Images from which on the gradient of the data may take them one by one.
LEAST_IMAGES = 16


@functools.lru_cache(maxsize=256)
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
        and min(channels, filters) >= LEAST_CHANNELS
        and images * math.prod(-(-extent // STEP) for extent in geometry.output)
        >= least_tiles[min(channels, filters) >= MANY_CHANNELS]
    )


def transformed(w: np.ndarray, keep: bool = False, turned: bool = False, backward: bool = False) -> np.ndarray:
    """The filters w [O, C, taps] as ``correlate`` takes them; in memory of their own, if they are to be kept.

    turned    O and C are exchanged
    backward  the taps are in opposite order
    """
    o, c, count = w.shape
    channels, outputs = (o, c) if turned else (c, o)
    size = elements_of(count) * channels * padded(outputs)
    filters = np.empty(size, w.dtype) if keep else work_array("filters", (size,), w.dtype)
    work = scratch(padded(count) * PANEL, w.dtype)
    how = taps_of(count), turned, backward, outputs
    parallel_for(transform_filters, channels, w, *how, filters, grain=8, scratch=work)
    return filters


def correlate(
    x: np.ndarray,
    w: np.ndarray,
    y: np.ndarray,
    geometry: Geometry,
    bias: np.ndarray | None,
    least: float = -math.inf,
    addend: np.ndarray | None = None,
    first: int = 0,
    turned: bool = False,
    filters: np.ndarray | None = None,
) -> bool:
    """y = w * x + bias + addend, or ``least`` where that is less.

    x [N, C, pixels], w [O, C, taps], or [C, O, taps] backward if ``turned``, y [N, O, pixels]
    addend   [N, O, pixels], not y
    first    as of ``convolution.forward``, where there is a bias
    filters  w ``transformed``, where that is kept
    False if not all of x is finite; then y holds nothing of use.
    """
    inputs, outputs = grids(geometry)
    tiles = len(x) * inputs.rows * inputs.columns
    bias = np.zeros(y.shape[1], y.dtype) if bias is None else bias
    results = y, first, outputs, bias, y.dtype.type(least), y if addend is None else addend, addend is not None
    if filters is None and tiles <= FEW_TILES and min(x.shape[1], len(bias)) >= MANY_CHANNELS:
        return _correlate_by_panels(x, inputs, w, turned, results, tiles)
    return _correlate_by_blocks(
        x, inputs, transformed(w, turned=turned, backward=turned) if filters is None else filters, results, tiles
    )


def _correlate_by_blocks(x, inputs, filters, results, tiles: int) -> bool:
    """A block of tiles at a time."""
    c, o, elements = x.shape[1], len(results[3]), inputs.side**2
    fetches = CHANNELS_TO_FETCH <= c < MANY_CHANNELS and inputs.rows * inputs.columns <= SMALL_IMAGE
    few = WINOGRAD_ELEMENTS_OF_SMALL_IMAGES if fetches else WINOGRAD_ELEMENTS
    most = (few if c < MANY_CHANNELS else WINOGRAD_ELEMENTS_OF_MANY) // elements
    blocks = -(-tiles // most)
    blocks += -blocks % config.threads()
    block = -(-tiles // blocks // product.MR) * product.MR
    blocks = -(-tiles // block)
    steps = v_row, _, m_row, _ = _steps(elements, c, o)
    work = scratch(block * (v_row + m_row) + row_size(inputs), x.dtype)
    sizes = tiles, block, *steps, fetches
    nothing = np.empty(blocks, x.dtype)
    parallel_for(correlate_blocks, blocks, x, inputs, filters, *results, *sizes, nothing, scratch=work)
    return all_finite(nothing)


def _steps(elements: int, channels: int, outputs: int) -> tuple[int, int, int, int]:
    """From a transformed tile to the next, and from one of its elements to the next; the same of their products."""
    v_step, m_step = spaced(padded(channels)), spaced(padded(outputs))
    return spaced(elements * v_step), v_step, spaced(elements * m_step), m_step


def _correlate_by_panels(x, inputs, w, turned: bool, results, tiles: int) -> bool:
    """A panel of outputs at a time, whose filters are transformed in the cache, over the tiles of all images."""
    c, o, count, elements = x.shape[1], len(results[3]), w.shape[2], inputs.side**2
    v_row, whole_tiles = padded(c) + LANES, -(-tiles // product.MR) * product.MR
    v = work_array("input tiles", (elements, spaced(whole_tiles * v_row)), x.dtype)
    nothing, row = np.zeros(tiles, x.dtype), scratch(row_size(inputs), x.dtype)
    parallel_for(transform_some, tiles, x, inputs, v, v_row, nothing, grain=product.MR, scratch=row)
    if not all_finite(nothing):
        return False
    u_size, m_size = spaced(CHANNELS_AT_ONCE * PANEL), spaced(whole_tiles * (PANEL + LANES))
    work = scratch(elements * (u_size + m_size) + padded(count) * PANEL + row_size(inputs), x.dtype)
    sizes = tiles, v_row, u_size, m_size
    parallel_for(correlate_panels, -(-o // PANEL), v, w, turned, *results, *sizes, scratch=work)
    return True


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> bool:
    """dx = the gradient of the input of ``correlate`` + bias. False if not all of dy is finite."""
    inputs, outputs = grids(geometry)
    if _spreads(inputs, len(dy)):
        return _spread_by_images(dy, w, dx, inputs, outputs, bias)
    return correlate(dy, w, dx, geometry.reversed(), bias, turned=True)


def _spreads(inputs: Grid, images: int) -> bool:
    """Whether dy has far fewer tiles than dx, and those of an image stay in the cache."""
    tiles, tiles_of_dx = inputs.rows * inputs.columns, -(-inputs.height // STEP) * -(-inputs.width // STEP)
    return images >= LEAST_IMAGES and tiles * inputs.side**2 <= WINOGRAD_ELEMENTS and 3 * tiles <= 2 * tiles_of_dx


def _spread_by_images(dy, w, dx, inputs, outputs, bias: np.ndarray | None) -> bool:
    """dx = the sum over the tiles of dy of B [ (G g G^T) . (A dy A^T) ] B^T, which overlap."""
    o, c, elements, tiles = dy.shape[1], dx.shape[1], inputs.side**2, inputs.rows * inputs.columns
    at_once = WINOGRAD_ELEMENTS // (elements * tiles)
    block = -(-at_once * tiles // product.MR) * product.MR
    steps = z_row, _, m_row, _ = _steps(elements, o, c)
    work = scratch(block * (z_row + m_row) + row_size(inputs), dy.dtype)
    bias = np.zeros(c, dx.dtype) if bias is None else bias
    sizes = at_once, block, *steps
    nothing = np.zeros(len(dy), dy.dtype)
    what = dy, outputs, transformed(w, turned=True), dx, inputs, bias
    parallel_for(spread_tiles, len(dy), *what, *sizes, nothing, grain=at_once, scratch=work)
    return all_finite(nothing)


def backward_weights(
    x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry, accumulate: bool = True
) -> bool:
    """dw (+)= G^T [ sum over tiles of (B^T d B) . (A dy A^T) ] G.

    False if not all is finite; then dw holds nothing of use, or what it held, if it accumulates.
    """
    inputs, outputs = grids(geometry)
    tiles = len(x) * inputs.rows * inputs.columns
    if x.shape[1] * dy.shape[1] <= MOST_SUMS:
        return _sum_by_groups(x, inputs, dy, outputs, tiles, dw, accumulate)
    return _sum_by_panels(x, inputs, dy, outputs, tiles, dw, accumulate)


def _sum_by_groups(x, inputs, dy, outputs, tiles: int, dw, accumulate: bool) -> bool:
    """Groups of tiles with sums of their own."""
    o, c, count = dw.shape
    elements, rows, columns = inputs.side**2, whole_units(c), padded(o)
    at_once = TRANSFORMS_AT_ONCE // elements // (rows + columns) // product.MR * product.MR
    groups = min(MOST_GROUPS, -(-tiles // (TIMES_OF_A_GROUP * at_once)))
    sums, nothing = work_array("filters", (groups, elements, rows, columns), x.dtype), np.zeros(groups, x.dtype)
    v_size, z_size = spaced(at_once * rows), spaced(at_once * columns)
    work = scratch(elements * (v_size + z_size) + row_size(inputs), x.dtype)
    what = x, inputs, dy, outputs, tiles, at_once, v_size, z_size
    parallel_for(sum_groups, groups, *what, sums, nothing, scratch=work)
    if not all_finite(nothing):
        return False
    work = scratch(padded(count) * LANES, dw.dtype)
    parallel_for(transform_groups_back, c, sums, dw, inputs.taps, accumulate, grain=8, scratch=work)
    return True


def _sum_by_panels(x, inputs, dy, outputs, tiles: int, dw, accumulate: bool) -> bool:
    """Sums of a panel of outputs at a time, transformed back in the cache, over as many tiles as are kept at once."""
    o, c, count = dw.shape
    elements, rows, columns = inputs.side**2, whole_units(c), padded(o)
    if accumulate and tiles > TILES_AT_ONCE and not (all_finite(x) and all_finite(dy)):
        return False
    for first in range(0, tiles, TILES_AT_ONCE):
        number = min(TILES_AT_ONCE, tiles - first)
        v, z = (
            work_array(use, (elements, spaced(number * channels)), x.dtype)
            for use, channels in (("input tiles", rows), ("gradient tiles", columns))
        )
        nothing = np.zeros(number, x.dtype)
        what = first, x, inputs, v, dy, outputs, z, number, nothing
        parallel_for(transform_both, number, *what, grain=product.MR, scratch=scratch(row_size(inputs), x.dtype))
        if not all_finite(nothing):
            return False
        work = scratch((elements * PANEL + padded(count)) * UNIT, dw.dtype)
        items = -(-o // PANEL) * (rows // UNIT)
        parallel_for(sum_panels, items, v, z, number, dw, inputs.taps, accumulate or first > 0, scratch=work)
    return True


@jit
def correlate_blocks(start, stop, x, inputs: Grid, filters, y, y_first, outputs: Grid, bias, least, addend, accumulate,
                     tiles, block, v_row, v_step, m_row, m_step, fetches, nothing, work):  # fmt: skip
    """Blocks start to stop of the tiles: transform, multiply element by element, transform back.

    fetches          while a block is multiplied, fetch the images of y and of the next block of x that begin in it
    nothing [block]  becomes the sum of 0 times each value of x: NaN if one of them is not finite
    """
    o, m = bias.size, block * v_row
    row, y_end, x_end = work[m + block * m_row :], 0, 0
    for number in range(start, stop):
        first, last = number * block, min(number * block + block, tiles)
        nothing[number] = transform_tiles(first, last, x, inputs, row, work, v_row, UNIT, v_step)
        y_place, x_place = first_image(first, y, outputs), first_image(last, x, inputs)
        if fetches:
            y_end, x_end = first_image(last, y, outputs), first_image(min(last + block, tiles), x, inputs)
        multiply_elements(
            last - first, inputs.side**2, x.shape[1], o, filters, work, v_row, v_step, m, m_row, m_step,
            y, y_place, y_end, x, x_place, x_end,
        )  # fmt: skip
        write_tiles(
            first, last, 0, o, work, m, m_row, m_step, row, y, y_first, outputs, bias, least, addend, accumulate
        )


@jit
def multiply_elements(tiles, elements, c, o, filters, work, v_row, v_step, m, m_row, m_step,
                      y, y_place, y_end, x, x_place, x_end):  # fmt: skip
    """Each element of so many transformed tiles times that of the filters: sums over C channels, for O outputs.

    Element e of tile t begins at work[t v_row + e v_step], its product at work[m + t m_row + e m_step].
    The first tiles of a panel of filters fetch the next. Each tile fetches a share of y, from y_place to y_end, then
    of x: all at once they would keep the multiplications waiting.
    """
    o = padded(o)
    share = padded((max(0, y_end - y_place) + max(0, x_end - x_place)) // (elements * -(-tiles // product.MR)) + 1)
    for element in range(elements):
        for panel in range(0, o, PANEL):
            width = min(PANEL, o - panel)
            b = (element * o + panel) * c
            for tile in range(0, tiles, product.MR):
                number, v = tile // product.MR, tile * v_row + element * v_step
                place = m + tile * m_row + element * m_step + panel
                if panel == 0 and y_place < y_end:
                    simd.fetch(y, y_place, share)
                    y_place += share
                elif panel == 0 and x_place < x_end:
                    simd.fetch(x, x_place, share)
                    x_place += share
                if number < product.NV and width == PANEL:
                    product.multiply_tile_and_fetch(
                        work, v, v_row, 1, filters, b, width, c, work, place, m_row, False,
                        filters, b + width * c + number * LANES, width,
                    )  # fmt: skip
                else:
                    product.multiply_tile(
                        work, v, v_row, 1, filters, b, width, c, work, place, m_row, False, width // LANES
                    )


@jit
def spread_tiles(start, stop, dy, outputs: Grid, filters, dx, inputs: Grid, bias,
                 at_once, block, z_row, z_step, m_row, m_step, nothing, work):  # fmt: skip
    """Images start to stop, some at once: transform dy, multiply element by element, add up what the tiles give.

    nothing [images]  becomes NaN where some of dy is not finite
    """
    tiles, m = inputs.rows * inputs.columns, block * z_row
    row = work[m + block * m_row :]
    for first in range(start, stop, at_once):
        images, absent = min(at_once, stop - first), stack.zeros(LANES, dy.dtype)
        for k in range(0, dy.shape[1], LANES):
            transform_gradients(
                first * tiles, (first + images) * tiles, dy, outputs, k, row, work, k, z_row, z_step, absent
            )
        nothing[first] = absent.sum()
        multiply_elements(
            images * tiles, inputs.side**2, dy.shape[1], dx.shape[1], filters, work, z_row, z_step, m, m_row, m_step,
            dx, 0, 0, dy, 0, 0,
        )  # fmt: skip
        for image in range(images):
            write_overlapping_tiles(
                first + image, work, m + image * tiles * m_row, m_row, m_step, row, dx, inputs, bias
            )


@jit
def correlate_panels(start, stop, v, w, turned, y, y_first, outputs: Grid, bias, least, addend, accumulate,
                     tiles, v_row, u_size, m_size, work):  # fmt: skip
    """Panels start to stop of the outputs: transform the filters of some channels, multiply, and so on; transform back.

    v  the transformed tiles, as ``transform_some`` makes them
    """
    o, c, elements, v_flat = bias.size, w.shape[0 if turned else 1], outputs.side**2, v.reshape(-1)
    m_row, m, rest = PANEL + LANES, elements * u_size, elements * (u_size + m_size)
    filter_row, row = work[rest:], work[rest + padded(w.shape[2]) * PANEL :]
    for number in range(start, stop):
        panel = number * PANEL
        width = min(PANEL, padded(o) - panel)
        for first in range(0, c, CHANNELS_AT_ONCE):
            depth = min(CHANNELS_AT_ONCE, c - first)
            for channel in range(depth):
                target = channel * width
                transform_filter(
                    w, outputs.taps, turned, turned, first + channel, panel, width, work, target, u_size, filter_row
                )
            for element in range(elements):
                for tile in range(0, tiles, product.MR):
                    product.multiply_tile(
                        v_flat, element * v.shape[1] + tile * v_row + first, v_row, 1, work, element * u_size, width,
                        depth, work, m + element * m_size + tile * m_row, m_row, first > 0, width // LANES,
                    )  # fmt: skip
        write_tiles(
            0, tiles, panel, min(panel + width, o), work, m, m_row, m_size, row, y, y_first, outputs, bias, least,
            addend, accumulate,
        )  # fmt: skip


@jit
def sum_groups(start, stop, x, inputs: Grid, dy, outputs: Grid, tiles, at_once, v_size, z_size, sums, nothing, work):
    """sums [group, element, C, O] = the sum over the tiles of a group of v z, for the groups start to stop."""
    groups, elements, _, o = sums.shape
    middle, end = elements * v_size, elements * (v_size + z_size)
    v, z = work[:middle].reshape(elements, v_size), work[middle:end].reshape(elements, z_size)
    for group in range(start, stop):
        begin, last = tiles * group // groups, tiles * (group + 1) // groups
        for first in range(begin, last, at_once):
            count = min(at_once, last - first)
            transform_both(0, count, first, x, inputs, v, dy, outputs, z, count, nothing[group:], work[end:])
            add_products(0, elements * -(-o // PANEL), v, z, count, sums[group], first > begin)


@jit
def add_products(start, stop, v, z, count, sums, accumulate):
    """sums [element, C, O] (+)= the sum over the tiles of v z; an item is a panel of outputs of an element."""
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
                sums_flat, (element * c + row) * o + panel, o, accumulate, width // LANES,
            )  # fmt: skip


@jit
def transform_filters(start, stop, w, taps, turned, backward, outputs, filters, row):
    """G g G^T of w [O, C, count] in panels [element, outputs / PANEL, channels, PANEL], for the channels start to stop.

    Channels and outputs are C and O, or O and C of filters that are turned.
    """
    channels = w.shape[0 if turned else 1]
    element = channels * padded(outputs)
    for channel in range(start, stop):
        for panel in range(0, outputs, PANEL):
            width = min(PANEL, padded(outputs) - panel)
            target = panel * channels + channel * width
            transform_filter(w, taps, turned, backward, channel, panel, width, filters, target, element, row)


@jit
def transform_groups_back(start, stop, groups, dw, taps, accumulate, row):
    """dw [O, C, count] (+)= G^T s G of sums [group, element, C, O], for the channels start to stop.

    The first group becomes the sum of all.
    """
    _, elements, c, o = groups.shape
    for channel in range(start, stop):
        for group in range(1, len(groups)):
            for element in range(elements):
                total, others = groups[0, element, channel], groups[group, element, channel]
                for k in range(o):
                    total[k] += others[k]
        transform_back(groups.reshape(-1), channel * o, c * o, dw, taps, channel, 0, o, accumulate, row)


@jit
def sum_panels(start, stop, v, z, count, dw, taps, accumulate, work):
    """dw [O, C, taps] (+)= G^T s G of the sums s over the tiles of v z, by panels of outputs and units of channels.

    The first tile of an element fetches v of the next one.
    """
    o, c, _ = dw.shape
    v_flat, z_flat, units = v.reshape(-1), z.reshape(-1), -(-c // UNIT)
    for item in range(start, stop):
        panel, row = item // units * PANEL, item % units * UNIT
        width = min(PANEL, padded(o) - panel)
        for element in range(len(v)):
            for r in range(0, UNIT, product.MR):
                unit, b = element * v.shape[1] + row * count, element * z.shape[1] + panel * count
                place = (element * UNIT + r) * width
                if r == 0 and width == PANEL:
                    product.multiply_tile_and_fetch(
                        v_flat, unit, 1, UNIT, z_flat, b, width, count, work, place, width, False,
                        v_flat, unit + v.shape[1], UNIT,
                    )  # fmt: skip
                else:
                    product.multiply_tile(
                        v_flat, unit + r, 1, UNIT, z_flat, b, width, count, work, place, width, False, width // LANES
                    )
        row_of_taps = work[len(v) * UNIT * PANEL :]
        for r in range(min(UNIT, c - row)):
            transform_back(work, r * width, UNIT * width, dw, taps, row + r, panel, width, accumulate, row_of_taps)
