"""TensorBoard's event files: records of a length, the message Event and the checksums of both.

Source: TensorFlow, tensorflow/core/util/event.proto and tensorflow/core/lib/io/record_writer.cc.
"""

import os
import platform
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from blobnet.io.blob_proto import varint
from blobnet.io.files import append
from blobnet.kernels import checksum

_VERSION = b"brain.Event:2"
_SESSION_START = b"\x08\x01"  # SessionLog { status: START }


class EventFile:
    """A new event file in a folder, to which scalars are appended.

    first_step   where a training goes on: TensorBoard drops what an earlier file holds from there on
    """

    def __init__(self, folder: str | os.PathLike, first_step: int = 0):
        name = f"events.out.tfevents.{time.time():.6f}.{platform.node()}.{os.getpid()}"
        self.path = Path(folder) / name
        self._append(_field(3, _VERSION))
        if first_step:
            self._append(_step(first_step) + _field(7, _SESSION_START))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append the values of some tags at one step."""
        values = (_field(1, _field(1, tag.encode()) + b"\x15" + struct.pack("<f", scalars[tag])) for tag in scalars)
        self._append(_step(step) + _field(5, b"".join(values)))

    def _append(self, event: bytes) -> None:
        event = b"\x09" + struct.pack("<d", time.time()) + event
        length = struct.pack("<Q", len(event))
        append(self.path, length + _checksum(length) + event + _checksum(event))


def _step(number: int) -> bytes:
    return b"\x10" + varint(number)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def _checksum(data: bytes) -> bytes:
    return checksum.masked(data).to_bytes(4, "little")
