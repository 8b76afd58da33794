"""The guards of HDF5 reading, each against a file made for it."""

import h5py
import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.io import hdf5


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.h5"


def read(path, name="data"):
    with hdf5.Reader(path) as reader:
        return reader.array(name)


def test_numbers_of_any_type_are_read(path):
    with h5py.File(path, "w") as file:
        for dtype in ("f4", "f8", "f2", "u1", "i8"):
            file[dtype] = np.arange(6, dtype=dtype).reshape(2, 3)
        file["scalar"] = np.int32(7)
    for dtype in ("f4", "f8", "f2", "u1", "i8"):
        found = read(path, dtype)
        assert found.dtype == (np.float64 if dtype == "f8" else np.float32)
        np.testing.assert_array_equal(found, np.arange(6).reshape(2, 3))
    with hdf5.Reader(path) as reader:
        assert reader.integer("scalar") == 7
        assert "scalar" in reader
        assert "nothing" not in reader


def test_text_comes_back_and_ends_with_zero(path):
    with hdf5.writer(path) as file:
        hdf5.write_text(file, "name", "café.caffemodel")
        file["other"] = "variable length"
    with h5py.File(path) as file:
        assert file["name"].dtype == f"S{len('café.caffemodel'.encode()) + 1}"
    with hdf5.Reader(path) as reader:
        assert reader.text("name") == "café.caffemodel"
        assert reader.text("other") == "variable length"


def test_links_are_not_followed(path, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["data"] = [1.0]
    with h5py.File(path, "w") as file:
        file["external"] = h5py.ExternalLink("secret.h5", "data")
        file["soft"] = h5py.SoftLink("/group")
        file["group/data"] = [1.0]
    for name in ("external", "soft", "soft/data"):
        with pytest.raises(BlobnetError, match="soft or external link"):
            read(path, name)


def test_datasets_that_lie_elsewhere_are_refused(path, tmp_path):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["data"] = np.ones(4, "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "source.h5", "data", shape=(4,))
    (tmp_path / "raw").write_bytes(bytes(16))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
        file.create_dataset("null", dtype="f4", data=h5py.Empty("f4"))
    for name in ("virtual", "external", "null"):
        with pytest.raises(BlobnetError, match="virtual, external or null"):
            read(path, name)


def test_a_shape_bomb_is_refused(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("never written", (1 << 40,), "f4")
        file.create_dataset("compressed", (1 << 28,), "f4", compression="gzip", chunks=(1 << 20,))
    for name in ("never written", "compressed"):
        with pytest.raises(BlobnetError, match="needs .* this file may come to 6.* MiB more"):
            read(path, name)


def test_a_chunk_larger_than_its_dataset_is_a_shape_bomb(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("rows", data=np.zeros(3, "f4"), chunks=(1 << 25,), maxshape=(None,), compression="gzip")
    with pytest.raises(BlobnetError, match="needs 128 MiB"):
        read(path, "rows")


def test_well_packed_data_need_a_budget(path):
    """A hundredfold: no weights are packed so tight, but labels of a data layer, which are budgeted for, may be."""
    with h5py.File(path, "w") as file:
        file.create_dataset("rows", (1 << 25,), "f4", data=np.zeros(1 << 25, "f4"), compression="gzip")
        file["noise"] = np.random.default_rng(0).integers(256, size=1 << 17, dtype=np.uint8)
    with pytest.raises(BlobnetError, match="needs 128 MiB.*h5repack -f NONE"):
        read(path, "rows")
    with hdf5.Reader(path, budget=1 << 28) as reader:
        assert reader.array("rows").shape == (1 << 25,)
    with pytest.raises(BlobnetError, match="needs 128 MiB"), hdf5.Reader(path, budget=1 << 26) as reader:
        reader.array("rows")


def test_many_names_for_one_dataset_share_the_budget(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("0", (1 << 22,), "f4")
        for number in range(1, 10):
            file[str(number)] = file["0"]
    with pytest.raises(BlobnetError, match="needs 16 MiB"), hdf5.Reader(path) as reader:
        for number in range(10):
            reader.array(str(number))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing", 'HDF5 member "missing" is missing'),
        ("group", "must be a dataset; got a group"),
        ("data/below", 'HDF5 member "data/below" is missing'),
        ("strings", "must hold numbers"),
        ("compound", "must hold numbers"),
    ],
)
def test_what_is_no_array_is_an_error(path, name, text):
    with h5py.File(path, "w") as file:
        file["data"] = [1.0]
        file.create_group("group")
        file["strings"] = ["a", "b"]
        file["compound"] = np.zeros(2, [("x", "f4"), ("y", "i4")])
    with pytest.raises(BlobnetError, match=text):
        read(path, name)


def test_a_damaged_file_is_an_error(path):
    for data in (b"", hdf5.SIGNATURE, b"no HDF5" * 100):
        path.write_bytes(data)
        with pytest.raises(BlobnetError, match="cannot read HDF5") as caught:
            read(path)
        assert caught.value.file == str(path)
    with pytest.raises(BlobnetError, match="cannot read HDF5"):
        read(path.parent / "missing")


def test_a_failed_write_leaves_the_old_file(path):
    with hdf5.writer(path) as file:
        file["data"] = [1.0]
    with pytest.raises(BlobnetError, match="cannot write HDF5"), hdf5.writer(path) as file:
        file["a"] = [1.0]
        file["a"] = [2.0]
    np.testing.assert_array_equal(read(path), [1])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
