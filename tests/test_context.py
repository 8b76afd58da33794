"""Where the files that a prototxt names are looked up."""

import pytest

from blobnet.context import Context
from blobnet.errors import BlobnetError
from blobnet.proto import blobnet_pb2 as pb


@pytest.fixture
def context(tmp_path, monkeypatch):
    for folder in ("work", "net"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return Context(phase=pb.TRAIN, folder=tmp_path / "net")


def test_the_working_folder_comes_first(context, tmp_path):
    (tmp_path / "net" / "list.txt").touch()
    assert context.find("list.txt") == tmp_path / "net" / "list.txt"
    (tmp_path / "work" / "list.txt").touch()
    assert context.find("list.txt").resolve() == tmp_path / "work" / "list.txt"


def test_a_missing_file_is_named_with_the_folders_searched(context, tmp_path):
    with pytest.raises(BlobnetError) as caught:
        context.find("sub/list.txt")
    folders = f"in the working folder {tmp_path}/work or in the prototxt's, {tmp_path}/net"
    assert str(caught.value) == f"sub/list.txt: cannot read: No such file or directory {folders}"
    with pytest.raises(BlobnetError, match="No such file or directory$"):
        context.find("/none/list.txt")
