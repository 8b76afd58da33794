"""Loops along rows of numbers, a vector at a time, made from the formula of one element.

Left to itself the compiler takes vectors for long rows only, and the rest of each row number by number: most of the
work where rows are the planes of a small image.
"""

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels._jit import jit
from blobnet.kernels.instructions import Emitter, opened
from blobnet.kernels.tiles import ROW_AHEAD, ROW_VECTORS
from blobnet.kernels.workspace import CACHE_LINE


@intrinsic
def at(typing, base, position):
    """Where an element of an array, or one so far from another, lies in memory.

    Loops take this instead of a slice, which has a shape as well.
    """

    def emit(context, builder, signature, arguments):
        _, memory = opened(context, builder, signature, arguments, 0)
        return builder.gep(memory, [arguments[1]])

    return types.CPointer(base.dtype)(base, types.intp), emit


def loop(formula: Callable, sums: int = 0):
    """The intrinsic that computes a formula along a row.

    formula(emitter, numbers, *inputs) returns two lists of vectors: the outputs, and the terms of the sums. Each of
    the numbers comes in all lanes of a vector.
    """

    @intrinsic
    def compute_row(typing, count, numbers, inputs, outputs, totals):
        """For ``count`` elements from those on that the inputs and outputs are ``at``, which may be the same.

        The float64 at ``totals`` + s lanes + lane grows by the terms of sum s that came in this lane; None: no sums.
        """

        def emit(context, builder, signature, arguments):
            row = _Row(context, builder, signature, arguments, formula)
            lanes, count = row.emitter.lanes, arguments[0]
            accumulators = [[row.new_sum() for _ in range(sums)] for _ in range(ROW_VECTORS)]
            start, block, vector = (ir.Constant(count.type, number) for number in (0, ROW_VECTORS * lanes, lanes))
            blocks, vectors = (builder.mul(builder.sdiv(count, size), size) for size in (block, vector))
            with cgutils.for_range_slice(builder, start, blocks, block) as (first, _):
                row.fetch(
                    builder.add(first, ir.Constant(count.type, ROW_AHEAD // row.emitter.itemsize)), ROW_VECTORS * lanes
                )
                for number, accumulator in enumerate(accumulators):
                    row.compute(builder.add(first, ir.Constant(count.type, number * lanes)), accumulator)
            with cgutils.for_range_slice(builder, blocks, vectors, vector) as (first, _):
                row.compute(first, accumulators[0])
            with builder.if_then(builder.icmp_signed("<", vectors, count)):
                row.compute(vectors, accumulators[0], builder.sub(count, vectors))
            for number in range(sums):
                row.add_to_total(number, [accumulator[number] for accumulator in accumulators])
            return context.get_dummy_value()

        return types.void(count, numbers, inputs, outputs, totals), emit

    return compute_row


@intrinsic
def largest(typing, count, row, known):
    """The largest of ``known`` and the first ``count`` numbers ``at`` a row, whole vectors; NaN is passed over."""

    def emit(context, builder, signature, arguments):
        count, row, known = arguments
        emitter = Emitter(builder, context, known_type)
        start, lanes = (ir.Constant(count.type, number) for number in (0, emitter.lanes))
        best = cgutils.alloca_once_value(builder, emitter.splat(known))

        def larger(one, other):
            return builder.select(builder.fcmp_ordered(">", one, other), one, other)

        with cgutils.for_range_slice(builder, start, count, lanes) as (first, _):
            builder.store(larger(emitter.load(row, first), builder.load(best)), best)
        vector, half = builder.load(best), emitter.lanes
        while half > 1:
            half //= 2
            turned = [(lane + half) % emitter.lanes for lane in range(emitter.lanes)]
            pattern = ir.Constant(ir.VectorType(ir.IntType(32), emitter.lanes), turned)
            vector = larger(builder.shuffle_vector(vector, vector, pattern), vector)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    known_type = row.dtype
    return known_type(count, row, known_type), emit


def added(emitter, numbers, x, z):
    """The formula x + z."""
    return [emitter.builder.fadd(x, z)], []


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
        _, numbers, inputs, outputs, self._totals = arguments
        _, number_types, input_types, output_types, _ = signature.args
        self._builder, self._formula = builder, formula
        self._inputs = [builder.extract_value(inputs, i) for i in range(len(input_types))]
        self._outputs = [builder.extract_value(outputs, i) for i in range(len(output_types))]
        dtype = (*input_types, *output_types)[0].dtype
        self.emitter = Emitter(builder, context, dtype)
        self._numbers = [
            self.emitter.splat(context.cast(builder, builder.extract_value(numbers, i), kind, dtype))
            for i, kind in enumerate(number_types)
        ]

    def new_sum(self) -> ir.Value:
        return cgutils.alloca_once_value(self._builder, self.emitter.zero())

    def fetch(self, first: ir.Value, count: int) -> None:
        """Have so many elements of the inputs and outputs on their way to the first cache."""
        for distance in range(0, count, CACHE_LINE // self.emitter.itemsize):
            place = self._builder.add(first, ir.Constant(first.type, distance))
            for memory in self._inputs:
                self.emitter.fetch(memory, place, cache=1)
            for memory in self._outputs:
                self.emitter.fetch(memory, place, cache=1, to_write=True)

    def compute(self, first: ir.Value, accumulators: Sequence[ir.Value], count: ir.Value | None = None) -> None:
        """The vector that begins at ``first``, or its first lanes."""
        builder, emitter = self._builder, self.emitter
        if count is None:
            inputs = [emitter.load(memory, first) for memory in self._inputs]
        else:
            inputs = [emitter.load_first(memory, first, count) for memory in self._inputs]
        outputs, terms = self._formula(emitter, self._numbers, *inputs)
        for memory, vector in zip(self._outputs, outputs, strict=True):
            if count is None:
                emitter.store(vector, memory, first)
            else:
                emitter.store_first(vector, memory, first, count)
        for accumulator, term in zip(accumulators, terms, strict=True):
            if count is not None:
                term = builder.select(emitter.first(count), term, emitter.zero())
            builder.store(builder.fadd(builder.load(accumulator), term), accumulator)

    def add_to_total(self, number: int, accumulators: Sequence[ir.Value]) -> None:
        builder = self._builder
        total = builder.load(accumulators[0])
        for accumulator in accumulators[1:]:
            total = builder.fadd(total, builder.load(accumulator))
        self.emitter.add_wide(total, self._totals, number)
