"""A caffemodel of any age, rewritten in the current format."""

import os

from blobnet.io import files
from blobnet.passes.upgrade import upgrade_net
from blobnet.proto import blobnet_pb2 as pb


def upgrade(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Read a caffemodel and write it with today's fields; the two may be one file."""
    files.write_message(target, upgrade_net(files.read_message(source, pb.NetParameter()), os.fspath(source)))
