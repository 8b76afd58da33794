"""A solver's prototxt of any age, rewritten in the current format."""

import os

from blobnet.io.files import atomic_write
from blobnet.passes.upgrade import upgrade_solver
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def upgrade(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Read a solver's prototxt and write what it says in today's words; the two may be one file."""
    solver = upgrade_solver(text.read(os.fspath(source), pb.SolverParameter()), os.fspath(source))
    with atomic_write(target) as temporary:
        temporary.write_text(text.dump(solver), encoding="utf-8")
