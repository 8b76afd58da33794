"""Vectors: the few operations on several numbers at once that the compiler does not find by itself.

The host's processor sets how many numbers a vector holds. Each function below is a numba intrinsic: called in
a kernel as ``copy_first(target, i, source, j, n)``, it writes the instructions (LLVM's) in place of the call.
``Emitter`` is the vocabulary they are written in. Arrays are C-contiguous; positions count elements from the
start of the memory.

The sizes of the matrix product's tile follow from the number of vector registers: MR x NV vectors of sums,
NV of one operand and one of the other must fit (Goto and van de Geijn 2008, section 6).
"""

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_features = llvmlite.binding.get_host_cpu_features()
_registers = 32 if _features.get("avx512f") or _features.get("neon") else 16

VECTOR_BYTES = 64 if _features.get("avx512f") else 32 if _features.get("avx2") else 16
TILE_ROWS = 8 if _registers == 32 else 4  # MR
TILE_VECTORS = 3  # NV


def lanes(dtype) -> int:
    """Elements of a NumPy type in one vector."""
    return VECTOR_BYTES // dtype.itemsize


class Emitter:
    """Writes vector instructions for one element type into a function being compiled."""

    def __init__(self, builder: ir.IRBuilder, context, element: types.Type):
        self.builder = builder
        self.scalar = context.get_value_type(element)
        self.lanes = VECTOR_BYTES * 8 // element.bitwidth
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.itemsize = element.bitwidth // 8
        self._suffix = f"v{self.lanes}f{element.bitwidth}"

    def address(self, base: ir.Value, position: ir.Value | int) -> ir.Value:
        return self.builder.gep(base, [_index(position)])

    def load(self, base: ir.Value, position) -> ir.Value:
        return self.builder.load(self._at(base, position), align=self.itemsize)

    def store(self, vector: ir.Value, base: ir.Value, position) -> None:
        self.builder.store(vector, self._at(base, position), align=self.itemsize)

    def load_first(self, base: ir.Value, position, count: ir.Value) -> ir.Value:
        """The first ``count`` lanes; the others are 0 and their memory is not touched."""
        pointer = self._at(base, position)
        mask = self._first(count)
        arguments = [pointer, ir.Constant(ir.IntType(32), self.itemsize), mask, self.zero()]
        return self._call(f"llvm.masked.load.{self._suffix}.p0", self.vector, arguments)

    def zero(self) -> ir.Value:
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """A vector with the scalar in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, _int32(0))
        return self.builder.shuffle_vector(one, undefined, _pattern([0] * self.lanes))

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a b + c, rounded once where the processor can."""
        return self._call(f"llvm.fmuladd.{self._suffix}", self.vector, [a, b, c])

    def transpose(self, rows: list[ir.Value]) -> list[ir.Value]:
        """R rows of L lanes as L columns of R, packed one after the other into R vectors; R a power of two.

        Interleaving row i with row i + R / 2, over and over, moves every element to its place after log2 R rounds.
        """
        half = len(rows) // 2
        low = [lane // 2 + lane % 2 * self.lanes for lane in range(self.lanes)]
        high = [lane + self.lanes // 2 for lane in low]
        for _ in range(half.bit_length()):
            rows = [
                self.builder.shuffle_vector(rows[i], rows[i + half], _pattern(pattern))
                for i in range(half)
                for pattern in (low, high)
            ]
        return rows

    def _at(self, base: ir.Value, position) -> ir.Value:
        return self.builder.bitcast(self.address(base, position), self.vector.as_pointer())

    def _first(self, count: ir.Value) -> ir.Value:
        numbers = ir.VectorType(ir.IntType(32), self.lanes)
        undefined = ir.Constant(numbers, ir.Undefined)
        limit = self.builder.insert_element(undefined, self.builder.trunc(count, ir.IntType(32)), _int32(0))
        limits = self.builder.shuffle_vector(limit, undefined, _pattern([0] * self.lanes))
        return self.builder.icmp_signed("<", ir.Constant(numbers, list(range(self.lanes))), limits)

    def _call(self, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            signature = ir.FunctionType(result, [argument.type for argument in arguments])
            function = ir.Function(module, signature, name)
        return self.builder.call(function, arguments)


@intrinsic
def copy_first(typing, target, i, source, j, count):
    """target[i : i + lanes] = the first ``count`` elements from source[j] on, then zeros."""

    def emit(context, builder, signature, arguments):
        emitter, target, source = _open(context, builder, signature, arguments, 0, 2)
        emitter.store(emitter.load_first(source, arguments[3], arguments[4]), target, arguments[1])
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), emit


def transposing_copy(most: int):
    """The intrinsic that copies a block of rows, as many as there are lanes but at most ``most``, transposed."""

    @intrinsic
    def copy_transposed(typing, target, i, step, source, j, starts, count):
        """target[i + lane step + r] = source[j + starts[r] + lane] for lanes below ``count``, then zeros.

        All lanes are written. Where there are fewer rows than lanes, the step must be the number of rows.
        """

        def emit(context, builder, signature, arguments):
            emitter, target, source, starts = _open(context, builder, signature, arguments, 0, 3, 5)
            _, i, step, _, j, _, count = arguments
            rows = []
            for r in range(min(most, emitter.lanes)):
                start = builder.load(builder.gep(starts, [_index(r)]))
                rows.append(emitter.load_first(source, builder.add(j, start), count))
            columns_per_vector = emitter.lanes // len(rows)
            for number, vector in enumerate(emitter.transpose(rows)):
                column = builder.mul(step, _index(number * columns_per_vector))
                emitter.store(vector, target, builder.add(i, column))
            return context.get_dummy_value()

        return types.void(target, types.intp, types.intp, source, types.intp, starts, types.intp), emit

    return copy_transposed


def tile_product(vectors: int):
    """The innermost loop of the matrix product, for a tile of TILE_ROWS rows and ``vectors`` vectors of columns."""

    @intrinsic
    def multiply_tile(typing, work, a, b, depth, c, stride, accumulate):
        """C = A B, or C += A B: work[c + r stride + j] = sum over k of work[a + k MR + r] work[b + k NR + j].

        All three lie in one work array: A packed by columns of TILE_ROWS, B by rows of ``vectors`` vectors.
        """

        def emit(context, builder, signature, arguments):
            emitter, work = _open(context, builder, signature, arguments, 0)
            _, a, b, depth, c, stride, accumulate = arguments
            spots = [
                (builder.add(c, builder.mul(stride, _index(r))), v * emitter.lanes)
                for r in range(TILE_ROWS)
                for v in range(vectors)
            ]
            sums = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in spots]
            with builder.if_then(accumulate):
                for (row, column), total in zip(spots, sums, strict=True):
                    builder.store(emitter.load(work, builder.add(row, _index(column))), total)
            with cgutils.for_range(builder, depth) as loop:
                a_row = builder.add(a, builder.mul(loop.index, _index(TILE_ROWS)))
                b_row = builder.add(b, builder.mul(loop.index, _index(vectors * emitter.lanes)))
                b_vectors = [
                    emitter.load(work, builder.add(b_row, _index(v * emitter.lanes))) for v in range(vectors)
                ]
                for r in range(TILE_ROWS):
                    factor = emitter.splat(builder.load(emitter.address(work, builder.add(a_row, _index(r)))))
                    for v in range(vectors):
                        total = sums[r * vectors + v]
                        builder.store(emitter.multiply_add(factor, b_vectors[v], builder.load(total)), total)
            for (row, column), total in zip(spots, sums, strict=True):
                emitter.store(builder.load(total), work, builder.add(row, _index(column)))
            return context.get_dummy_value()

        index = types.intp
        return types.void(work, index, index, index, index, index, types.boolean), emit

    return multiply_tile


def _open(context, builder, signature, arguments, *arrays):
    """An emitter for the element type of the first array, and the memory of each array argument."""
    memory = [
        context.make_array(signature.args[number])(context, builder, arguments[number]).data for number in arrays
    ]
    return Emitter(builder, context, signature.args[arrays[0]].dtype), *memory


def _index(value) -> ir.Value:
    return value if isinstance(value, ir.Value) else ir.Constant(ir.IntType(64), value)


def _int32(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


def _pattern(lanes: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
