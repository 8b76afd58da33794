"""The garbage collector, out of the way of what builds many objects that stay."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Let it rest while the block runs: it would look through a growing net again and again, and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Let it rest while modules are imported, and never look at what is there when the block ends: it stays."""
    with paused():
        yield
        gc.freeze()
