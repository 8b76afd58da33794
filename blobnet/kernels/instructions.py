"""Instructions: the vocabulary in which kernels write vector code (LLVM's) where the compiler would not find it.

The host's processor sets how many numbers a vector holds, at most ``config.vector_bits``. An intrinsic, of ``simd`` or
of a kernel's own, has its arrays ``opened``, gets an ``Emitter`` for their element type and calls its methods; what
they write stands in place of the intrinsic's call. Positions count elements from the start of an array's memory.
"""

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types

from blobnet import config

_features = llvmlite.binding.get_host_cpu_features()
_widest = 64 if _features.get("avx512f") else 32 if _features.get("avx2") else 16

VECTOR_BYTES = min(_widest, config.vector_bits() // 8)
MOST_LANES = VECTOR_BYTES // 4  # of a vector: of float32
REGISTERS = 32 if _features.get("avx512f") or _features.get("neon") else 16  # that hold vectors


class Emitter:
    """Writes vector instructions for one element type into a function being compiled."""

    def __init__(self, builder: ir.IRBuilder, context, element: types.Type):
        self.builder = builder
        self.scalar = context.get_value_type(element)
        self.lanes = VECTOR_BYTES * 8 // element.bitwidth
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.itemsize = element.bitwidth // 8
        self._integers = ir.VectorType(ir.IntType(element.bitwidth), self.lanes)
        self._suffix = f"v{self.lanes}f{element.bitwidth}"

    def address(self, base: ir.Value, position: ir.Value | int) -> ir.Value:
        return self.builder.gep(base, [constant(position)])

    def load(self, base: ir.Value, position) -> ir.Value:
        return self.builder.load(self._at(base, position), align=self.itemsize)

    def store(self, vector: ir.Value, base: ir.Value, position) -> None:
        self.builder.store(vector, self._at(base, position, vector.type), align=4)

    def load_first(self, base: ir.Value, position, count: ir.Value) -> ir.Value:
        """The first ``count`` lanes; the others are 0 and their memory is not touched."""
        return self.load_firsts(base, [position], count)[0]

    def load_firsts(self, base: ir.Value, positions: list, count: ir.Value) -> list[ir.Value]:
        """``load_first`` at several positions; whole vectors take a shorter way."""
        vectors = [cgutils.alloca_once(self.builder, self.vector) for _ in positions]
        whole = self.builder.icmp_signed(">=", count, constant(self.lanes))
        with self.builder.if_else(whole) as (then, otherwise):
            with then:
                for position, vector in zip(positions, vectors, strict=True):
                    self.builder.store(self.load(base, position), vector)
            with otherwise:
                mask = self.first(count)
                for position, vector in zip(positions, vectors, strict=True):
                    self.builder.store(self.load_masked(base, position, mask), vector)
        return [self.builder.load(vector) for vector in vectors]

    def load_masked(self, base: ir.Value, position, mask: ir.Value) -> ir.Value:
        """The lanes of the mask; the others are 0 and their memory is not touched."""
        arguments = [self._at(base, position), _int32(self.itemsize), mask, self.zero()]
        return self._call(f"llvm.masked.load.{self._suffix}.p0", self.vector, arguments)

    def add_where(self, condition: ir.Value, vector: ir.Value, base: ir.Value, position, mask: ir.Value) -> ir.Value:
        """The vector, + the lanes of the mask in memory if the condition holds; else that is not read."""
        total = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(vector, total)
        with self.builder.if_then(condition):
            self.builder.store(self.builder.fadd(self.load_masked(base, position, mask), vector), total)
        return self.builder.load(total)

    def store_first(self, vector: ir.Value, base: ir.Value, position, count: ir.Value) -> None:
        """The first ``count`` lanes; the memory of the others is not touched."""
        self.store_masked(vector, base, position, self.first(count))

    def store_masked(self, vector: ir.Value, base: ir.Value, position, mask: ir.Value) -> None:
        """The lanes of the mask; the memory of the others is not touched."""
        kind = self._suffix if vector.type == self.vector else f"v{self.lanes}i{8 * self.itemsize}"
        arguments = [vector, self._at(base, position, vector.type), _int32(4), mask]
        self._call(f"llvm.masked.store.{kind}.p0", ir.VoidType(), arguments)

    def store_before(self, end: ir.Value, vector: ir.Value, base: ir.Value, position) -> None:
        """All lanes, but none at ``end`` or beyond."""
        room = self.builder.sub(end, position)
        with self.builder.if_else(self.builder.icmp_signed(">=", room, constant(self.lanes))) as (whole, part):
            with whole:
                self.store(vector, base, position)
            with part:
                self.store_first(vector, base, position, room)

    def add_wide(self, vector: ir.Value, totals: ir.Value, number: int) -> None:
        """totals[number lanes + lane], float64, grows by the vector."""
        wide = ir.VectorType(ir.DoubleType(), self.lanes)
        if vector.type != wide:
            vector = self.builder.fpext(vector, wide)
        pointer = self._at(totals, number * self.lanes, wide)
        self.builder.store(self.builder.fadd(self.builder.load(pointer, align=8), vector), pointer, align=8)

    def first(self, count: ir.Value) -> ir.Value:
        """A mask of the first ``count`` lanes."""
        limits = self.splat(self.builder.trunc(count, ir.IntType(32)))
        return self.builder.icmp_signed("<", _pattern(list(range(self.lanes))), limits)

    def zero(self) -> ir.Value:
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """A vector with the scalar in every lane."""
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, _int32(0))
        return self.builder.shuffle_vector(one, undefined, _pattern([0] * self.lanes))

    def constant(self, number: float) -> ir.Value:
        return ir.Constant(self.vector, [number] * self.lanes)

    def integers(self, numbers: list[int]) -> ir.Value:
        """Integers as wide as the elements, one for each lane."""
        return ir.Constant(self._integers, numbers)

    def splat_integer(self, number: ir.Value) -> ir.Value:
        """A vector with an integer, as wide as the elements, in every lane."""
        narrow = self._integers.element
        return self.splat(number if number.type == narrow else self.builder.trunc(number, narrow))

    def load_integers(self, base: ir.Value, position) -> ir.Value:
        return self.builder.load(self._at(base, position, self._integers), align=self.itemsize)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a b + c, rounded once where the processor can."""
        return self._call(f"llvm.fmuladd.{self._suffix}", self.vector, [a, b, c])

    def root(self, vector: ir.Value) -> ir.Value:
        return self._call(f"llvm.sqrt.{self._suffix}", self.vector, [vector])

    def where_positive(self, sign: ir.Value, vector: ir.Value) -> ir.Value:
        """The vector where the sign is positive or NaN, else 0: what passes a ReLU."""
        return self.builder.select(self.builder.fcmp_ordered("<=", sign, self.zero()), self.zero(), vector)

    def at_least(self, least: ir.Value, vector: ir.Value) -> ir.Value:
        """The vector where it is more than ``least`` or NaN, else ``least``."""
        return self.builder.select(self.builder.fcmp_ordered("<=", vector, least), least, vector)

    def fetch(self, base: ir.Value, position: ir.Value, cache: int, to_write: bool = False) -> None:
        """Have the memory at a position, if there is some, on its way to the first or second cache."""
        pointer = self.builder.bitcast(self.address(base, position), ir.IntType(8).as_pointer())
        hints = (int(to_write), 4 - cache, 1)
        self._call("llvm.prefetch.p0", ir.VoidType(), [pointer, *map(_int32, hints)])

    def keep_order(self) -> None:
        """No load crosses this line: loaded all at once, the vectors to come would not fit into the registers."""
        nothing = ir.FunctionType(ir.VoidType(), [])
        self.builder.asm(nothing, "", "~{memory}", [], side_effect=True)

    def combine(self, matrix: list[list[float]], vectors: list[ir.Value]) -> list[ir.Value]:
        """The matrix times the column of vectors; zeros of the matrix cost nothing.

        Two columns, or two rows, that differ in signs only are multiplied once: by the sum and the difference of their
        vectors, or into the sum and the difference of what has equal signs in both and what has opposite ones.
        """
        matrix, vectors = [list(row) for row in matrix], list(vectors)
        for i, j in _of_equal_size(list(zip(*matrix, strict=True))):
            vectors[i], vectors[j] = (
                self.builder.fadd(vectors[i], vectors[j]),
                self.builder.fsub(vectors[i], vectors[j]),
            )
            for row in matrix:
                row[i], row[j] = (row[i], 0.0) if row[i] == row[j] else (0.0, row[i])
        pairs = _of_equal_size(matrix)
        for i, j in pairs:
            both = list(zip(matrix[i], matrix[j], strict=True))
            matrix[i], matrix[j] = [a if a == b else 0.0 for a, b in both], [a if a != b else 0.0 for a, b in both]
        results = [self._weighted_sum(row, vectors) for row in matrix]
        for i, j in pairs:
            results[i], results[j] = (
                self.builder.fadd(results[i], results[j]),
                self.builder.fsub(results[i], results[j]),
            )
        return results

    def _weighted_sum(self, factors: list[float], vectors: list[ir.Value]) -> ir.Value:
        total = None
        for factor, vector in zip(factors, vectors, strict=True):
            if factor:
                weight = ir.Constant(self.vector, [factor] * self.lanes)
                total = self.multiply_add(weight, vector, total) if total else self.builder.fmul(weight, vector)
        return total or self.zero()

    def nothing_of(self, vectors: list[ir.Value]) -> ir.Value:
        """0 times each vector, summed: two sums under way at once."""
        zero, halves = self.zero(), []
        for half in (vectors[::2], vectors[1::2]):
            total = zero
            for vector in half:
                total = self.multiply_add(vector, zero, total)
            halves.append(total)
        return self.builder.fadd(*halves)

    def transpose(self, rows: list[ir.Value]) -> list[ir.Value]:
        """R rows of L lanes as L columns of R, packed one after the other into R vectors; R a power of two, at most L.

        As many rows as lanes are taken for squares as wide as 128 bits, within which processors shuffle most cheaply:
        the squares change places first. Each round trades a bit of the rows' numbers for one of the lanes'.
        """
        rows, side = list(rows), 16 // self.itemsize if len(rows) == self.lanes else self.lanes
        even, odd = (
            [square * side + lane for square in range(first, 2 * self.lanes // side, 2) for lane in range(side)]
            for first in (0, 1)
        )
        low = [
            square + lane // 2 + lane % 2 * self.lanes for square in range(0, self.lanes, side) for lane in range(side)
        ]
        high = [lane + side // 2 for lane in low]
        rounds = [(side << bit, even, odd) for bit in range((len(rows) // side).bit_length() - 1)]
        rounds += [(1 << bit, low, high) for bit in reversed(range(min(side, len(rows)).bit_length() - 1))]
        for distance, *patterns in rounds:
            for i in range(len(rows)):
                if not i & distance:
                    pair = rows[i], rows[i + distance]
                    rows[i], rows[i + distance] = (
                        self.builder.shuffle_vector(*pair, _pattern(pattern)) for pattern in patterns
                    )
        return rows

    def halves(self, vectors: list[ir.Value]) -> list[list[ir.Value]]:
        """Of each pair of vectors elements 0, 2, 4 and so on, and elements 1, 3, 5."""
        patterns = (_pattern(list(range(first, 2 * self.lanes, 2))) for first in (0, 1))
        pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
        return [[self.builder.shuffle_vector(*pair, pattern) for pair in pairs] for pattern in patterns]

    def lane_sums(self, vectors: list[ir.Value]) -> list[ir.Value]:
        """The sum of the lanes of each vector, side by side in as few vectors as hold them."""
        vectors = vectors + [self.zero()] * (-len(vectors) % self.lanes)
        for _ in range(self.lanes.bit_length() - 1):
            vectors = [self.builder.fadd(*pair) for pair in zip(*self.halves(vectors), strict=True)]
        return vectors

    def _at(self, base: ir.Value, position, kind: ir.Type | None = None) -> ir.Value:
        return self.builder.bitcast(self.address(base, position), (kind or self.vector).as_pointer())

    def _call(self, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            signature = ir.FunctionType(result, [argument.type for argument in arguments])
            function = ir.Function(module, signature, name)
        return self.builder.call(function, arguments)


def opened(context, builder, signature, arguments, *arrays):
    """An emitter for the element type of the first array, and the memory of each array argument, or pointer."""
    kinds = [signature.args[number] for number in arrays]
    memory = [
        context.make_array(kind)(context, builder, arguments[number]).data
        if isinstance(kind, types.Array)
        else arguments[number]
        for kind, number in zip(kinds, arrays, strict=True)
    ]
    return Emitter(builder, context, kinds[0].dtype), *memory


def constant(value: ir.Value | int) -> ir.Value:
    """A number to count or address with; a value already is one."""
    return value if isinstance(value, ir.Value) else ir.Constant(ir.IntType(64), value)


def _of_equal_size(rows: list) -> list[tuple[int, int]]:
    """Pairs of rows, none in two of them, whose elements differ in signs only."""
    pairs: list[tuple[int, int]] = []
    for j, row in enumerate(rows):
        taken = {number for pair in pairs for number in pair}
        like = [i for i in range(j) if i not in taken and list(map(abs, rows[i])) == list(map(abs, row))]
        pairs += [(i, j) for i in like[:1]]
    return pairs


def _int32(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


def _pattern(lanes: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
