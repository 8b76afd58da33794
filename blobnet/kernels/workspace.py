"""Work arrays: what kernels write before they read it, in the same memory pass after pass.

Fresh memory is mapped page by page when it is first written, which takes longer than the writing.
"""

import math
import threading

import numpy as np

CACHE_LINE = 64  # bytes
MOST_ARRAYS = 256  # that are kept of one use: nets whose inputs change their shapes might ask for any number

_held = threading.local()


def work_array(use: str, shape: tuple[int, ...], dtype) -> np.ndarray:
    """An array with anything in it, valid until the same thread asks again for one of the same use.

    It begins at a cache line, so that vectors need not lie across two of them.
    """
    held = vars(_held).setdefault(use, {})
    array = held.get((shape, dtype))
    if array is None:
        array = held[shape, dtype] = _cut(held, shape, np.dtype(dtype))
    return array


def _cut(held: dict, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of the memory of a use, which holds it and the arrays that were cut from it before."""
    size = math.prod(shape) * dtype.itemsize
    memory = held.get("memory")
    if memory is None or len(memory) < size or len(held) > MOST_ARRAYS:
        held.clear()  # the old one goes before the new one comes
        memory = held["memory"] = aligned(size, np.uint8)
    return np.ndarray(shape, dtype, memory)


def aligned(shape: int | tuple[int, ...], dtype) -> np.ndarray:
    """An array with anything in it that begins at a cache line."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)
