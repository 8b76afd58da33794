"""How the log looks: one line an event, on standard error.

On a terminal a line is the message alone, above the progress line; elsewhere, and wherever Caffe's format is asked
for, it has glog's prefix, which the scripts that read Caffe's logs expect.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

log = logging.getLogger("blobnet")

CLEAR_LINE = "\r\x1b[K"


@contextmanager
def shown(as_caffe: bool = False) -> Iterator[None]:
    """Show what the ``blobnet`` logger gets while the context is open."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AboveProgress() if sys.stderr.isatty() and not as_caffe else _Glog())
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


class _AboveProgress(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return CLEAR_LINE + super().format(record)


class _Glog(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created)
        place = f"{record.process} {record.filename}:{record.lineno}"
        return f"{record.levelname[0]}{when:%m%d %H:%M:%S.%f} {place}] {super().format(record)}"
