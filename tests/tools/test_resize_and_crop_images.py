import numpy as np
import pytest
from PIL import Image

from blobnet import cli
from blobnet.io import images
from blobnet.tools import resize_and_crop_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in/n01").mkdir(parents=True)
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 255
    Image.fromarray(pixels).save("in/n01/wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save("in/tall.JPEG")
    (tmp_path / "in/notes.txt").write_text("no image")
    (tmp_path / "in/broken.jpg").write_bytes(b"no image either")
    return tmp_path


@pytest.mark.parametrize("library", ["opencv", "PIL"])
def test_the_square_in_the_middle(folder, library, capsys):
    argv = ["resize_and_crop_images", "--input_folder=in", "--output_folder=out", "--output_side_length=10"]
    assert cli.main([*argv, f"--image_lib={library}"]) == 0
    said = capsys.readouterr().err
    assert "left out: in/broken.jpg: cannot decode the image" in said
    assert "Wrote 2 images to out" in said
    for name in ("n01/wide.png", "tall.JPEG"):
        pixels = images.read_image(folder / "out" / name)
        assert pixels.shape == (10, 10, 3)
        assert pixels.min() > 230
    assert sorted(path.name for path in (folder / "out").rglob("*.*")) == ["tall.JPEG", "wide.png"]


def test_listed_images_only(folder):
    (folder / "list").write_text("in/n01/wide.png 7\n\n")
    assert resize_and_crop_images.resize_and_crop("in", "out", 8, list_file="list") == 1
    assert [path.name for path in (folder / "out").rglob("*.*")] == ["wide.png"]


@pytest.mark.parametrize("shape", [(7, 7), (7, 8), (31, 7), (100, 33)])
def test_shapes(shape):
    pixels = np.zeros((*shape, 3), np.uint8)
    for smooth in (False, True):
        assert resize_and_crop_images.square(pixels, 12, smooth).shape == (12, 12, 3)


def test_faults(folder, capsys):
    assert cli.main(["resize_and_crop_images", "--input_folder=none", "--output_folder=out"]) == 1
    assert capsys.readouterr().err == "error: none: there is no such folder\n"
    assert cli.main(["resize_and_crop_images", "--input_folder=in", "--output_folder=in/notes.txt"]) == 1
    assert "in/notes.txt/n01/wide.png: cannot write" in capsys.readouterr().err
    assert cli.main(["resize_and_crop_images", "--input_folder=in"]) == 1
    assert "--output_folder is needed" in capsys.readouterr().err
