"""What the machine can do at most, measured: multiply-adds in registers, and copies through memory.

``python -m benchmarks.kernels`` and ``blobnet time`` hold layers against these limits. Arrays that stay in a cache
move faster than the copy measured here, so that a layer may come out above the limit.
"""

import functools
from time import perf_counter
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from blobnet import config
from blobnet.kernels import simd
from blobnet.kernels._jit import jit
from blobnet.kernels.instructions import Emitter
from blobnet.kernels.parallel import parallel_for
from blobnet.kernels.tiles import TILE_ROWS, TILE_VECTORS

# Sums under way at once, as many as in the innermost loop of the matrix product: enough to hide the latency.
CHAINS = TILE_ROWS * TILE_VECTORS
STEPS = 1 << 21
COPIED_BYTES = 1 << 27
REPEATS = 5


class Limits(NamedTuple):
    """Of all threads together."""

    flops: float  # multiplications and additions a second, float32
    bytes: float  # read and written a second


@functools.cache
def measured() -> Limits:
    """As ``measure`` found them when they were first asked for."""
    return measure()


def measure() -> Limits:
    """The best of some runs of each, which take half a second."""
    threads = config.threads()
    sums = np.ones((threads, simd.VECTOR_BYTES // 4), np.float32)
    source = np.ones(COPIED_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    operations = 2 * threads * STEPS * CHAINS * sums.shape[1]
    return Limits(
        flops=operations / _shortest(lambda: parallel_for(multiply_and_add, threads, STEPS, sums)),
        bytes=2 * COPIED_BYTES / _shortest(lambda: parallel_for(copy, len(source), source, target, grain=1024)),
    )


def _shortest(run) -> float:
    """Seconds of the fastest run, the first one, which compiles, left out."""
    run()
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


@intrinsic
def _run_chains(typing, steps, sums, i):
    """CHAINS independent vectors x = x / 2 + 1/2, ``steps`` times; sums[i : i + lanes] = their sum."""

    def emit(context, builder, signature, arguments):
        array = context.make_array(signature.args[1])(context, builder, arguments[1])
        emitter = Emitter(builder, context, signature.args[1].dtype)
        half = ir.Constant(emitter.vector, [0.5] * emitter.lanes)
        chains = [cgutils.alloca_once_value(builder, emitter.zero()) for _ in range(CHAINS)]
        with cgutils.for_range(builder, arguments[0]):
            for chain in chains:
                builder.store(emitter.multiply_add(builder.load(chain), half, half), chain)
        total = emitter.zero()
        for chain in chains:
            total = builder.fadd(total, builder.load(chain))
        emitter.store(total, array.data, arguments[2])
        return context.get_dummy_value()

    return types.void(types.intp, sums, types.intp), emit


@jit
def multiply_and_add(start, stop, steps, sums):
    """Nothing but multiply-adds, for the rows start to stop of sums [threads, lanes]."""
    for row in range(start, stop):
        _run_chains(steps, sums.reshape(-1), row * sums.shape[1])


@jit
def copy(start, stop, source, target):
    for i in range(start, stop):
        target[i] = source[i]
