"""Work arrays: what kernels write before they read it, in the same memory pass after pass.

Fresh memory is mapped page by page when it is first written, which takes longer than the writing.
"""

import math
import threading

import numpy as np

CACHE_LINE = 64  # bytes

_held = threading.local()


def work_array(use: str, shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array with anything in it, valid until the same thread asks again for one of the same use.

    It begins at a cache line, so that vectors need not lie across two of them.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    held = vars(_held)
    memory = held.get(use)
    if memory is None or len(memory) < size:
        held[use] = None  # the old one goes before the new one comes
        memory = held[use] = aligned(size, np.uint8)
    return np.ndarray(shape, dtype, memory)


def aligned(shape: int | tuple[int, ...], dtype) -> np.ndarray:
    """An array with anything in it that begins at a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)
