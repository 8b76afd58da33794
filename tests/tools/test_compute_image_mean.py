import numpy as np
import pytest

from blobnet import BlobnetError, cli
from blobnet.data import lmdb
from blobnet.io.mean import read_mean
from blobnet.proto import blobnet_pb2 as pb
from blobnet.tools import compute_image_mean
from tests.recorded import ROOT

FILES = ROOT / "files"


@pytest.mark.parametrize(("database", "backend"), [("lmdb_raw", "lmdb"), ("leveldb_raw", "leveldb")])
def test_the_file_is_caffes(database, backend, tmp_path, capsys):
    argv = ["compute_image_mean", f"--backend={backend}", str(FILES / database), str(tmp_path / "mean")]
    assert cli.main(argv) == 0
    assert (tmp_path / "mean").read_bytes() == (FILES / "mean.binaryproto").read_bytes()
    said = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said[1] == "Processed 20 files."
    assert said[-4:] == [
        "Number of channels: 3",
        "mean_value channel [0]: 126.739",
        "mean_value channel [1]: 129.9",
        "mean_value channel [2]: 132.38",
    ]


def test_encoded_images_and_no_file():
    mean = compute_image_mean.compute(FILES / "lmdb_png")
    np.testing.assert_array_equal(mean, read_mean(FILES / "mean.binaryproto"))


def write(path, *shapes):
    pairs = [(b"%d" % index, np.full(shape, index + 0.5)) for index, shape in enumerate(shapes)]
    lmdb.write_database(path, ((key, _datum(values)) for key, values in pairs))


def _datum(values):
    channels, height, width = values.shape
    return pb.Datum(channels=channels, height=height, width=width, float_data=values.ravel()).SerializeToString()


def test_floats(tmp_path):
    write(tmp_path / "db", (2, 3, 1), (2, 3, 1))
    np.testing.assert_array_equal(compute_image_mean.compute(tmp_path / "db"), np.ones((2, 3, 1)))


def test_sizes_must_agree(tmp_path):
    write(tmp_path / "db", (2, 3, 1), (2, 1, 3))
    with pytest.raises(BlobnetError, match=r'db, record 1 "1": has shape \(2, 1, 3\), the records before it'):
        compute_image_mean.compute(tmp_path / "db")


def test_nothing_to_read(tmp_path, capsys):
    write(tmp_path / "db")
    with pytest.raises(BlobnetError, match="the database holds no records"):
        compute_image_mean.compute(tmp_path / "db")
    assert cli.main(["compute_image_mean", str(tmp_path / "none")]) == 1
    assert "none: cannot open the database: there is no such folder" in capsys.readouterr().err
