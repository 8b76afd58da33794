import numpy as np
import pytest

from blobnet import cli
from blobnet.data import leveldb, lmdb
from blobnet.proto import blobnet_pb2 as pb
from tests.recorded import ROOT, assert_close

FILES = ROOT / "files"


def records(path, reader=lmdb.Reader):
    return [(key, pb.Datum.FromString(value)) for key, value in reader(path).records()]


@pytest.fixture
def run(tmp_path):
    def run(*argv, weights="tiny_iter_10.caffemodel"):
        return cli.main(["extract_features", str(FILES / weights), str(FILES / "feat.prototxt"), *argv])

    return run


def test_databases_are_caffes(run, tmp_path, capsys):
    assert run("pool1,ip", f"{tmp_path}/one,{tmp_path}/two", "3", "lmdb", "CPU") == 0
    assert "Extracted features of 12 query images for feature blob ip" in capsys.readouterr().err
    for found, recorded in (("one", "feat_lmdb"), ("two", "feat_lmdb2")):
        assert_same(records(tmp_path / found), records(FILES / recorded))


def test_a_leveldb_is_caffes(run, tmp_path):
    assert run("ip", str(tmp_path / "db"), "3", "leveldb", "GPU", "DEVICE_ID=0") == 0
    assert_same(records(tmp_path / "db", leveldb.Reader), records(FILES / "feat_leveldb", leveldb.Reader))


def assert_same(found, recorded):
    for (key, datum), (recorded_key, recorded_datum) in zip(found, recorded, strict=True):
        assert key == recorded_key
        assert_close(np.array(datum.float_data), np.array(recorded_datum.float_data), key.decode())
        del datum.float_data[:], recorded_datum.float_data[:]
        assert datum == recorded_datum


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["poll1", "db", "3", "lmdb"], 'feat.prototxt: there is no blob "poll1"; did you mean "pool1"?'),
        (["pool1,ip", "db", "3", "lmdb"], "each blob needs a database; got 2 blobs, 1 databases"),
        (["pool1", "db", "3", "sqlite"], "argument backend: invalid choice: 'sqlite'"),
        (["pool1", "db", "0", "lmdb"], "argument BATCHES: a whole number of 1 or more is needed"),
        (["pool1", "db", "3"], "the following arguments are required: backend"),
    ],
)
def test_faults(run, argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
