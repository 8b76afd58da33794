"""The largest pixels of pooling windows, a vector of windows at a time, and where they are.

Along a row of windows each lane has its own: lanes meet the same tap of their windows at once, every ``stride``-th
pixel of a row of the image, which is a vector or two to load. Such windows must lie in memory whole, and so must what
lanes beyond the last window would read. Of planes side by side, each lane has the same window of its own plane.
"""

import itertools
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels.instructions import Emitter, constant, opened


class Size(NamedTuple):
    """Rows and taps of a window, and pixels from one to the next, 1 or 2."""

    rows: int
    taps: int
    stride: int


class _Largest:
    """The largest pixel that each lane has met, the first of equal ones, NaN once there was one; and its number."""

    def __init__(self, emitter: Emitter, pixels: ir.Value, numbers: ir.Value):
        self._emitter = emitter
        self._pixels = cgutils.alloca_once_value(emitter.builder, pixels)
        self._numbers = cgutils.alloca_once_value(emitter.builder, numbers)

    @property
    def pixels(self) -> ir.Value:
        return self._emitter.builder.load(self._pixels)

    @property
    def numbers(self) -> ir.Value:
        return self._emitter.builder.load(self._numbers)

    def meet(self, pixels: ir.Value, numbers: ir.Value) -> None:
        builder, known = self._emitter.builder, self.pixels
        larger = builder.fcmp_ordered(">", pixels, known)
        larger = builder.or_(larger, builder.fcmp_unordered("uno", pixels, pixels))
        builder.store(builder.select(larger, pixels, known), self._pixels)
        builder.store(builder.select(larger, numbers, self.numbers), self._numbers)


def largest(size: Size):
    """The intrinsic for a row of windows of a size."""

    @intrinsic
    def find_largest(typing, image, pitch, count, top, left, width, y, k, mask, end):
        """y = the largest pixel of each of ``count`` windows, NaN where there is one; mask: its number in the image.

        image      where the row of the first taps begins, column 0; pitch: pixels to the next row
        top, left  row and column of the first tap of the first window in the image, of this width; may be negative
        Results go to ``k`` on, whole vectors again, but none reaches ``end``.
        """

        def emit(context, builder, signature, arguments):
            emitter, image, y, mask = opened(context, builder, signature, arguments, 0, 6, 8)
            _, pitch, count, top, left, width, _, k, _, end = arguments
            steps = [lane * size.stride for lane in range(emitter.lanes)]
            nothing = emitter.integers([0] * emitter.lanes)
            row = builder.select(builder.icmp_signed("<", top, constant(0)), constant(0), top)
            with cgutils.for_range_slice(builder, constant(0), count, constant(emitter.lanes)) as (j, _):
                first = builder.add(left, builder.mul(j, constant(size.stride)))
                columns = builder.add(emitter.splat_integer(first), emitter.integers(steps))
                inside = builder.select(builder.icmp_signed("<", columns, nothing), nothing, columns)
                number = builder.add(emitter.splat_integer(builder.mul(row, width)), inside)
                found = _Largest(emitter, emitter.constant(float("-inf")), number)
                corner = builder.add(emitter.splat_integer(builder.mul(top, width)), columns)
                for h, w in itertools.product(range(size.rows), range(size.taps)):
                    position = builder.add(builder.mul(constant(h), pitch), builder.add(first, constant(w)))
                    vectors = [
                        emitter.load(image, builder.add(position, constant(number * emitter.lanes)))
                        for number in range(size.stride)
                    ]
                    [[pixels], *_] = emitter.halves(vectors) if size.stride == 2 else [vectors]
                    shift = builder.add(builder.mul(constant(h), width), constant(w))
                    found.meet(pixels, builder.add(corner, emitter.splat_integer(shift)))
                place = builder.add(k, j)
                emitter.store_before(end, found.pixels, y, place)
                emitter.store_before(end, found.numbers, mask, place)
            return context.get_dummy_value()

        index = types.intp
        return types.void(image, *[index] * 5, y, index, mask, index), emit

    return find_largest


@intrinsic
def meet_cells(typing, cells, row, upper, lower, left, right, width, known, y, mask, k):
    """Vector y[k] = the largest of the cells in some rows and columns, mask[k] = its number in the plane.

    cells         pixel after pixel of planes of this width, one plane a lane, from the start of ``row`` on
    upper, lower  rows that are met, to before ``lower``; left, right: columns likewise
    known         whether y[k] has met other cells already
    """

    def emit(context, builder, signature, arguments):
        emitter, cells, y, mask = opened(context, builder, signature, arguments, 0, 8, 9)
        _, row, upper, lower, left, right, width, known, _, _, k = arguments
        corner = emitter.splat_integer(builder.add(builder.mul(upper, width), left))
        found = _Largest(
            emitter,
            builder.select(known, emitter.load(y, k), emitter.constant(float("-inf"))),
            builder.select(known, emitter.load_integers(mask, k), corner),
        )
        with cgutils.for_range(builder, lower, start=upper) as h:
            start = builder.mul(builder.sub(h.index, row), width)
            number = builder.mul(h.index, width)
            with cgutils.for_range(builder, right, start=left) as w:
                place = builder.mul(builder.add(start, w.index), constant(emitter.lanes))
                found.meet(emitter.load(cells, place), emitter.splat_integer(builder.add(number, w.index)))
        emitter.store(found.pixels, y, k)
        emitter.store(found.numbers, mask, k)
        return context.get_dummy_value()

    index = types.intp
    return types.void(cells, *[index] * 6, types.boolean, y, mask, index), emit
