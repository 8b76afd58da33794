"""The gradient of a convolution's input as w^T dy, spread over the pixels under each patch: gemm and col2im.

An item of work is a block of channels of a few images. Its columns [channels x taps, images x output pixels] are
multiplied into the cache, and what of them meets one pixel is summed by vectors of pixels: each is written once.

    dx[n, c, i] = b[c] + sum over the pairs of a tap t and an output pixel p that meet at i of columns[c, t, p]
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from blobnet import config
from blobnet.kernels import packing, patches, product, simd
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.tiles import SPREAD_AT_ONCE, SPREAD_PANELS

# Pixels of the input for each of the output from which this way is the faster one at stride 1.
LEAST_RATIO = 1.5

# Rows of filters are packed in units of whole tiles, which begin at whole vectors.
UNIT = max(product.MR, simd.VECTOR_BYTES // 4)

# Items for each thread, where there are channels enough for them.
ITEMS_OF_A_THREAD = 4


def pays(dy: np.ndarray, geometry: Geometry, group: int) -> bool:
    """Whether the columns of a channel fit into the cache with their gradients, and the other way does more.

    That one runs over all pixels of the input, which without padding may be far more than the output's, and writes
    those that are a stride apart one by one.
    """
    _, o, p = dy.shape
    fits = p * (math.prod(geometry.kernel) + o // group) <= SPREAD_AT_ONCE
    return fits and (max(geometry.stride, default=1) > 1 or math.prod(geometry.input) > LEAST_RATIO * p)


def backward_data(
    dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, group: int, bias: np.ndarray | None
) -> None:
    """dx [N, C, pixels] = the gradient of the input, + bias [C], for dy [N, O, P] and w [O, C / G, taps]."""
    images, channels, _ = dx.shape
    _, c, taps = w.shape
    o, p = len(w) // group, dy.shape[2]
    shape = _shape(images, c, taps, o, p, group, dx.dtype, config.threads())
    filters = product.matrix_layout(o, c * taps, transposed=True, batch=group)
    table = pieces(geometry, shape.columns, shape.lanes)
    bias = np.zeros(channels, dx.dtype) if bias is None else bias
    operands = w.reshape(-1), filters, dy.reshape(-1), _gradients(images, o, p, group)
    work = scratch(shape.work + table.line_size, dx.dtype)
    parallel_for(spread_blocks, shape.count, *operands, taps, p, table, dx, bias, shape, scratch=work)


@functools.lru_cache(maxsize=64)
def _gradients(images: int, o: int, p: int, group: int) -> product.Layout:
    """dy [N, O, P] per group as [N x P, O / G]."""
    columns = np.add.outer(np.arange(images) * (group * o * p), np.arange(p)).reshape(-1)
    return product.Layout(np.arange(group) * (o * p), columns, np.arange(o) * p, False)


@functools.lru_cache(maxsize=256)
def _shape(images: int, c: int, taps: int, o: int, p: int, group: int, dtype: np.dtype, threads: int) -> product.Shape:
    """How w^T dy is cut: blocks of whole channels and whole images."""
    plain = product.shape_of(1, taps, p, o, dtype, in_place=False, kept=False, threads=1)
    at_once = max(1, min(images, SPREAD_PANELS * plain.panel // p))
    column_blocks = -(-images // at_once)
    columns = -(-at_once * p // plain.lanes) * plain.lanes
    blocks = max(
        -(-c * taps * (columns + o) // SPREAD_AT_ONCE), -(-ITEMS_OF_A_THREAD * threads // (column_blocks * group))
    )
    rows = -(-c // min(blocks, c)) * taps
    row_blocks = -(-c * taps // rows)
    whole_rows = -(-rows // UNIT) * UNIT
    slack = plain.panel * plain.lanes
    a_size, b_size = whole_rows * plain.depth + slack, columns * plain.depth + slack
    work = plain.slices * a_size + b_size + whole_rows * columns
    return plain._replace(
        rows=rows, columns=columns, row_blocks=row_blocks, column_blocks=column_blocks,
        count=group * row_blocks * column_blocks, a_size=a_size, b_size=b_size, work=work,
    )  # fmt: skip


class Pieces(NamedTuple):
    """What of the columns of a channel adds up to each vector of its plane.

    A line of the plane is taken apart into pixels that are ``stride`` apart, vectors of the first ones, then of those
    beside them. Vector v is the sum of the pieces from starts[v] to starts[v + 1]: columns[places[p] + lane] for the
    lanes from firsts[p] to ends[p].
    """

    starts: np.ndarray
    places: np.ndarray
    firsts: np.ndarray
    ends: np.ndarray
    stride: int
    width: int  # pixels of a line
    line_size: int  # elements of its vectors


@functools.lru_cache(maxsize=64)
def pieces(geometry: Geometry, pitch: int, lanes: int) -> Pieces:
    """Of columns [taps, pitch]."""
    frame, taps, pixels, row, stride = patches.patches(geometry)
    width = frame.row_length
    blocks = -(-width // (stride * lanes))
    vectors = stride * blocks
    tap, corner = np.divmod(np.arange(len(taps) * (len(pixels) // row)), len(pixels) // row)
    frame_line, column = np.divmod(taps[tap] + pixels[::row][corner], frame.extent)
    line = frame.rows[frame_line] // width
    shift, phase = np.divmod(column + frame.first, stride)  # where a row of output pixels lies under a tap
    found = []
    for block in range(blocks):
        first, end = shift - block * lanes, shift - block * lanes + row
        here = np.flatnonzero((line >= 0) & (end > 0) & (first < lanes))
        vector = line[here] * vectors + phase[here] * blocks + block
        place = tap[here] * pitch + corner[here] * row - first[here]
        found.append(np.stack([vector, place, np.maximum(first[here], 0), np.minimum(end[here], lanes)]))
    vector, places, firsts, ends = np.concatenate(found, axis=1)
    order = np.argsort(vector, kind="stable")
    lines = math.prod(geometry.input[:-1])
    starts = np.searchsorted(vector[order], np.arange(lines * vectors + 1))
    return Pieces(starts, places[order], firsts[order], ends[order], stride, width, vectors * lanes)


@jit
def spread_blocks(start, stop, w, w_layout: product.Layout, dy, dy_layout: product.Layout, taps, p, pieces: Pieces,
                  dx, bias, shape: product.Shape, work):  # fmt: skip
    """dx of the items start to stop, in the order group, block of channels, block of images."""
    images, groups = dx.shape[0], len(w_layout.starts)
    channels, depth = dx.shape[1] // groups, len(w_layout.inner)
    b_start = shape.slices * shape.a_size
    a_panels, b_panels = work[:b_start], work[b_start : b_start + shape.b_size]
    sums, line = work[b_start + shape.b_size : shape.work], work[shape.work :]
    for item in range(start, stop):
        block, part = divmod(item, shape.column_blocks)
        group, row = block // shape.row_blocks, block % shape.row_blocks * shape.rows
        row_stop = min(row + shape.rows, channels * taps)
        image, image_stop = images * part // shape.column_blocks, images * (part + 1) // shape.column_blocks
        column, column_stop = image * p, image_stop * p
        for k in range(0, depth, shape.depth):
            k_stop = min(k + shape.depth, depth)
            panels = a_panels[k // shape.depth * shape.a_size :]
            if item == start or part == 0:
                packing.pack(w, w_layout, group, row, row_stop, k, k_stop, panels, shape.tile, shape.unit, shape.lanes)
            packing.pack(
                dy, dy_layout, group, column, column_stop, k, k_stop, b_panels, shape.panel, shape.lanes, shape.lanes
            )
            extents = row_stop - row, column_stop - column, k_stop - k
            later = product.ahead(dy, dy_layout, group, column, k_stop, depth)
            product.multiply_panels(panels, b_panels, sums, extents, shape, k > 0, later)
        for channel in range(row // taps, row_stop // taps):
            number = group * channels + channel
            columns = sums[(channel * taps - row) * shape.columns :]
            for n in range(image, image_stop):
                add_pieces(columns[(n - image) * p :], pieces, line, dx[n, number], bias[number], shape.lanes)


@jit
def add_pieces(columns, pieces, line, plane, shift, lanes):
    """plane = the sum of the columns that meet each pixel, + shift."""
    vectors = pieces.line_size // lanes
    for first in range(0, len(pieces.starts) - 1, vectors):
        for v in range(vectors):
            begin, end = pieces.starts[first + v], pieces.starts[first + v + 1]
            simd.sum_pieces(columns, pieces.places, pieces.firsts, pieces.ends, begin, end, line, v * lanes)
        interleave(line, pieces, plane[first // vectors * pieces.width :], shift)


@jit
def interleave(line, pieces, target, shift):
    """The pixels of a line from those that are a stride apart, + shift."""
    stride, size = pieces.stride, pieces.line_size // pieces.stride
    for phase in range(stride):
        for q in range((pieces.width - phase + stride - 1) // stride):
            target[q * stride + phase] = line[phase * size + q] + shift
