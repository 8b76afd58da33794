"""Databases of images: byte for byte those that Caffe's convert_imageset made of the same files."""

import io

import numpy as np
import pytest
from PIL import Image

from blobnet import BlobnetError, cli, config, set_seed
from blobnet.data import leveldb, lmdb
from blobnet.proto import blobnet_pb2 as pb
from blobnet.tools import convert_imageset
from tests.recorded import ROOT

FILES = ROOT / "files"


def records(path):
    return list(lmdb.Reader(path).records())


def datums(path):
    return [pb.Datum.FromString(value) for _, value in records(path)]


@pytest.mark.parametrize(
    ("recorded", "list_file", "flags"),
    [
        ("lmdb_raw", "list.txt", []),
        ("lmdb_png", "list.txt", ["--encoded", "--encode_type=png"]),
        ("lmdb_orig", "list_mixed.txt", ["-encoded"]),
        ("lmdb_gray", "list.txt", ["--gray"]),
        ("lmdb_resized", "list_mixed.txt", ["--resize_height=8", "--resize_width=9"]),
    ],
)
def test_records_are_caffes(recorded, list_file, flags, tmp_path, capsys):
    argv = ["convert_imageset", *flags, f"{FILES / 'images'}/", str(FILES / list_file), str(tmp_path / "db")]
    assert cli.main(argv) == 0
    assert records(tmp_path / "db") == records(FILES / recorded)
    count = len(records(FILES / recorded))
    said = capsys.readouterr().err
    assert f"A total of {count} images." in said
    assert f"Processed {count} files." in said


@pytest.mark.parametrize(("recorded", "flags"), [("leveldb_raw", []), ("leveldb_jpg", ["--encode_type=jpg"])])
def test_leveldb_records_are_caffes(recorded, flags, tmp_path):
    argv = ["--backend=leveldb", *flags, f"{FILES / 'images'}/", str(FILES / "list.txt"), str(tmp_path / "db")]
    assert cli.main(["convert_imageset", *argv]) == 0
    found, expected = (list(leveldb.Reader(folder).records()) for folder in (tmp_path / "db", FILES / recorded))
    assert found == expected


def test_encoded_anew_as_caffe_encodes(tmp_path):
    convert_imageset.convert(FILES / "images", FILES / "list.txt", tmp_path / "db", encode_type="jpg")
    assert records(tmp_path / "db") == list(leveldb.Reader(FILES / "leveldb_jpg").records())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images, of which one is larger."""
    monkeypatch.chdir(tmp_path)
    for name, size in (("a.png", (4, 3)), ("b.jpeg", (4, 3)), ("large.png", (5, 3))):
        Image.new("RGB", size, (255, 128, 0)).save(name)
    (tmp_path / "list").write_text("a.png 0\nb.jpeg 1\nlarge.png 2\n")
    return tmp_path


def test_images_that_cannot_be_read_are_left_out(folder, capsys):
    (folder / "list").write_text("a.png 0\nnone.png 1\nlist 2\nb.jpeg 3\n")
    assert cli.main(["convert_imageset", ".", "list", "db"]) == 0
    assert [key for key, _ in records(folder / "db")] == [b"00000000_a.png", b"00000003_b.jpeg"]
    assert "list:2: left out: ./none.png: cannot read: No such file" in capsys.readouterr().err


def test_images_are_read_in_the_memory_that_is_allowed(folder, monkeypatch, capsys):
    monkeypatch.setattr(config, "_max_memory", None)
    assert cli.main(["convert_imageset", "--max-memory=1M", ".", "list", "db"]) == 1
    assert (
        "a.png: cannot decode the image: its 4 x 3 pixels take 5.001 MiB; the limit is 1 MiB" in capsys.readouterr().err
    )
    assert cli.main(["convert_imageset", "--max-memory=6M", ".", "list", "db"]) == 0


def test_shuffled(folder):
    set_seed(3)
    try:
        (folder / "list").write_text("".join(f"a.png {label}\n" for label in range(50)))
        convert_imageset.convert("", "list", "db", shuffle=True)
    finally:
        set_seed(None)
    labels = [datum.label for datum in datums(folder / "db")]
    assert sorted(labels) == list(range(50)) != labels


def test_a_resized_or_grey_image_is_encoded_anew(folder):
    convert_imageset.convert("", "list", "db", encoded=True, gray=True, resize_height=2, resize_width=2)
    for datum, kind in zip(datums(folder / "db"), ["PNG", "JPEG", "PNG"], strict=True):
        image = Image.open(io.BytesIO(datum.data))
        assert (image.format, image.mode, image.size) == (kind, "L", (2, 2))


def test_a_jpeg_is_a_jpg(folder):
    convert_imageset.convert("", "list", "db", encode_type="jpg")
    assert datums(folder / "db")[1].data == (folder / "b.jpeg").read_bytes()


def test_sizes_are_checked(folder, capsys):
    assert cli.main(["convert_imageset", "--check_size", "./", "list", "db"]) == 1
    assert "list:3: large.png has 3 x 5 pixels, the images before it 3 x 4" in capsys.readouterr().err
    assert not (folder / "db").exists()
    convert_imageset.convert("", "list", "db", check_size=True, resize_height=2, resize_width=2)
    assert np.frombuffer(datums(folder / "db")[0].data, np.uint8).tolist() == [0] * 4 + [128] * 4 + [255] * 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--backend=sqlite"], "argument --backend: invalid choice: 'sqlite'"),
        (["--resize_width=3"], "resize_height and resize_width go together; got 0 and 3"),
        (["--encode_type=gif"], 'there is no image format "gif"; there are '),
        (["--resize_height=-1"], "argument --resize_height: a whole number of 0 or more is needed; got '-1'"),
        (["--gray=maybe"], "argument --gray: true or false is needed; got 'maybe'"),
    ],
)
def test_flags_that_make_no_sense(folder, flags, said, capsys):
    assert cli.main(["convert_imageset", *flags, "./", "list", "db"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")


def test_nothing_to_write(folder):
    (folder / "list").write_text("none.png 1\n")
    with pytest.raises(BlobnetError, match="list: none of the 1 images could be read"):
        convert_imageset.convert("", "list", "db")
    (folder / "plain").write_bytes((folder / "a.png").read_bytes())
    (folder / "list").write_text("plain 1\n")
    with pytest.raises(BlobnetError, match="list:1: the name plain tells no image format; give encode_type"):
        convert_imageset.convert("", "list", "db", encoded=True)
    (folder / "list").write_text("a.png\n")
    with pytest.raises(BlobnetError, match="list:1: a line must be an image and a whole number"):
        convert_imageset.convert("", "list", "db")
