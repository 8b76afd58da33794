"""What a first run does about its kernels: one line that says why it takes its time, and a second process that helps.

Kernels are compiled when first called, and then kept on disk.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from numba.core import event

from blobnet import config

if TYPE_CHECKING:
    from blobnet.solvers import Solver

log = logging.getLogger("blobnet")


class _First(event.Listener):
    """Calls a function when the first kernel is about to be compiled, not merely loaded."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act: Callable[[], object] | None = act

    def on_start(self, event: event.Event) -> None:
        if self._act:
            act, self._act = self._act, None
            act()

    def on_end(self, event: event.Event) -> None:
        pass


def _announce() -> None:
    log.info("Compiling kernels for this processor (once, some ten seconds); later runs start at once")


@contextlib.contextmanager
def announced() -> Iterator[None]:
    """Announce the first kernel that is compiled while the context is open."""
    with event.install_listener("numba:compile", _First(_announce)):
        yield


@contextlib.contextmanager
def helped(solver: "Solver") -> Iterator[None]:
    """When the first kernel is compiled while the context is open, let a second core begin with the second half."""
    with contextlib.ExitStack() as stack:

        def start() -> None:
            from blobnet.solvers import rehearsal

            with contextlib.suppress(OSError):
                process = rehearsal.start(solver)
                stack.callback(process.wait)
                stack.callback(process.kill)

        if config.threads() > 1:
            stack.enter_context(event.install_listener("numba:compile", _First(start)))
        yield
