import numpy as np
import pytest

from blobnet import cli
from blobnet.data import leveldb, lmdb
from blobnet.proto import blobnet_pb2 as pb

NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Two examples a file, as rows of a label and 3072 pixels."""
    monkeypatch.chdir(tmp_path)
    made = np.random.default_rng(0).integers(0, 256, (6, 2, 3073), np.uint8)
    made[:, :, 0] %= 10
    for name, rows in zip(NAMES, made, strict=True):
        (tmp_path / name).write_bytes(rows.tobytes())
    return made


@pytest.mark.parametrize(("backend", "reader"), [("lmdb", lmdb.Reader), ("leveldb", leveldb.Reader)])
def test_records(examples, tmp_path, backend, reader, capsys):
    assert cli.main(["convert_cifar_data", ".", ".", backend]) == 0
    assert capsys.readouterr().out == f"Wrote cifar10_train_{backend}\nWrote cifar10_test_{backend}\n"
    for part, rows in (("train", examples[:5].reshape(10, 3073)), ("test", examples[5])):
        found = list(reader(tmp_path / f"cifar10_{part}_{backend}").records())
        assert [key for key, _ in found] == [b"%05d" % index for index in range(len(rows))]
        for (_, value), row in zip(found, rows, strict=True):
            wanted = pb.Datum(channels=3, height=32, width=32, data=row[1:].tobytes(), label=int(row[0]))
            assert pb.Datum.FromString(value) == wanted


def test_faults(examples, tmp_path, capsys):
    (tmp_path / NAMES[2]).write_bytes(b"short")
    assert cli.main(["convert_cifar_data", ".", ".", "lmdb"]) == 1
    assert capsys.readouterr().err == (
        "error: data_batch_3.bin: holds 5 bytes, no whole number of CIFAR-10's records of 3073\n"
    )
    (tmp_path / NAMES[2]).unlink()
    assert cli.main(["convert_cifar_data", ".", ".", "lmdb"]) == 1
    assert capsys.readouterr().err == "error: data_batch_3.bin: cannot read: No such file or directory\n"
