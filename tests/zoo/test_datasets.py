"""The databases of the zoo against the files they are made from."""

import gzip
import tracemalloc

import numpy as np
import pytest

from blobnet.context import Context
from blobnet.data import lmdb
from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb
from blobnet.zoo import datasets


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOBNET_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_test_database_holds_the_images_and_labels_in_order(cache):
    path = datasets.find("mnist_test_lmdb")
    assert path == cache / "datasets" / "mnist_test_lmdb"
    records = list(lmdb.Reader(path).records())
    datums = [pb.Datum.FromString(value) for _, value in records]
    content = gzip.decompress((datasets._FOLDER / "mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    assert [key for key, _ in records] == [b"%08d" % index for index in range(10000)]
    assert b"".join(datum.data for datum in datums) == content[16:]
    assert [datum.label for datum in datums[:10]] == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert {(datum.channels, datum.height, datum.width) for datum in datums} == {(1, 28, 28)}


def test_pairs_are_two_images_and_whether_they_show_one_digit(cache):
    records = lmdb.Reader(datasets.find("mnist_siamese_test_lmdb")).records()
    images, labels = datasets._mnist("t10k")
    first, second = np.random.default_rng(0).integers(10000, size=(2, 10000))
    for (_, value), left, right in zip(records, first, second, strict=True):
        datum = pb.Datum.FromString(value)
        assert datum.data == images[left].tobytes() + images[right].tobytes()
        assert datum.label == (labels[left] == labels[right])
        assert (datum.channels, datum.height, datum.width) == (2, 28, 28)


def test_pairs_are_made_one_by_one():
    tracemalloc.start()
    images, _ = datasets._mnist_pairs("t10k")
    for _ in images:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 10000 * 28 * 28  # the file is unpacked, and copied once


def test_a_database_is_made_once_and_announced(cache, caplog):
    caplog.set_level("INFO", "blobnet")
    path = datasets.find("mnist_test_lmdb")
    made = (path / "data.mdb").stat().st_mtime_ns
    assert datasets.find("mnist_test_lmdb") == path
    assert (path / "data.mdb").stat().st_mtime_ns == made
    assert [record.message for record in caplog.records] == [
        f"Making mnist_test_lmdb, a database of 10000 images, in {path.parent} (once)"
    ]


def test_other_names_are_not_the_zoos(cache):
    assert datasets.find("imagenet_train_lmdb") is None
    assert not cache.exists()


def test_a_prototxt_names_a_database_like_any_other(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = Context(phase=pb.TRAIN, folder=tmp_path / "model")
    assert context.find("examples/mnist/mnist_test_lmdb") == cache / "datasets" / "mnist_test_lmdb"
    (tmp_path / "model" / "mnist_test_lmdb").mkdir(parents=True)
    assert context.find("mnist_test_lmdb") == tmp_path / "model" / "mnist_test_lmdb"
    (tmp_path / "mnist_test_lmdb").mkdir()
    assert str(context.place("mnist_test_lmdb")) == "mnist_test_lmdb"


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BLOBNET_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(BlobnetError, match="BLOBNET_CACHE_DIR names another folder"):
        datasets.find("mnist_test_lmdb")


def test_a_failed_build_leaves_nothing(cache, monkeypatch):
    def stop(*_):
        raise BlobnetError("disk full")
        yield

    monkeypatch.setattr(datasets, "records", stop)
    with pytest.raises(BlobnetError, match="disk full"):
        datasets.find("mnist_test_lmdb")
    assert list((cache / "datasets").iterdir()) == []


def test_read_idx(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = bytes([0, 0, 8, 3]) + np.array(array.shape, ">u4").tobytes()
    path = tmp_path / "idx.gz"
    for content in (header + array.tobytes(), gzip.compress(header + array.tobytes())):
        path.write_bytes(content)
        assert np.array_equal(datasets.read_idx(path), array)


def test_a_gzip_bomb_is_refused(tmp_path):
    path = tmp_path / "idx.gz"
    path.write_bytes(gzip.compress(bytes(80 << 20)))
    with pytest.raises(BlobnetError, match="idx.gz: .* gzipped bytes come to more than the limit of 67"):
        datasets.read_idx(path)


NO_GZIP = [b"no gzip", b"", b"\0\0\x08", b"\0\0\x08\x01\0\0\0\2a", b"\0\0\x08\x01\0\0\0\2abc", b"\0\0\x08\0"]


@pytest.mark.parametrize("damage", [lambda content: content[:100], *(lambda _, bad=bad: bad for bad in NO_GZIP)])
def test_a_damaged_idx_file_is_named(tmp_path, damage):
    path = tmp_path / "idx.gz"
    path.write_bytes(damage(gzip.compress(bytes(1000), mtime=0) * 20))
    with pytest.raises(BlobnetError, match="idx.gz: "):
        datasets.read_idx(path)
