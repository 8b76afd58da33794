"""HDF5Data and HDF5Output. Their values are held in tests/test_golden_files.py."""

import contextlib
import resource

import h5py
import numpy as np
import pytest

from blobnet import BlobnetError, config
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text

COUNTS = 5, 2, 4
ROWS = np.arange(sum(COUNTS) * 6, dtype=np.float32).reshape(-1, 2, 3)


@pytest.fixture
def folder(tmp_path):
    """Three files of 5, 2 and 4 rows; the label of a row is its number."""
    start = 0
    for number, count in enumerate(COUNTS):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["data"] = ROWS[start : start + count]
            file["label"] = np.arange(start, start + count)
        start += count
    (tmp_path / "list.txt").write_text("0.h5\n1.h5\n\n2.h5\n")
    return tmp_path


def build(folder, fields="batch_size: 3", tops=("data", "label"), source="list.txt", seed=1, extra=""):
    named = " ".join(f'top: "{top}"' for top in tops)
    layer = f"""layer {{ name: "d" type: "HDF5Data" {named} {extra}
      hdf5_data_param {{ source: "{source}" {fields} }} }}"""
    return net_from_text(layer, pb.TRAIN, folder=folder, seed=seed)


def labels(net, count):
    found = []
    for _ in range(count):
        net.forward()
        found += net.blobs["label"].data.astype(int).tolist()
        np.testing.assert_array_equal(net.blobs["data"].data, ROWS[found[-len(net.blobs["label"].data) :]])
    return found


@pytest.mark.parametrize("size", [1, 3, 11, 25])
def test_batches_run_across_files_and_wrap(folder, size):
    net = build(folder, f"batch_size: {size}")
    assert net.blobs["data"].shape == (size, 2, 3)
    assert net.blobs["label"].shape == (size,)
    assert labels(net, 5) == (list(range(11)) * 12)[: 5 * size]


def test_tightly_packed_files_need_a_limit_of_memory_that_is_set(folder, monkeypatch):
    monkeypatch.setattr(config, "_max_memory", None)
    monkeypatch.delenv("BLOBNET_MAX_MEMORY", raising=False)
    with h5py.File(folder / "0.h5", "w") as file:
        file.create_dataset("data", data=np.zeros((3, 6 << 20), np.float32), compression="gzip")
        file["label"] = np.arange(3)
    (folder / "list.txt").write_text("0.h5\n")
    with pytest.raises(BlobnetError, match='0.h5: HDF5 member "data" of shape .* needs 72 MiB'):
        build(folder, "batch_size: 1").forward()
    config.set_max_memory("1G")
    net = build(folder, "batch_size: 1")
    net.forward()
    assert net.blobs["data"].shape == (1, 6 << 20) and not net.blobs["data"].data.any()


def test_shuffling_mixes_files_and_rows_but_keeps_each_file_together(folder):
    epochs = np.array(labels(build(folder, "batch_size: 11 shuffle: true"), 8)).reshape(8, 11)
    assert len({tuple(epoch) for epoch in epochs}) == 8
    for epoch in epochs:
        assert sorted(epoch) == list(range(11))
        files = np.repeat([0, 1, 2], COUNTS)[epoch]
        assert (np.diff(files) != 0).sum() == 2
    assert labels(build(folder, "batch_size: 11 shuffle: true"), 8) == epochs.ravel().tolist()
    assert labels(build(folder, "batch_size: 11 shuffle: true", seed=2), 8) != epochs.ravel().tolist()


@pytest.mark.parametrize("fields", ["batch_size: 3", "batch_size: 4 shuffle: true"])
def test_a_restored_layer_goes_on_with_the_next_row(folder, fields):
    net = build(folder, fields)
    labels(net, 5)
    state = net.state()
    expected = labels(net, 10)
    fresh = build(folder, fields, seed=77)
    fresh.restore(state)
    assert labels(fresh, 10) == expected


def test_doubles_reach_a_double_net(folder):
    with h5py.File(folder / "double.h5", "w") as file:
        file["x"] = np.array([[1 / 3]])
    (folder / "list.txt").write_text("double.h5")
    layer = 'layer { name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "list.txt" batch_size: 1 } }'
    net = net_from_text(layer, folder=folder, dtype=np.float64)
    assert net.forward()["x"][0, 0] == 1 / 3


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"fields": ""}, "batch_size must be given and positive"),
        ({}, {"source": "nowhere"}, "nowhere: cannot read"),
        ({"list.txt": ""}, {}, "list.txt: the list names no HDF5 files"),
        ({"list.txt": "0.h5\nmissing.h5"}, {}, r"missing.h5: cannot read: No such file"),
        ({"2.h5": "no HDF5"}, {}, r"2.h5: cannot read HDF5"),
        ({}, {"tops": ("data", "score")}, r'0.h5: HDF5 member "score" is missing'),
        ({}, {"extra": "transform_param { scale: 2 }"}, "takes data as they are; remove transform_param"),
    ],
)
def test_what_is_wrong_when_the_net_is_built(folder, change, options, message):
    for name, text in change.items():
        (folder / name).write_text(text)
    with pytest.raises(BlobnetError, match=message) as caught:
        build(folder, **options)
    assert caught.value.layer == 'layer "d" (HDF5Data)'


@pytest.mark.parametrize(
    ("data", "label", "message"),
    [
        (np.ones((4, 2, 2)), np.ones(4), r"rows must have shapes .*, as in .*0.h5; got \[\(2, 2\), \(\)\]"),
        (np.ones((4, 2, 3)), np.ones(3), r"equally many rows, 1 or more; got data \(4, 2, 3\), label \(3,\)"),
        (np.ones((0, 2, 3)), np.ones(0), "equally many rows, 1 or more"),
        (np.float32(1), np.float32(1), "equally many rows, 1 or more"),
    ],
)
def test_files_that_do_not_fit_together(folder, data, label, message):
    with h5py.File(folder / "2.h5", "w") as file:
        file["data"], file["label"] = data, label
    with pytest.raises(BlobnetError, match=message):
        build(folder)


def output_net(path, data="dim: 2 dim: 3", label="dim: 2"):
    return net_from_text(
        f"""layer {{ name: "in" type: "Input" top: "data" top: "label"
              input_param {{ shape {{ {data} }} shape {{ {label} }} }} }}
            layer {{ name: "out" type: "HDF5Output" bottom: "data" bottom: "label"
              hdf5_output_param {{ file_name: "{path}" }} }}"""
    )


def test_output_begins_a_file_and_appends(tmp_path):
    path = tmp_path / "out.h5"
    path.write_text("what was here before")
    net = output_net(path)
    for number in range(3):
        net.forward(data=np.full((2, 3), number), label=np.arange(2) + number)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][:, :, 0, 0], np.repeat([0, 1, 2], 2)[:, None] * np.ones(3))
        np.testing.assert_array_equal(file["label"][:, 0, 0, 0], [0, 1, 1, 2, 2, 3])


def written(path) -> list[float]:
    with h5py.File(path) as file:
        assert len(file["data"]) == len(file["label"])
        return file["label"][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("again", [0, 1, 3])
def test_output_goes_on_behind_the_rows_of_the_snapshot(tmp_path, again):
    """``again``: passes made between the snapshot and the kill."""
    path = tmp_path / "out.h5"
    net = output_net(path)
    net.forward(label=[0, 1])
    net.forward(label=[2, 3])
    state = net.state()
    for number in range(again):
        net.forward(label=[90 + number, 90])
    resumed = output_net(path)
    resumed.restore(state)
    assert len(written(path)) == 4 + 2 * again
    resumed.forward(label=[4, 5])
    resumed.forward(label=[6, 7])
    assert written(path) == list(range(8))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("harm", ["gone", "no HDF5", "too few rows", "links"])
def test_output_begins_anew_where_the_rows_of_the_snapshot_are_gone(tmp_path, caplog, harm):
    path = tmp_path / "out.h5"
    net = output_net(path)
    net.forward(label=[0, 1])
    state = net.state()
    path.unlink()
    if harm == "no HDF5":
        path.write_text("text")
    elif harm == "too few rows":
        output_net(path, data="dim: 1 dim: 3", label="dim: 1").forward()
    elif harm == "links":
        with h5py.File(path, "w") as file:
            file["data"] = file["label"] = h5py.ExternalLink("other.h5", "/x")
    resumed = output_net(path)
    resumed.restore(state)
    resumed.forward(label=[4, 5])
    assert written(path) == [4, 5]
    assert "out.h5: " in caplog.text and "the output begins anew" in caplog.text


@contextlib.contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_output_that_cannot_be_cut_back_is_an_error_and_stays(tmp_path):
    path = tmp_path / "out.h5"
    net = output_net(path)
    net.forward(label=[0, 1])
    state = net.state()
    net.forward(label=[90, 90])
    resumed = output_net(path)
    resumed.restore(state)
    with files_of_at_most(1000), pytest.raises(BlobnetError, match="out.h5: cannot write: File too large"):
        resumed.forward(label=[4, 5])
    assert written(path) == [0, 1, 90, 90]
    resumed.forward(label=[4, 5])
    assert written(path) == [0, 1, 4, 5]


def test_output_on_a_full_disk_is_an_error_and_what_was_written_stays(tmp_path):
    net = output_net(tmp_path / "out.h5", data="dim: 2 dim: 3 dim: 100 dim: 100")
    net.forward()
    size = (tmp_path / "out.h5").stat().st_size
    with (
        files_of_at_most(size + 1000),
        pytest.raises(BlobnetError, match="out.h5: cannot write HDF5: .*too large"),
    ):
        net.forward()
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].shape == (2, 3, 100, 100)
    net.forward()
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["data"].shape == (4, 3, 100, 100)
    assert (tmp_path / "out.h5").stat().st_size < 2.2 * size


def test_output_has_no_gradient(tmp_path):
    net = output_net(tmp_path / "out.h5")
    layer, bottom = net.layers[-1], net.bottoms[-1]
    bottom[0].diff[...] = 7
    bottom[1].diff[...] = 7
    layer.backward([], [True, False], bottom)
    assert (bottom[0].diff == 0).all()
    assert (bottom[1].diff == 7).all()


def test_what_is_wrong_with_output(tmp_path):
    with pytest.raises(BlobnetError, match="file_name must name the file"):
        output_net("")
    with pytest.raises(BlobnetError, match="equally many rows; got 2 and 3"):
        output_net(tmp_path / "out.h5", label="dim: 3")
    with pytest.raises(BlobnetError, match="one to four axes"):
        output_net(tmp_path / "out.h5", data="dim: 2 dim: 1 dim: 1 dim: 1 dim: 1")
    net = output_net(tmp_path / "missing" / "out.h5")
    with pytest.raises(BlobnetError, match="out.h5: cannot write: No such file") as caught:
        net.forward()
    assert caught.value.layer == 'layer "out" (HDF5Output)'
