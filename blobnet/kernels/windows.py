"""Rows of pooling windows, a vector of neighbouring windows at a time, one window a lane.

Lanes meet the same tap of their windows at once: every ``stride``-th pixel of a row of the image. For the sizes of
window that matter that is a vector or two to load: such windows must lie in memory whole, and so must what lanes beyond
the last window would read. For any other size each lane loads for itself, and only what lies in the image. Results go
to ``k`` on, whole vectors again, but none reaches ``end``.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels.instructions import Emitter, constant, opened

_INT32 = ir.IntType(32)


class Size(NamedTuple):
    """Rows and taps of a window, and pixels from one to the next, 1 or 2."""

    rows: int
    taps: int
    stride: int


def largest(size: Size | None = None):
    """The intrinsic for the largest pixels of windows of a size, or of any."""

    @intrinsic
    def find_largest(typing, image, pitch, window, count, top, left, width, y, k, mask, end):
        """y = the largest pixel of each of ``count`` windows, NaN where there is one; mask: its number in the image.

        image      where the row of the first taps begins, column 0; pitch: pixels to the next row
        window     its size: rows in the image, taps, stride
        top, left  row and column of the first tap of the first window in the image, of this width; may be negative
        """

        def emit(context, builder, signature, arguments):
            emitter, image, y, mask = opened(context, builder, signature, arguments, 0, 7, 9)
            _, pitch, window, count, top, left, width, _, k, _, end = arguments
            lowest = ir.Constant(emitter.vector, [float("-inf")] * emitter.lanes)
            scan = _Scan(emitter, image, pitch, window, size, left, width, lowest)
            nothing = ir.Constant(ir.VectorType(_INT32, emitter.lanes), None)

            def number(row, columns):
                return builder.add(emitter.splat(builder.trunc(builder.mul(row, width), _INT32)), columns)

            def results(j):
                columns = scan.columns(builder.add(left, builder.mul(j, scan.stride)))
                corner = number(top, columns)
                row = builder.select(builder.icmp_signed("<", top, constant(0)), constant(0), top)
                inside = builder.select(builder.icmp_signed("<", columns, nothing), nothing, columns)
                best = cgutils.alloca_once_value(builder, lowest)
                place = cgutils.alloca_once_value(builder, number(row, inside))

                def compare(pixels, row, tap):
                    known = builder.load(best)
                    larger = builder.fcmp_ordered(">", pixels, known)
                    larger = builder.or_(larger, builder.fcmp_unordered("uno", pixels, pixels))
                    shift = builder.add(builder.mul(row, width), tap)
                    position = builder.add(corner, emitter.splat(builder.trunc(shift, _INT32)))
                    builder.store(builder.select(larger, pixels, known), best)
                    builder.store(builder.select(larger, position, builder.load(place)), place)

                scan.meet(j, compare)
                return (y, builder.load(best)), (mask, builder.load(place))

            scan.store(count, k, end, results)
            return context.get_dummy_value()

        index = types.intp
        return types.void(image, index, window, *[index] * 4, y, index, mask, index), emit

    return find_largest


class _Scan:
    """A row of windows met vector by vector, and each of those tap by tap."""

    def __init__(self, emitter: Emitter, image, pitch, window, size: Size | None, left, width, outside):
        self._emitter, self._image, self._pitch, self._size = emitter, image, pitch, size
        self._left, self._width, self._outside = left, width, outside
        given = [emitter.builder.extract_value(window, number) for number in range(3)]
        self._rows, self._taps, self.stride = map(constant, size) if size else given

    def columns(self, first: ir.Value) -> ir.Value:
        """The columns of the lanes' first taps, from that of the first lane on."""
        emitter, builder = self._emitter, self._emitter.builder
        lanes = ir.Constant(ir.VectorType(_INT32, emitter.lanes), list(range(emitter.lanes)))
        steps = builder.mul(emitter.splat(builder.trunc(self.stride, _INT32)), lanes)
        return builder.add(emitter.splat(builder.trunc(first, _INT32)), steps)

    def store(self, count, k, end, results: Callable) -> None:
        """Store what results(j) gives, pairs of memory and vector for the windows from j on."""
        builder = self._emitter.builder
        with cgutils.for_range_slice(builder, constant(0), count, constant(self._emitter.lanes)) as (j, _):
            for memory, vector in results(j):
                self._emitter.store_before(end, vector, memory, builder.add(k, j))

    def meet(self, j, visit: Callable) -> None:
        """Call visit(pixels, row, tap) for each tap of the windows from j on."""
        builder = self._emitter.builder
        first = builder.add(self._left, builder.mul(j, self.stride))
        if self._size:
            for row, tap in itertools.product(range(self._size.rows), range(self._size.taps)):
                visit(self._neighbours(first, constant(row), constant(tap)), constant(row), constant(tap))
        else:
            with cgutils.for_range(builder, self._rows) as row, cgutils.for_range(builder, self._taps) as tap:
                visit(self._one_by_one(first, row.index, tap.index), row.index, tap.index)

    def _neighbours(self, column, row, tap) -> ir.Value:
        """Every pixel from the column on, or every second."""
        emitter, builder = self._emitter, self._emitter.builder
        position = builder.add(builder.add(builder.mul(row, self._pitch), column), tap)
        vectors = [
            emitter.load(self._image, builder.add(position, constant(number * emitter.lanes)))
            for number in range(self._size.stride)
        ]
        if len(vectors) == 1:
            return vectors[0]
        every_second = ir.Constant(ir.VectorType(_INT32, emitter.lanes), list(range(0, 2 * emitter.lanes, 2)))
        return builder.shuffle_vector(*vectors, every_second)

    def _one_by_one(self, column, row, tap) -> ir.Value:
        """The pixels from the column on that lie in the image."""
        emitter, builder, pixels = self._emitter, self._emitter.builder, self._outside
        start = builder.mul(row, self._pitch)
        for lane in range(emitter.lanes):
            place = builder.add(builder.add(column, tap), builder.mul(self.stride, constant(lane)))
            inside = builder.icmp_unsigned("<", place, self._width)
            place = builder.add(start, builder.select(inside, place, constant(0)))
            number = ir.Constant(_INT32, lane)
            pixel = builder.select(
                inside, builder.load(emitter.address(self._image, place)), builder.extract_element(pixels, number)
            )
            pixels = builder.insert_element(pixels, pixel, number)
        return pixels
