"""``python -m blobnet.proto.generate``: make blobnet_pb2.py and its .pyi from blobnet.proto, stamped with its hash.

Only who changes blobnet.proto needs it, and grpcio-tools 1.71.2 (protoc 29.0): the code it makes loads on the
protobuf runtimes 5.29 to 7. A bare checkout and an installed package hold the result.
"""

import hashlib
import tempfile
from pathlib import Path

ROOM = Path(__file__).parent
STAMP = "# Made from blobnet.proto with sha256 "


def source_hash() -> str:
    """sha256 of blobnet.proto."""
    return hashlib.sha256((ROOM / "blobnet.proto").read_bytes()).hexdigest()


def stamped_hash() -> str | None:
    """sha256 of the blobnet.proto that blobnet_pb2.py was made from."""
    for line in (ROOM / "blobnet_pb2.py").read_text().splitlines():
        if line.startswith(STAMP):
            return line.removeprefix(STAMP)
    return None


def main() -> None:
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "blobnet", "proto", "blobnet.proto")
        source.parent.mkdir(parents=True)
        source.write_bytes((ROOM / "blobnet.proto").read_bytes())
        arguments = ["protoc", f"--proto_path={folder}", f"--python_out={folder}", f"--pyi_out={folder}"]
        if protoc.main([*arguments, str(source)]) != 0:
            raise SystemExit("protoc refused blobnet.proto")
        for name in ("blobnet_pb2.py", "blobnet_pb2.pyi"):
            (ROOM / name).write_text(f"{STAMP}{source_hash()}\n{source.with_name(name).read_text()}")


if __name__ == "__main__":
    main()
