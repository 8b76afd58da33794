"""Loops along rows of numbers, a vector at a time, made from the formula of one element.

Left to itself the compiler takes vectors for long rows only, and the rest of each row number by number: most of the
work where rows are the planes of a small image.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import simd
from blobnet.kernels._jit import jit

# Vectors in hand at once: so many additions of a sum need not wait for each other.
VECTORS = 4


def loop(formula: Callable, sums: int = 0):
    """The intrinsic that computes a formula along a row.

    formula(emitter, numbers, *inputs) returns two lists of vectors: the outputs, and the terms of the sums. Each of
    the numbers comes in all lanes of a vector.
    """

    @intrinsic
    def compute_row(typing, count, numbers, inputs, outputs, totals, place):
        """For ``count`` elements; inputs and outputs are pairs (array, position), and may be the same memory.

        totals[place + s lanes + lane], float64, grows by the terms of sum s that came in this lane; None: no sums.
        """

        def emit(context, builder, signature, arguments):
            row = _Row(context, builder, signature, arguments, formula)
            lanes, count = row.emitter.lanes, arguments[0]
            accumulators = [[row.new_sum() for _ in range(sums)] for _ in range(VECTORS)]
            start, block, vector = (ir.Constant(count.type, number) for number in (0, VECTORS * lanes, lanes))
            blocks, vectors = (builder.mul(builder.sdiv(count, size), size) for size in (block, vector))
            with cgutils.for_range_slice(builder, start, blocks, block) as (first, _):
                for number, accumulator in enumerate(accumulators):
                    row.compute(builder.add(first, ir.Constant(count.type, number * lanes)), accumulator)
            with cgutils.for_range_slice(builder, blocks, vectors, vector) as (first, _):
                row.compute(first, accumulators[0])
            with builder.if_then(builder.icmp_signed("<", vectors, count)):
                row.compute(vectors, accumulators[0], builder.sub(count, vectors))
            for number in range(sums):
                row.add_to_total(number, [accumulator[number] for accumulator in accumulators])
            return context.get_dummy_value()

        return types.void(count, numbers, inputs, outputs, totals, place), emit

    return compute_row


@jit(fastmath=False)
def total(totals, place, lanes):
    """The sum of the lanes from ``place`` on, in order: the same bits wherever it is called."""
    result = 0.0
    for lane in range(lanes):
        result += totals[place + lane]
    return result


class _Row:
    """The parts of the loop over a row."""

    def __init__(self, context, builder, signature, arguments, formula: Callable):
        _, numbers, inputs, outputs, totals, self._place = arguments
        _, number_types, input_types, output_types, totals_type, _ = signature.args
        self._builder, self._formula = builder, formula
        self.emitter = simd.Emitter(builder, context, input_types[0][0].dtype)
        self._numbers = [
            self.emitter.splat(context.cast(builder, builder.extract_value(numbers, i), kind, input_types[0][0].dtype))
            for i, kind in enumerate(number_types)
        ]
        self._inputs, self._outputs = (
            [self._open(context, builder.extract_value(pairs, i), kind) for i, kind in enumerate(kinds)]
            for pairs, kinds in ((inputs, input_types), (outputs, output_types))
        )
        if totals_type is not types.none:
            self._totals = context.make_array(totals_type)(context, builder, totals).data

    def _open(self, context, pair: ir.Value, kind: types.Tuple) -> tuple[ir.Value, ir.Value]:
        """Memory and position."""
        array, position = (self._builder.extract_value(pair, i) for i in range(2))
        return context.make_array(kind[0])(context, self._builder, array).data, position

    def new_sum(self) -> ir.Value:
        return cgutils.alloca_once_value(self._builder, self.emitter.zero())

    def compute(self, first: ir.Value, accumulators: Sequence[ir.Value], count: ir.Value | None = None) -> None:
        """The vector that begins at ``first``, or its first lanes."""
        builder, emitter = self._builder, self.emitter
        places = [(memory, builder.add(position, first)) for memory, position in self._inputs]
        if count is None:
            inputs = [emitter.load(*place) for place in places]
        else:
            inputs = [emitter.load_first(*place, count) for place in places]
        outputs, terms = self._formula(emitter, self._numbers, *inputs)
        for (memory, position), vector in zip(self._outputs, outputs, strict=True):
            place = builder.add(position, first)
            if count is None:
                emitter.store(vector, memory, place)
            else:
                emitter.store_first(vector, memory, place, count)
        for accumulator, term in zip(accumulators, terms, strict=True):
            if count is not None:
                term = builder.select(emitter.first(count), term, emitter.zero())
            builder.store(builder.fadd(builder.load(accumulator), term), accumulator)

    def add_to_total(self, number: int, accumulators: Sequence[ir.Value]) -> None:
        builder, emitter = self._builder, self.emitter
        total = builder.load(accumulators[0])
        for accumulator in accumulators[1:]:
            total = builder.fadd(total, builder.load(accumulator))
        wide = ir.VectorType(ir.DoubleType(), emitter.lanes)
        if total.type != wide:
            total = builder.fpext(total, wide)
        place = builder.add(self._place, ir.Constant(self._place.type, number * emitter.lanes))
        pointer = builder.bitcast(builder.gep(self._totals, [place]), wide.as_pointer())
        builder.store(builder.fadd(builder.load(pointer, align=8), total), pointer, align=8)
