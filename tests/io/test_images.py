"""Decoding and resizing. That pixels are OpenCV's is held in tests/test_golden_files.py, against recorded ones."""

import io

import numpy as np
import pytest
from PIL import Image

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


def test_orientation_is_obeyed_unless_as_stored():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    data = encoded(PIXELS[:, :, :3], format="JPEG", exif=exif)
    turned, stored = images.decode(data, True, "here"), images.decode(data, None, "here")
    assert stored.shape == (9, 7, 3)
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))


@pytest.mark.parametrize(
    "data",
    [b"", b"no image at all", encoded(PIXELS)[:60], encoded(PIXELS[:, :, :3], format="JPEG")[:-40]],
    ids=["empty", "text", "short png", "short jpeg"],
)
def test_a_damaged_image_is_an_error_that_names_the_record(data):
    with pytest.raises(BlobnetError, match="record 7: cannot decode the image"):
        images.decode(data, True, "record 7")


def test_a_decompression_bomb_is_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(images, "PIXEL_LIMIT", 62)
    with pytest.raises(BlobnetError, match="7 x 9 pixels are too many"):
        images.decode(encoded(PIXELS), True, "here")


def test_an_image_may_be_as_large_as_its_file_makes_credible():
    """White, 5000 x 5000: 71 MiB of pixels from 76 kB."""
    with pytest.raises(BlobnetError, match="5000 x 5000 pixels are too many for .* bytes; the limit is 22"):
        images.decode(encoded(np.full((5000, 5000), 255, np.uint8)), True, "here")


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
