"""Vectors: the few operations on several numbers at once that the compiler does not find by itself.

Each function below is a numba intrinsic: called in a kernel as ``copy_first(target, i, source, j, n)``, it writes the
instructions (``instructions``, LLVM's) in place of the call. Arrays are C-contiguous; positions count elements from the
start of the memory.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels.instructions import VECTOR_BYTES, constant, opened
from blobnet.kernels.tiles import TILE_ROWS
from blobnet.kernels.workspace import CACHE_LINE


def lanes(dtype) -> int:
    """Elements of a NumPy type in one vector."""
    return VECTOR_BYTES // dtype.itemsize


@intrinsic
def copy_first(typing, target, i, source, j, count):
    """target[i : i + lanes] = the first ``count`` elements from source[j] on, then zeros."""

    def emit(context, builder, signature, arguments):
        emitter, target, source = opened(context, builder, signature, arguments, 0, 2)
        emitter.store(emitter.load_first(source, arguments[3], arguments[4]), target, arguments[1])
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), emit


def _fetching(**how):
    """The intrinsic that has memory on its way to a cache, line by line."""

    @intrinsic
    def fetch_lines(typing, array, i, count):
        """Fetch array[i : i + count]."""

        def emit(context, builder, signature, arguments):
            emitter, array = opened(context, builder, signature, arguments, 0)
            _, i, count = arguments
            line = constant(CACHE_LINE // emitter.itemsize)
            with cgutils.for_range_slice(builder, constant(0), count, line) as (n, _):
                emitter.fetch(array, builder.add(i, n), **how)
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp), emit

    return fetch_lines


fetch, fetch_to_write = _fetching(cache=2), _fetching(cache=1, to_write=True)


def whole_copy(vectors: int):
    """The intrinsic that copies so many whole vectors."""

    @intrinsic
    def copy_whole(typing, target, i, source, j):
        """target[i + n] = source[j + n] for all their elements n."""

        def emit(context, builder, signature, arguments):
            emitter, target, source = opened(context, builder, signature, arguments, 0, 2)
            places = [constant(number * emitter.lanes) for number in range(vectors)]
            copied = [emitter.load(source, builder.add(arguments[3], place)) for place in places]
            for place, vector in zip(places, copied, strict=True):
                emitter.store(vector, target, builder.add(arguments[1], place))
            return context.get_dummy_value()

        return types.void(target, types.intp, source, types.intp), emit

    return copy_whole


def transposing_copy(most: int, checks: bool = False):
    """The intrinsic that copies a block of rows, as many as there are lanes but at most ``most``, transposed.

    copy_transposed(target, i, step, source, j, starts, count):
    target[i + lane step + r] = source[j + starts[r] + lane] for lanes below ``count``, then zeros.

    All lanes are written. Where there are fewer rows than lanes, the step must be the number of rows.
    If it checks, it takes (nothing) besides: this vector grows by 0 times each element read, so that it becomes NaN
    where they are not finite.
    """

    def emit(context, builder, signature, arguments):
        emitter, target, source, starts = opened(context, builder, signature, arguments, 0, 3, 5)
        _, i, step, _, j, _, count, *_ = arguments
        numbers = range(min(most, emitter.lanes))
        places = [builder.add(j, builder.load(builder.gep(starts, [constant(r)]))) for r in numbers]
        rows = emitter.load_firsts(source, places, count)
        if checks:
            _, nothing = opened(context, builder, signature, arguments, 7)
            emitter.store(builder.fadd(emitter.load(nothing, 0), emitter.nothing_of(rows)), nothing, 0)
        columns_per_vector = emitter.lanes // len(rows)
        for number, vector in enumerate(emitter.transpose(rows)):
            column = builder.mul(step, constant(number * columns_per_vector))
            emitter.store(vector, target, builder.add(i, column))
        return context.get_dummy_value()

    index = types.intp

    @intrinsic
    def copy_transposed(typing, target, i, step, source, j, starts, count):
        return types.void(target, index, index, source, index, starts, index), emit

    @intrinsic
    def copy_and_check(typing, target, i, step, source, j, starts, count, nothing):
        return types.void(target, index, index, source, index, starts, index, nothing), emit

    return copy_and_check if checks else copy_transposed


@intrinsic
def write_transposed(typing, target, j, step, rows, source, i, row, bias, b, least, addend, accumulate, count):
    """target[j + r step + lane] = source[i + lane row + r] + bias[b + r], for lanes below ``count`` of some rows r.

    The addend at the same place is added where it accumulates; no result is below ``least``.
    """

    def emit(context, builder, signature, arguments):
        emitter, target, source, bias, addend = opened(context, builder, signature, arguments, 0, 4, 7, 10)
        _, j, step, rows, _, i, row, _, b, least, _, accumulate, count = arguments
        least, mask = emitter.splat(least), emitter.first(count)
        places = [builder.add(i, builder.mul(row, constant(lane))) for lane in range(emitter.lanes)]
        for r, vector in enumerate(emitter.transpose([emitter.load(source, place) for place in places])):
            with builder.if_then(builder.icmp_signed("<", constant(r), rows)):
                place = builder.add(j, builder.mul(step, constant(r)))
                shift = emitter.splat(builder.load(emitter.address(bias, builder.add(b, constant(r)))))
                value = builder.fadd(vector, emitter.add_where(accumulate, shift, addend, place, mask))
                emitter.store_masked(emitter.at_least(least, value), target, place, mask)
        return context.get_dummy_value()

    index = types.intp
    return types.void(
        target, index, index, index, source, index, index, bias, index, least, addend, types.boolean, index
    ), emit


@intrinsic
def prefer_widest_vectors(typing):
    """The compiler vectorises the loops of the calling function as wide as ours; left alone, it may halve the width."""

    def emit(context, builder, signature, arguments):
        attributes = builder.function.attributes
        set.add(attributes, f'"prefer-vector-width"="{8 * VECTOR_BYTES}"')  # llvmlite's own ``add`` knows it not
        return context.get_dummy_value()

    return types.void(), emit


def tile_product(vectors: int, fetches: bool = False, taps: int = 1, ahead: int = 0, elsewhere: bool = False):
    """The innermost loop of the matrix product, for a tile of TILE_ROWS rows and ``vectors`` vectors of columns.

    multiply_tile(a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate): C = A B, or C += A B, where row
    r, depth d and column n are found at

        a[i + r a_row + d a_step],  b[j + d b_step + n],  c[k + r c_row + n]

    a_row and a_step may be arrays of offsets instead of distances: a[i + a_row[r] + a_step[d]].
    If it fetches, it takes (later, start, distance) besides: later[start + d distance] comes to the second cache.
    With ``ahead`` b has its rows one after the other, and those so many depths on come to the first cache.
    If elsewhere too, it takes (address, step) after these: address + d step, in bytes, comes there as well.
    With several taps C is the sum of as many products: tap t has a[... + (d taps + t) a_step] and b[... + t].
    """

    def emit(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")  # among other code, some of the sums would leave the registers
        tables = isinstance(signature.args[2], types.Array)
        emitter, a, b, c = opened(context, builder, signature, arguments, 0, 4, 8)
        _, i, a_row, a_step, _, j, b_step, depth, _, k, c_row, accumulate, *fetched = arguments
        if tables:
            _, a_row, a_step = opened(context, builder, signature, arguments, 2, 3)
        if fetched:
            _, later = opened(context, builder, signature, arguments, 12)

        def offset(distance, count):
            if tables:
                return builder.load(builder.gep(distance, [constant(count)]))
            return builder.mul(distance, constant(count))

        rows, columns = range(TILE_ROWS), range(vectors)
        a_starts = [builder.add(i, offset(a_row, r)) for r in rows]
        spots = [
            builder.add(builder.add(k, builder.mul(c_row, constant(r))), constant(v * emitter.lanes))
            for r in rows
            for v in columns
        ]
        sums = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in spots]
        for spot, total in zip(spots, sums, strict=True):
            emitter.fetch(c, spot, cache=1, to_write=True)
            builder.store(emitter.zero(), total)
        with cgutils.for_range(builder, depth) as loop:
            b_row = builder.add(j, builder.mul(loop.index, b_step))
            for v in columns if ahead else ():
                emitter.fetch(b, builder.add(b_row, constant((ahead * vectors + v) * emitter.lanes)), cache=1)
            if fetched:
                _, start, distance, *addresses = fetched
                emitter.fetch(later, builder.add(start, builder.mul(loop.index, distance)), cache=2)
                if addresses:
                    address = builder.add(addresses[0], builder.mul(loop.index, addresses[1]))
                    emitter.fetch(builder.inttoptr(address, ir.IntType(8).as_pointer()), 0, cache=2)
            for tap in range(taps):
                a_depth = offset(a_step, builder.add(builder.mul(loop.index, constant(taps)), constant(tap)))
                b_vectors = [emitter.load(b, builder.add(b_row, constant(v * emitter.lanes + tap))) for v in columns]
                for r in rows:
                    emitter.keep_order()
                    factor = emitter.splat(builder.load(emitter.address(a, builder.add(a_starts[r], a_depth))))
                    for v in columns:
                        total = sums[r * vectors + v]
                        builder.store(emitter.multiply_add(factor, b_vectors[v], builder.load(total)), total)
        with builder.if_then(accumulate):
            for spot, total in zip(spots, sums, strict=True):
                builder.store(builder.fadd(emitter.load(c, spot), builder.load(total)), total)
        for spot, total in zip(spots, sums, strict=True):
            emitter.store(builder.load(total), c, spot)
        return context.get_dummy_value()

    index = types.intp

    def tile(a, a_row, b, c):
        steps = [a_row, a_row] if isinstance(a_row, types.Array) else [index, index]
        return [a, index, *steps, b, index, index, index, c, index, index, types.boolean]

    @intrinsic
    def multiply_tile(typing, a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate):
        return types.void(*tile(a, a_row, b, c)), emit

    @intrinsic
    def multiply_and_fetch(
        typing, a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate, later, start, distance
    ):
        return types.void(*tile(a, a_row, b, c), later, index, index), emit

    @intrinsic
    def multiply_and_fetch_elsewhere(
        typing, a, i, a_row, a_step, b, j, b_step, depth, c, k, c_row, accumulate, later, start, distance, address, step
    ):
        return types.void(*tile(a, a_row, b, c), later, index, index, index, index), emit

    if elsewhere:
        return multiply_and_fetch_elsewhere
    return multiply_and_fetch if fetches else multiply_tile


def tile_transform(matrices: dict[int, list[list[float]]], adds: bool = False):
    """The intrinsic Y = M X M^T, or Y += M X M^T, on square tiles X of vectors, for constant matrices M."""

    @intrinsic
    def transform_tile(typing, which, x, i, x_row, x_column, y, j, y_row, y_column):
        """Reads vectors at x[i + r x_row + c x_column], writes them at y[j + r y_row + c y_column].

        which  a tuple; M is the matrix under the number of its elements
        """
        matrix = matrices[len(which)]

        def emit(context, builder, signature, arguments):
            emitter, x, y = opened(context, builder, signature, arguments, 1, 5)
            _, _, i, x_row, x_column, _, j, y_row, y_column = arguments

            inputs, outputs = len(matrix[0]), len(matrix)
            size = ir.Constant(ir.IntType(64), inputs * outputs)
            halves = builder.bitcast(cgutils.alloca_once(builder, emitter.vector, size), emitter.scalar.as_pointer())

            def transform(count, source, start, row, column, target, place, target_row, target_column, adds=False):
                """Combine, for so many columns of the source, their vectors; each result is a row of the target."""
                with cgutils.for_range(builder, constant(count)) as loop:
                    first = builder.add(start, builder.mul(column, loop.index))
                    vectors = [
                        emitter.load(source, builder.add(first, builder.mul(row, constant(r)))) for r in range(inputs)
                    ]
                    first = builder.add(place, builder.mul(target_row, loop.index))
                    for c, vector in enumerate(emitter.combine(matrix, vectors)):
                        spot = builder.add(first, builder.mul(target_column, constant(c)))
                        total = builder.fadd(emitter.load(target, spot), vector) if adds else vector
                        emitter.store(total, target, spot)

            one, zero = constant(emitter.lanes), constant(0)
            column_of_halves = constant(inputs * emitter.lanes)
            transform(inputs, x, i, x_row, x_column, halves, zero, one, column_of_halves)
            transform(outputs, halves, zero, one, column_of_halves, y, j, y_row, y_column, adds)
            return context.get_dummy_value()

        index = types.intp
        return types.void(which, x, index, index, index, y, index, index, index), emit

    return transform_tile


@intrinsic
def sum_pieces(typing, source, places, firsts, ends, first, last, target, j):
    """Vector target[j] = sum over pieces p from first to last of source[places[p] + lane], where there is one.

    Piece p has the lanes from firsts[p] to ends[p].
    """

    def emit(context, builder, signature, arguments):
        emitter, source, places, firsts, ends, target = opened(context, builder, signature, arguments, 0, 1, 2, 3, 6)
        _, _, _, _, first, last, _, j = arguments
        total = cgutils.alloca_once_value(builder, emitter.zero())
        builder.store(emitter.zero(), total)
        with cgutils.for_range(builder, last, start=first) as loop:
            place, begin, end = (builder.load(builder.gep(table, [loop.index])) for table in (places, firsts, ends))
            mask = builder.and_(emitter.first(end), builder.not_(emitter.first(begin)))
            piece = emitter.load_masked(source, place, mask)
            builder.store(builder.fadd(builder.load(total), piece), total)
        emitter.store(builder.load(total), target, j)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, places, firsts, ends, index, index, target, index), emit


def weighted_sums(pixels: int):
    """The intrinsic for sums over vectors of channels, each with its own weights, at so many pixels."""

    @intrinsic
    def sum_weighted(typing, w, x, j, offsets, first, last, x_step, y, k, y_step):
        """Vector y[k + p y_step] = sum over t from first to last of w[t lanes] x[j + offsets[t] lanes + p x_step]."""

        def emit(context, builder, signature, arguments):
            emitter, w, x, offsets, y = opened(context, builder, signature, arguments, 0, 1, 3, 7)
            _, _, j, _, first, last, x_step, _, k, y_step = arguments
            sums = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in range(pixels)]
            for total in sums:
                builder.store(emitter.zero(), total)
            with cgutils.for_range(builder, last, start=first) as loop:
                weight = emitter.load(w, builder.mul(loop.index, constant(emitter.lanes)))
                offset = builder.mul(builder.load(builder.gep(offsets, [loop.index])), constant(emitter.lanes))
                place = builder.add(j, offset)
                for p, total in enumerate(sums):
                    pixel = emitter.load(x, builder.add(place, builder.mul(x_step, constant(p))))
                    builder.store(emitter.multiply_add(weight, pixel, builder.load(total)), total)
            for p, total in enumerate(sums):
                emitter.store(builder.load(total), y, builder.add(k, builder.mul(y_step, constant(p))))
            return context.get_dummy_value()

        index = types.intp
        return types.void(w, x, index, offsets, index, index, index, y, index, index), emit

    return sum_weighted


def products_with_shifts(shifts: int):
    """The intrinsic for the products of one row of vectors with so many rows, each summed along the row."""

    @intrinsic
    def multiply_shifted(typing, x, i, y, j, offsets, first, y_step, count, sums):
        """Vector sums[t lanes] += sum over q < count of x[i + q lanes] y[j + offsets[t] lanes + q y_step].

        From t = first on.
        """

        def emit(context, builder, signature, arguments):
            emitter, x, y, offsets, sums = opened(context, builder, signature, arguments, 0, 2, 4, 8)
            _, i, _, j, _, first, y_step, count, _ = arguments
            numbers = [builder.add(first, constant(t)) for t in range(shifts)]
            columns = [builder.load(builder.gep(offsets, [number])) for number in numbers]
            starts = [builder.add(j, builder.mul(column, constant(emitter.lanes))) for column in columns]
            totals = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in numbers]
            for total in totals:
                builder.store(emitter.zero(), total)
            with cgutils.for_range(builder, count) as loop:
                factor = emitter.load(x, builder.add(i, builder.mul(loop.index, constant(emitter.lanes))))
                place = builder.mul(loop.index, y_step)
                for start, total in zip(starts, totals, strict=True):
                    shifted = emitter.load(y, builder.add(start, place))
                    builder.store(emitter.multiply_add(factor, shifted, builder.load(total)), total)
            for number, total in zip(numbers, totals, strict=True):
                spot = builder.mul(number, constant(emitter.lanes))
                emitter.store(builder.fadd(emitter.load(sums, spot), builder.load(total)), sums, spot)
            return context.get_dummy_value()

        index = types.intp
        return types.void(x, index, y, index, offsets, index, index, index, sums), emit

    return multiply_shifted
