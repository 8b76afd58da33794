"""The one line that says why a first run takes its time: kernels are compiled, and then kept on disk."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from numba.core import event

log = logging.getLogger("blobnet")


class _Announcer(event.Listener):
    def __init__(self) -> None:
        self._done = False

    def on_start(self, event: event.Event) -> None:
        if not self._done:
            log.info("Compiling kernels for this processor (once, some ten seconds); later runs start at once")
        self._done = True

    def on_end(self, event: event.Event) -> None:
        pass


@contextmanager
def announced() -> Iterator[None]:
    """Announce the first kernel that is compiled (not merely loaded) while the context is open."""
    with event.install_listener("numba:compile", _Announcer()):
        yield
