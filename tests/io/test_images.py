"""Decoding and resizing. That pixels are OpenCV's is held in tests/test_golden_files.py, against recorded ones."""

import io
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from blobnet import BlobnetError, config
from blobnet.io import image_memory, images

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setattr(config, "_max_memory", None)
    monkeypatch.delenv("BLOBNET_MAX_MEMORY", raising=False)


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


def tightest(data, color=True) -> int:
    """The least memory in which an image is read."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L" if color is False else None, image.size)
        held, decoder = image_memory.needed(image, data)
        result = images._channels(image, color) * image.width * image.height
    return len(data) + image_memory.metadata(data) + images.WORKSPACE + max(held + decoder, result)


@pytest.mark.parametrize(
    ("shape", "options", "cost"),
    [
        ((4600, 4600), {}, 3),  # of grey, whose result is larger
        ((4100, 4000, 3), {}, 4),
        ((4100, 4000, 3), {"format": "JPEG"}, 4),
        ((2600, 3600, 3), {"format": "JPEG", "progressive": True}, 7),
        ((2600, 2600, 3), {"format": "JPEG", "progressive": True, "subsampling": 0}, 10),
        ((2000, 2000, 3), {"format": "WEBP"}, 16),
        ((3000, 3000, 3), {"format": "TIFF", "compression": "jpeg", "tiffinfo": {278: 3000}}, 16),
    ],
)
def test_a_bomb_is_refused_by_its_header(shape, options, cost):
    """White, of few bytes: with the file and what strips need, each pixel counts."""
    data = encoded(np.full(shape, 255, np.uint8), **options)
    with pytest.raises(BlobnetError, match="here: cannot decode the image: its ") as error:
        images.decode(data, True, "here")
    text = rf"{shape[1]} x {shape[0]} pixels take ([\d.]+) MiB; the limit is ([\d.]+) MiB, 64 MiB and four times "
    text += r"the file\. Make it smaller, or set BLOBNET_MAX_MEMORY or --max-memory$"
    taken, limit = map(float, re.search(text, str(error.value)).groups())
    besides = len(data) + images.WORKSPACE
    assert taken == pytest.approx((cost * shape[0] * shape[1] + besides) / (1 << 20), abs=0.5)
    assert limit == pytest.approx(64 + 4 * len(data) / (1 << 20), abs=0.06)


def test_padding_buys_no_more_than_four_times_itself():
    data = encoded(np.full((5000, 5000, 3), 255, np.uint8), format="JPEG") + bytes(2 << 20)
    with pytest.raises(BlobnetError, match="5000 x 5000 pixels take 10.* MiB; the limit is 7.* MiB"):
        images.decode(data, True, "here")


def in_a_scan_each(grey: bytes) -> bytes:
    """A sequential JPEG of three components, each like the one of ``grey`` and in a scan of its own."""
    segments, at = [], 2
    while not segments or segments[-1][0] != 0xDA:
        size = int.from_bytes(grey[at + 2 : at + 4], "big")
        segments.append((grey[at + 1], grey[at + 4 : at + 2 + size]))
        at += 2 + size
    made = [grey[:2]]
    for marker, body in segments[:-1]:
        if marker == 0xC0:
            body = body[:5] + bytes([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
        made.append(bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body)
    for component in (1, 2, 3):
        made.append(bytes([0xFF, 0xDA, 0, 8, 1, component, 0, 0, 63, 0]) + grey[at:-2])
    return b"".join(made) + grey[-2:]


@pytest.mark.parametrize("spoil", [bytes, lambda data: data.replace(b"\xff\xda", b"\x00\xff\xda", 1)])
def test_scans_of_single_components_count_as_those_of_a_progressive_jpeg(spoil):
    data = in_a_scan_each(encoded(np.full((2600, 2600), 255, np.uint8), format="JPEG"))
    small = in_a_scan_each(encoded(PIXELS[:, :, 0], format="JPEG"))
    assert images.decode(small, True, "here").shape == (9, 7, 3)
    with pytest.raises(BlobnetError, match="2600 x 2600 pixels take [67]"):
        images.decode(spoil(data), True, "here")


def test_who_sets_a_limit_has_it_for_each_image(monkeypatch):
    data = encoded(np.full((2000, 2100, 3), 255, np.uint8), format="WEBP")
    with pytest.raises(BlobnetError, match="64 MiB and four times the file"):
        images.decode(data, True, "here")
    monkeypatch.setenv("BLOBNET_MAX_MEMORY", str(tightest(data)))
    assert images.decode(data, True, "here").shape == (2000, 2100, 3)
    monkeypatch.setenv("BLOBNET_MAX_MEMORY", str(tightest(data) - 1))
    with pytest.raises(BlobnetError, match="the limit is 69.* MiB, as set. Make it smaller, or set BLOBNET_MAX_MEMORY"):
        images.decode(data, True, "here")


def pieces(parts, header, tail=lambda part: b"") -> bytes:
    """Chunks or segments, each behind its header."""
    return b"".join(header(*part) + part[1] + tail(part) for part in parts)


def png_with(chunks) -> bytes:
    data = encoded(PIXELS[:, :, :3])
    start = data.index(b"IDAT") - 4
    made = pieces(
        chunks,
        lambda kind, body: len(body).to_bytes(4, "big") + kind,
        lambda part: zlib.crc32(b"".join(part)).to_bytes(4, "big"),
    )
    return data[:start] + made + data[start:]


def jpeg_with(segments) -> bytes:
    data = encoded(PIXELS[:, :, :3], format="JPEG")
    made = pieces(segments, lambda marker, body: b"\xff" + marker + (len(body) + 2).to_bytes(2, "big"))
    return data[:2] + made + data[2:]


def tiff_directory(*entries) -> bytes:
    """A TIFF's head and directory of tags, types, counts and values; None is the place of what comes behind."""
    size = 8 + 2 + 12 * len(entries) + 4
    packed = [struct.pack("<HHII", *entry[:3], size if entry[3] is None else entry[3]) for entry in entries]
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(packed) + bytes(4)


def tags(count: int) -> bytes:
    """EXIF whose orientation is many numbers."""
    return tiff_directory((274, 3, count, None)) + struct.pack("<H", 5000) * count


def grey_tiff(*entries) -> bytes:
    """Of 8 x 8 pixels, in a strip at its beginning."""
    common = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 8, 279: 64}
    merged = {tag: (tag, 4, 1, value) for tag, value in common.items()} | {entry[0]: entry for entry in entries}
    return tiff_directory(*(merged[tag] for tag in sorted(merged))) + bytes(64)


WIDE_TEXT = zlib.compress(("\U0001f600" + "a" * 1_000_000).encode())  # four bytes a character in Python

HOSTILE = {
    "texts": lambda n: png_with([(b"iTXt", b"%d\0\1\0\0\0" % i + WIDE_TEXT) for i in range(n)]),
    "text": lambda n: png_with([(b"iTXt", b"k\0\0\0\0\0" + "\U0001f600".encode() + b"a" * (n << 19))]),
    "png": lambda n: png_with([(b"eXIf", tags(n << 15))]),
    "webp": lambda n: encoded(PIXELS[:, :, :3], format="WEBP", exif=tags(n << 15)),
    "jpeg": lambda n: jpeg_with([(b"\xe1", b"Exif\0\0" + part) for part in cut(tags(n << 15), 65000)]),
    "strips": lambda n: grey_tiff((273, 3, n << 12, None)) + bytes(n << 13),
    "tag": lambda n: grey_tiff((282, 5, n << 12, None)) + b"\7\x13\x22\x31" * (n << 13),
}


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.filterwarnings("ignore:Tag data larger than file")
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_pixels_is_bounded_too(kind):
    with pytest.raises(BlobnetError, match="here: .* its texts, profiles and tags take .* MiB; the limit is "):
        images.decode(HOSTILE[kind](60), True, "here")


@pytest.fixture
def written(monkeypatch):
    """The temporary files that have been made."""
    files, make = [], tempfile.TemporaryFile

    def counted(**options):
        files.append(make(**options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", counted)
    return files


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_that_waited_in_a_file_are_the_same(monkeypatch, written, orientation):
    monkeypatch.setattr(images, "STRIP", 14)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PIXELS[:, :, :3], exif=exif)
    at_once = images.decode(data, True, "here")
    assert not written
    config.set_max_memory(tightest(data))
    np.testing.assert_array_equal(images.decode(data, True, "here"), at_once)
    assert [file.closed for file in written] == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="writes to /dev/full")
def test_a_full_temporary_folder_is_named(monkeypatch):
    data = encoded(np.full((300, 300, 3), 255, np.uint8))
    config.set_max_memory(tightest(data))
    full = Path("/dev/full").open("r+b")  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: full)
    said = rf"here: cannot decode the image: {tempfile.gettempdir()}: cannot keep .* TMPDIR .*: No space left on device"
    with pytest.raises(BlobnetError, match=said):
        images.decode(data, True, "here")


def photograph(height, width) -> np.ndarray:
    """Gradients and noise."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    colours = [120 * np.sin(rows / 300 + columns / 500), 90 * np.cos(columns / 200), 80 * np.sin(rows / 250)]
    noise = np.random.default_rng(0).integers(-12, 13, (height, width, 1))
    return np.clip(127 + np.stack(colours, axis=2) + noise, 0, 255).astype(np.uint8)


PEAK = """
import sys
from pathlib import Path
from blobnet.io import images

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name + ":"))

for path in sys.argv[1:-1]:
    images.read_image(path)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
images.read_image(sys.argv[-1])
print(status("VmHWM") - before)
"""


def peak(*paths) -> int:
    """Bytes that a process takes to read the last image, beyond what it has after those before."""
    run = subprocess.run([sys.executable, "-c", PEAK, *paths], capture_output=True, check=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_photograph_of_a_telephone_is_read_within_the_bound(tmp_path):
    """Of twelve megapixels and two bits each."""
    data = encoded(photograph(3024, 4032), format="JPEG", quality=85)
    assert 1.8 < 8 * len(data) / (3024 * 4032) < 2.2
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(encoded(PIXELS[:, :, :3], format="JPEG"))
    large.write_bytes(data)
    for before in ([small], [large, large]):  # after which the C library would keep what is freed
        assert peak(*before, large) < (64 << 20) + 4 * len(data)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_pixels_takes_no_more_than_is_counted(tmp_path, kind):
    paths = [tmp_path / "small", tmp_path / "large"]
    for path, count in zip(paths, (1, 9), strict=True):
        path.write_bytes(HOSTILE[kind](count))
    assert peak(*paths) < len(paths[1].read_bytes()) + image_memory.metadata(paths[1].read_bytes()) + images.WORKSPACE


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("shape", "options", "cost"),
    [
        ((2000, 3000), {}, 4),
        ((2000, 3000, 3), {}, 7),
        ((2000, 3000, 3), {"format": "TIFF", "compression": "tiff_lzw"}, 7),
        ((2000, 3000, 3), {"format": "JPEG"}, 7),
        ((2000, 3000, 3), {"format": "JPEG", "progressive": True, "subsampling": 0}, 10),
        ((3000, 5000, 3), {"format": "JPEG"}, 4),
        ((2000, 4000, 4), {"format": "JPEG", "mode": "CMYK"}, 7),
        ((2000, 3000, 3), {"format": "TIFF", "compression": "tiff_adobe_deflate", "tiffinfo": {278: 2000}}, 7),
        ((1500, 2000, 3), {"format": "WEBP"}, 16),
    ],
)
def test_decoding_takes_no_more_than_is_counted(tmp_path, shape, options, cost):
    paths = [tmp_path / "small", tmp_path / "large"]
    for path, extent in zip(paths, (8, None), strict=True):
        path.write_bytes(encoded(np.full(shape, 255, np.uint8)[:extent], **options))
    pixels = shape[0] * shape[1]
    assert 0.9 * cost * pixels < peak(*paths) < cost * pixels + paths[1].stat().st_size + images.WORKSPACE


@pytest.mark.parametrize("strip", [3, 14])
@pytest.mark.parametrize("color", [True, False, None])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_an_image_in_strips_is_the_image(monkeypatch, written, mode, color, strip):
    file = io.BytesIO()
    Image.fromarray(PIXELS[:, :, :3]).convert(mode).save(file, "TIFF")
    data = file.getvalue()
    whole = images.decode(data, color, "here")
    monkeypatch.setattr(images, "STRIP", strip)
    np.testing.assert_array_equal(images.decode(data, color, "here"), whole)
    config.set_max_memory(tightest(data, color))
    np.testing.assert_array_equal(images.decode(data, color, "here"), whole)
    assert len(written) == 1


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
