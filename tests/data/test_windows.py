"""Windows: the file format, and where a window lands in its crop."""

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.data import windows

FILE = """\
# 0
images/a b.png
3
20
30
2
1 0.9 2 3 11 12
0 0.1 0 0 5 5

# 1
b.png
3
10
10
0
"""


def test_a_window_file_is_read(tmp_path):
    (tmp_path / "windows.txt").write_text(FILE)
    found = windows.read_window_file(tmp_path / "windows.txt")
    assert found.images == ["images/a b.png", "b.png"]
    expected = np.array([[0, 1, 0.9, 2, 3, 11, 12], [0, 0, 0.1, 0, 0, 5, 5]], np.float32)
    np.testing.assert_array_equal(found.windows, expected)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# 1", "1", r'windows.txt:10: an image must begin with "# <index>"; got "1"'),
        ("20\n", "twenty\n", r'windows.txt:4: expected height; got "twenty"'),
        ("0 0.1 0 0 5 5", "0 0.1 0 0 5", r"windows.txt:8: expected class, overlap, x1, y1, x2, y2"),
        ("0 0.1 0 0 5 5", "0 nan 0 0 5 5", r"windows.txt:8: expected class"),
        ("10\n10\n0\n", "", r"the file ends where height is expected"),
        (FILE, "", "names no images"),
    ],
)
def test_a_damaged_window_file_names_the_line(tmp_path, old, new, message):
    (tmp_path / "windows.txt").write_text(FILE.replace(old, new))
    with pytest.raises(BlobnetError, match=message):
        windows.read_window_file(tmp_path / "windows.txt")


def place(box, image=(100, 100), crop=20, context=0, square=False, mirrored=False):
    return windows.place(box, image, crop, context, square, mirrored)


def test_without_context_the_window_fills_the_crop():
    assert place((10, 20, 40, 80)) == ((10, 20, 40, 80), 0, 0, 20, 20)


def test_context_shows_the_surroundings():
    # 10 x 10 pixels fill the inner 16 of 20: the crop shows 12.5 pixels about the centre (45, 45).
    assert place((40, 40, 49, 49), context=2) == ((39, 39, 51, 51), 0, 0, 20, 20)


def test_what_lies_outside_of_the_image_stays_empty():
    left = place((0, 40, 9, 49), context=4)  # x1 -3 to 13 becomes 0 to 13
    assert left.box == (0, 37, 13, 53)
    assert (left.top, left.left, left.height, left.width) == (0, 4, 20, 16)
    mirrored = place((0, 40, 9, 49), context=4, mirrored=True)
    assert (mirrored.left, mirrored.width) == (0, 16)
    assert place((90, 40, 99, 49), context=4).left == 0


def test_square_widens_the_shorter_side():
    assert place((40, 40, 49, 59), square=True).box == (35, 40, 55, 60)


def test_crops_always_fit():
    generator = np.random.default_rng(2)
    for _ in range(2000):
        x1, y1 = generator.integers(0, 100, 2)
        x2, y2 = generator.integers(x1, 100), generator.integers(y1, 100)
        spot = place(
            (int(x1), int(y1), int(x2), int(y2)),
            crop=int(generator.integers(10, 40)),
            context=int(generator.integers(0, 5)),
            square=bool(generator.integers(2)),
            mirrored=bool(generator.integers(2)),
        )
        assert 0 <= spot.box[0] <= spot.box[2] < 100
        assert 0 <= spot.box[1] <= spot.box[3] < 100
        assert spot.top + spot.height <= 40
        assert min(spot.top, spot.left) >= 0
