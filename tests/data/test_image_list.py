import os

import pytest

from blobnet import BlobnetError
from blobnet.data.image_list import read_list


def test_lines_are_split_at_their_last_blank(tmp_path):
    (tmp_path / "list").write_bytes(b"a.png 3\r\n\nwith space.png -1\n\xff\xfe.png  7 \nlast.png 12")
    entries = read_list(tmp_path / "list")
    assert [(entry.label, entry.line) for entry in entries] == [(3, 1), (-1, 3), (7, 4), (12, 5)]
    assert [os.fsencode(entry.name) for entry in entries] == [b"a.png", b"with space.png", b"\xff\xfe.png", b"last.png"]


@pytest.mark.parametrize("line", ["dog.png dog", "dog.png", "dog.png 0.5", "dog.png 1e3", "7"])
def test_a_label_that_is_no_whole_number_names_the_line(tmp_path, line):
    (tmp_path / "list").write_text(f"a.png 1\n{line}\n")
    with pytest.raises(BlobnetError, match=rf'list:2: a line must be an image and a whole number.*; got "{line}"'):
        read_list(tmp_path / "list")


def test_an_empty_or_missing_list_is_an_error(tmp_path):
    (tmp_path / "list").write_text("\n\n")
    with pytest.raises(BlobnetError, match="names no images"):
        read_list(tmp_path / "list")
    with pytest.raises(BlobnetError, match="missing: cannot read"):
        read_list(tmp_path / "missing")
