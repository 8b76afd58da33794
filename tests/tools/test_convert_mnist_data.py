import gzip

import numpy as np
import pytest

from blobnet import cli
from blobnet.data import leveldb, lmdb
from blobnet.proto import blobnet_pb2 as pb

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").write_bytes(idx(IMAGES))
    (tmp_path / "labels").write_bytes(gzip.compress(idx(np.array([7, 0, 9], np.uint8))))
    return tmp_path


@pytest.mark.parametrize(("flags", "reader"), [([], lmdb.Reader), (["--backend=leveldb"], leveldb.Reader)])
def test_records(folder, flags, reader, capsys):
    assert cli.main(["convert_mnist_data", "images", "labels", "db", *flags]) == 0
    assert capsys.readouterr().out == "A total of 3 items.\n"
    found = dict(reader(folder / "db").records())
    assert list(found) == [b"00000000", b"00000001", b"00000002"]
    wanted = pb.Datum(channels=1, height=4, width=5, data=IMAGES[2].tobytes(), label=9)
    assert pb.Datum.FromString(found[b"00000002"]) == wanted


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["labels", "labels"], "labels: the images must have shape [N, H, W], the labels [N]; got (3,) and (3,)"),
        (
            ["images", "images"],
            "images: the images must have shape [N, H, W], the labels [N]; got (3, 4, 5) and (3, 4, 5)",
        ),
        (["none", "labels"], "none: cannot read: No such file or directory"),
    ],
)
def test_faults(folder, argv, said, capsys):
    assert cli.main(["convert_mnist_data", *argv, "db"]) == 1
    assert capsys.readouterr().err == f"error: {said}\n"
    assert not (folder / "db").exists()
