"""A prototxt of any age, rewritten in the current format."""

import os

from blobnet.io.files import atomic_write
from blobnet.passes.upgrade import upgrade_net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def upgrade(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Read a net's prototxt and write what it says in today's words; the two may be one file."""
    net = upgrade_net(text.read(os.fspath(source), pb.NetParameter()), os.fspath(source))
    with atomic_write(target) as temporary:
        temporary.write_text(text.dump(net), encoding="utf-8")
