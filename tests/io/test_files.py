import os
import resource
import threading

import pytest

from blobnet import BlobnetError
from blobnet.io import files
from blobnet.proto import blobnet_pb2 as pb

NET = pb.NetParameter(name="net", layer=[pb.LayerParameter(name="a", type="ReLU", bottom=["x"], top=["y"])])


def test_a_message_comes_back(tmp_path):
    files.write_message(tmp_path / "net", NET)
    assert files.read_message(tmp_path / "net", pb.NetParameter()) == NET
    assert os.listdir(tmp_path) == ["net"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "holds no field of a NetParameter"),
        (NET.SerializeToString()[:-1], "no binary NetParameter, or is truncated"),
        (b'layer { name: "text" }', "no binary NetParameter"),
        (pb.SolverState(iter=3).SerializeToString(), "holds no field of a NetParameter"),
    ],
)
def test_what_is_no_message_is_an_error(tmp_path, data, text):
    (tmp_path / "net").write_bytes(data)
    with pytest.raises(BlobnetError, match=text) as caught:
        files.read_message(tmp_path / "net", pb.NetParameter())
    assert caught.value.file == str(tmp_path / "net")


def test_only_regular_files_up_to_the_limit_are_read(tmp_path):
    with pytest.raises(BlobnetError, match="cannot read: No such file"):
        files.read_bytes(tmp_path / "missing")
    with pytest.raises(BlobnetError, match="not a regular file"):
        files.read_bytes(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BlobnetError, match="not a regular file"):
        files.read_bytes(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(BlobnetError, match="11 bytes: the limit is 10"):
        files.read_bytes(tmp_path / "large", 10)


def test_atomic_write_replaces_at_the_end_only(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with files.atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, BlobnetError("text")])
def test_atomic_write_that_fails_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises((KeyboardInterrupt, ValueError, BlobnetError)), files.atomic_write(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    with (
        pytest.raises(BlobnetError, match="file: cannot write: No space left"),
        files.atomic_write(tmp_path / "file"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")


def test_a_missing_or_read_only_folder_is_an_error(tmp_path):
    with pytest.raises(BlobnetError, match="cannot write: No such file"):
        files.write_message(tmp_path / "missing" / "net", NET)


def test_writers_of_one_file_do_not_meet(tmp_path):
    """Each has a temporary file of its own; whoever ends last wins, with a whole file."""
    nets = [pb.NetParameter(name=str(number) * 1000) for number in range(8)]
    threads = [threading.Thread(target=files.write_message, args=(tmp_path / "net", net)) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files.read_message(tmp_path / "net", pb.NetParameter()) in nets


def test_text_that_is_not_utf8_is_an_error(tmp_path):
    """protobuf hands it out as bytes."""
    whole = pb.NetParameter(name="net", layer=[pb.LayerParameter(name="conv", bottom=["data", "label"])])
    (tmp_path / "net").write_bytes(whole.SerializeToString().replace(b"label", b"lab\xffl"))
    with pytest.raises(BlobnetError, match="is damaged: bottom of a LayerParameter is no UTF-8 text"):
        files.read_message(tmp_path / "net", pb.NetParameter())


def test_a_name_with_a_zero_byte_is_an_error():
    with pytest.raises(BlobnetError, match="a file name must not hold a zero byte"):
        files.read_bytes("a\0b")


def test_what_does_not_fit_on_the_disk_is_not_appended_in_part(tmp_path):
    path = tmp_path / "log"
    files.append(path, b"first\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9, limits[1]))
    try:
        with pytest.raises(BlobnetError, match="log: cannot write: No space left on device"):
            files.append(path, b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"first\n"
    files.append(path, b"third\n")
    assert path.read_bytes() == b"first\nthird\n"


def test_a_folder_says_of_its_own_faults_that_it_cannot_be_written(tmp_path):
    with pytest.raises(BlobnetError, match="db: cannot write: No such file"), files.new_folder(tmp_path / "no" / "db"):
        pass
    with pytest.raises(FileNotFoundError), files.new_folder(tmp_path / "db"):
        (tmp_path / "source").read_bytes()
    assert list(tmp_path.iterdir()) == []
