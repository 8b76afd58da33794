"""Decoding and resizing. That pixels are OpenCV's is held in tests/test_golden_files.py, against recorded ones."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from blobnet import BlobnetError
from blobnet.io import images

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)


def encoded(pixels, mode=None, format="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, format, **options)
    return file.getvalue()


def test_colour_is_blue_first_without_alpha():
    found = images.decode(encoded(PIXELS), True, "here")
    np.testing.assert_array_equal(found, PIXELS[:, :, 2::-1])


def test_as_stored_keeps_one_three_or_four_channels():
    np.testing.assert_array_equal(images.decode(encoded(PIXELS), None, "here"), PIXELS[:, :, [2, 1, 0, 3]])
    np.testing.assert_array_equal(images.decode(encoded(PIXELS[:, :, 0]), None, "here"), PIXELS[:, :, :1])
    np.testing.assert_array_equal(images.decode(encoded(PIXELS[:, :, :3]), None, "here"), PIXELS[:, :, 2::-1])


def test_grey_to_colour_and_back():
    plane = PIXELS[:, :, :1]
    for color, channels in ((True, 3), (False, 1)):
        found = images.decode(encoded(plane[:, :, 0]), color, "here")
        np.testing.assert_array_equal(found, np.repeat(plane, channels, axis=2))


def test_grey_of_a_jpeg_is_its_own_luminance():
    data = encoded(PIXELS[:, :, :3], format="JPEG", quality=90)
    found = images.decode(data, False, "here")
    with Image.open(io.BytesIO(data)) as image:
        luminance = np.asarray(image.convert("YCbCr"))[:, :, :1].astype(int)
    assert np.abs(found - luminance).max() <= 2  # computed back from colours


def test_sixteen_bits_lose_the_lower_half_unless_as_stored():
    deep = PIXELS[:, :, 0].astype(np.uint16) * 256 + 77
    data = encoded(deep)
    np.testing.assert_array_equal(images.decode(data, False, "here"), PIXELS[:, :, :1])
    with pytest.raises(BlobnetError, match="8 bits a channel"):
        images.decode(data, None, "here")


def test_ink_is_multiplied_with_white():
    ink = np.zeros((2, 2, 4), np.uint8)
    ink[0, 0] = 255, 0, 0, 0  # cyan
    ink[0, 1] = 0, 0, 0, 255  # black
    file = io.BytesIO()
    Image.fromarray(ink, "CMYK").save(file, "TIFF")
    found = images.decode(file.getvalue(), True, "here")
    np.testing.assert_array_equal(found[0], [[255, 255, 1], [0, 0, 0]])  # 255 * 255 >> 8 is 254
    np.testing.assert_array_equal(found[1], np.full((2, 3), 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_obeyed_unless_as_stored(monkeypatch, orientation):
    monkeypatch.setattr(images, "STRIP", 14)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PIXELS[:, :, :3], exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(images.decode(data, True, "here"), upright[:, :, ::-1])
    np.testing.assert_array_equal(images.decode(data, None, "here"), PIXELS[:, :, 2::-1])


@pytest.mark.parametrize(
    "data",
    [b"", b"no image at all", encoded(PIXELS)[:60], encoded(PIXELS[:, :, :3], format="JPEG")[:-40]],
    ids=["empty", "text", "short png", "short jpeg"],
)
def test_a_damaged_image_is_an_error_that_names_the_record(data):
    with pytest.raises(BlobnetError, match="record 7: cannot decode the image"):
        images.decode(data, True, "record 7")


def test_a_decompression_bomb_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(images, "MEMORY_LIMIT", 63 * 7 - 1)
    with pytest.raises(BlobnetError, match="7 x 9 pixels are too many for .* bytes; the limit is 62"):
        images.decode(encoded(PIXELS), True, "here")


@pytest.mark.parametrize(
    ("shape", "options", "limit"),
    [
        ((4200, 4200), {}, 16),  # of grey
        ((4000, 4000, 3), {}, 9),
        ((4000, 4000, 3), {"format": "JPEG"}, 9),
        ((2600, 2600, 3), {"format": "JPEG", "progressive": True}, 6),
        ((2000, 2000, 3), {"format": "WEBP"}, 3),
    ],
)
def test_an_image_may_be_as_large_as_its_file_makes_credible(shape, options, limit):
    """White, of few bytes: 64 MiB by what each pixel takes in its format."""
    with pytest.raises(BlobnetError, match=rf"pixels are too many for .* bytes; the limit is {limit}\d{{6}}$"):
        images.decode(encoded(np.full(shape, 255, np.uint8), **options), True, "here")


def test_a_photograph_may_be_as_large_as_those_of_telephones():
    """Twelve megapixels in far fewer bytes than they have."""
    noise = np.random.default_rng(0).integers(0, 60, (3024, 4032, 3), np.uint8)
    data = encoded(noise, format="JPEG", quality=40)
    assert len(data) < 2_900_000
    assert images.decode(data, True, "here").shape == noise.shape


PEAK = """
import sys
from pathlib import Path
from blobnet.io import images

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))

images.read_image(sys.argv[1])
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
images.read_image(sys.argv[2])
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("shape", "options", "cost"),
    [
        ((2000, 3000), {}, 4),
        ((2000, 3000, 3), {}, 7),
        ((2000, 3000, 3), {"format": "TIFF", "compression": "tiff_lzw"}, 7),
        ((2000, 3000, 3), {"format": "JPEG"}, 7),
        ((2000, 3000, 3), {"format": "JPEG", "progressive": True, "subsampling": 0}, 10),
        ((1500, 2000, 3), {"format": "WEBP"}, 16),
    ],
)
def test_decoding_takes_no_more_than_is_counted(tmp_path, shape, options, cost):
    paths = [tmp_path / "small", tmp_path / "large"]
    for path, extent in zip(paths, (8, None), strict=True):
        path.write_bytes(encoded(np.full(shape, 255, np.uint8)[:extent], **options))
    run = subprocess.run([sys.executable, "-c", PEAK, *paths], capture_output=True, check=True, text=True)
    pixels = shape[0] * shape[1]
    assert 0.9 * cost * pixels < int(run.stdout) < cost * pixels + images.STRIP_BYTES + (1 << 20)


@pytest.mark.parametrize("color", [True, False, None])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_an_image_in_strips_is_the_image(monkeypatch, mode, color):
    file = io.BytesIO()
    Image.fromarray(PIXELS[:, :, :3]).convert(mode).save(file, "TIFF")
    whole = images.decode(file.getvalue(), color, "here")
    monkeypatch.setattr(images, "STRIP", 14)
    np.testing.assert_array_equal(images.decode(file.getvalue(), color, "here"), whole)


def naive_resize(pixels, height, width):
    """Bilinear between pixel centres, in floating point."""
    rows = np.clip((np.arange(height) + 0.5) * pixels.shape[0] / height - 0.5, 0, pixels.shape[0] - 1)
    columns = np.clip((np.arange(width) + 0.5) * pixels.shape[1] / width - 0.5, 0, pixels.shape[1] - 1)
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom, right = np.minimum(top + 1, pixels.shape[0] - 1), np.minimum(left + 1, pixels.shape[1] - 1)
    y, x = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = pixels[top][:, left] * (1 - x) + pixels[top][:, right] * x
    lower = pixels[bottom][:, left] * (1 - x) + pixels[bottom][:, right] * x
    return upper * (1 - y) + lower * y


@pytest.mark.parametrize("size", [(9, 7), (1, 1), (3, 5), (20, 30), (9, 14), (4, 3), (100, 2)])
def test_resize_is_bilinear_to_one_grey_level(size):
    found = images.resize(PIXELS, *size)
    assert (found.shape, found.dtype) == ((*size, 4), np.uint8)
    assert np.abs(found - naive_resize(PIXELS, *size)).max() <= 1.01


def test_halving_both_sides_averages_four():
    pixels = PIXELS[:8, :6]
    expected = np.floor(pixels.reshape(4, 2, 3, 2, 4).mean(axis=(1, 3)) + 0.5)
    np.testing.assert_array_equal(images.resize(pixels, 4, 3), expected)
