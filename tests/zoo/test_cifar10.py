"""CIFAR-10's command on small copies of its own, with their checksums in place of the real ones."""

import hashlib
import tarfile

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.data import lmdb
from blobnet.io.mean import read_mean
from blobnet.proto import blobnet_pb2 as pb
from blobnet.zoo import cifar10, datasets

RANDOM = np.random.default_rng(3)
IMAGES = {part: RANDOM.integers(0, 256, (count, 3, 32, 32), np.uint8) for part, count in (("train", 15), ("test", 4))}
LABELS = {part: RANDOM.integers(0, 10, len(images), np.uint8) for part, images in IMAGES.items()}


def records(part: str) -> np.ndarray:
    return np.column_stack([LABELS[part], IMAGES[part].reshape(len(IMAGES[part]), -1)])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BLOBNET_CACHE_DIR", str(tmp_path / "cache"))
    sums = {part: hashlib.sha256(records(part).tobytes()).hexdigest() for part in IMAGES}
    monkeypatch.setattr(cifar10, "_CHECKSUMS", sums)
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def copies(tmp_path):
    """The folder, the archive and the npz of one copy."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number, batch in enumerate(np.split(records("train"), 5), start=1):
        (folder / f"data_batch_{number}.bin").write_bytes(batch.tobytes())
    (folder / "test_batch.bin").write_bytes(records("test").tobytes())
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    arrays = {f"{part}_images": images for part, images in IMAGES.items()}
    np.savez(tmp_path / "cifar.npz", **arrays, **{f"{part}_labels": labels for part, labels in LABELS.items()})
    return {"folder": folder, "archive": tmp_path / "cifar-10-binary.tar.gz", "npz": tmp_path / "cifar.npz"}


@pytest.mark.parametrize("kind", ["folder", "archive", "npz"])
def test_databases_hold_the_images_in_order(cache, copies, kind):
    assert cifar10.prepare(copies[kind]) == [cache / "cifar10_train_lmdb", cache / "cifar10_test_lmdb"]
    for part in IMAGES:
        path = datasets.find(f"cifar10_{part}_lmdb")
        datums = [pb.Datum.FromString(value) for _, value in lmdb.Reader(path).records()]
        assert b"".join(datum.data for datum in datums) == IMAGES[part].tobytes()
        assert [datum.label for datum in datums] == LABELS[part].tolist()
        assert {(datum.channels, datum.height, datum.width) for datum in datums} == {(3, 32, 32)}


def test_a_changed_copy_is_refused(cache, copies):
    with (copies["folder"] / "data_batch_3.bin").open("r+b") as file:
        file.write(b"\x0b")
    with pytest.raises(BlobnetError, match="cifar-10-batches-bin: does not hold CIFAR-10's train images"):
        cifar10.prepare(copies["folder"])
    assert not cache.exists()


@pytest.mark.parametrize("broken", ["absent", "empty folder", "text", "cut archive", "text.npz", "other.npz"])
def test_what_is_no_copy_gets_one_line(cache, copies, tmp_path, broken):
    path = tmp_path / broken
    if broken == "empty folder":
        path.mkdir()
    elif broken == "cut archive":
        path.write_bytes(copies["archive"].read_bytes()[:9000])
    elif broken == "other.npz":
        np.savez(path, images=LABELS["test"])
    elif broken != "absent":
        path.write_text("0123")
    with pytest.raises(BlobnetError, match="cannot be read as CIFAR-10's archive, the folder") as caught:
        cifar10.prepare(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_failed_download_says_what_else_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10, "_URL", (tmp_path / "absent.tar.gz").as_uri())
    monkeypatch.setattr("sys.argv", ["cifar10"])
    with pytest.raises(SystemExit, match="cannot download file:.*name it: python -m blobnet.zoo.cifar10 cifar-10"):
        cifar10.main()


def test_before_it_has_run_the_error_names_the_command(cache):
    with pytest.raises(BlobnetError, match="python -m blobnet.zoo.cifar10"):
        datasets.find("cifar10_train_lmdb")


def test_the_mean_is_that_of_the_real_images():
    """Of 50,000 images: the channel means that the literature gives, 0.4914, 0.4822, 0.4465."""
    mean = read_mean(datasets.find("cifar10_mean.binaryproto"))
    assert mean.shape == (3, 32, 32)
    np.testing.assert_allclose(mean.mean((1, 2)) / 255, (0.49140, 0.48216, 0.44653), atol=1e-5)
