"""Planes side by side: pixel after pixel, each a vector with one lane for each of as many planes.

However narrow the planes are, all lanes work; windows at any stride, and edges, are the same for all of them.
"""

from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet.kernels import simd
from blobnet.kernels._jit import jit
from blobnet.kernels.instructions import constant, opened


@jit
def place_planes(starts, plane, stop, size):
    """starts[lane]: where the planes from ``plane`` on begin, of this size; the last before ``stop`` comes again."""
    for lane in range(len(starts)):
        starts[lane] = min(plane + lane, stop - 1) * size


@jit
def turn(planes, first, count, starts, turned, target):
    """turned[target + p lanes + lane] = planes[starts[lane] + first + p]; up to a square of lanes is overwritten."""
    lanes = len(starts)
    for p in range(0, count, lanes):
        _transpose(turned, target + p * lanes, lanes, planes, first + p, starts, min(lanes, count - p))


@jit
def turn_back(turned, source, count, starts, planes, first):
    """planes[starts[lane] + first + p] = turned[source + p lanes + lane], lane after lane; reads squares of lanes."""
    lanes = len(starts)
    for p in range(0, count, lanes):
        _transpose_back(planes, first + p, starts, turned, source + p * lanes, min(lanes, count - p))


_transpose = simd.transposing_copy(simd.VECTOR_BYTES)


@intrinsic
def _transpose_back(typing, target, i, starts, source, j, count):
    """target[i + starts[r] + lane] = source[j + lane lanes + r] for lanes below ``count``."""

    def emit(context, builder, signature, arguments):
        emitter, target, starts, source = opened(context, builder, signature, arguments, 0, 2, 3)
        _, i, _, _, j, count = arguments
        rows = [emitter.load(source, builder.add(j, constant(n * emitter.lanes))) for n in range(emitter.lanes)]
        columns = [
            (vector, builder.add(i, builder.load(builder.gep(starts, [constant(r)]))))
            for r, vector in enumerate(emitter.transpose(rows))
        ]
        with builder.if_else(builder.icmp_signed(">=", count, constant(emitter.lanes))) as (whole, part):
            with whole:
                for vector, place in columns:
                    emitter.store(vector, target, place)
            with part:
                for vector, place in columns:
                    emitter.store_first(vector, target, place, count)
        return context.get_dummy_value()

    index = types.intp
    return types.void(target, index, starts, source, index, index), emit


@intrinsic
def add_vectors(typing, source, i, step, count, target, j):
    """Vector target[j] += sum over n below ``count`` of the vectors source[i + n step]."""

    def emit(context, builder, signature, arguments):
        emitter, source, target = opened(context, builder, signature, arguments, 0, 4)
        _, i, step, count, _, j = arguments
        total = cgutils.alloca_once(builder, emitter.vector)
        builder.store(emitter.load(target, j), total)
        with cgutils.for_range(builder, count) as loop:
            vector = emitter.load(source, builder.add(i, builder.mul(loop.index, step)))
            builder.store(builder.fadd(builder.load(total), vector), total)
        emitter.store(builder.load(total), target, j)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, index, target, index), emit


@intrinsic
def add_row(typing, source, i, count, target, j):
    """Vector target[j] = sum of the vectors that source[i : i + count] is cut into, the last filled up with zeros."""

    def emit(context, builder, signature, arguments):
        emitter, source, target = opened(context, builder, signature, arguments, 0, 3)
        _, i, count, _, j = arguments
        lanes = constant(emitter.lanes)
        total = cgutils.alloca_once(builder, emitter.vector)
        builder.store(emitter.zero(), total)
        with cgutils.for_range_slice(builder, constant(0), count, lanes) as (first, _):
            vector = emitter.load_first(source, builder.add(i, first), builder.sub(count, first))
            builder.store(builder.fadd(builder.load(total), vector), total)
        emitter.store(builder.load(total), target, j)
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, target, index), emit


@intrinsic
def divide_vector(typing, vectors, i, number):
    """Vector vectors[i] /= number."""

    def emit(context, builder, signature, arguments):
        emitter, vectors = opened(context, builder, signature, arguments, 0)
        _, i, number = arguments
        emitter.store(builder.fdiv(emitter.load(vectors, i), emitter.splat(number)), vectors, i)
        return context.get_dummy_value()

    return types.void(vectors, types.intp, vectors.dtype), emit
