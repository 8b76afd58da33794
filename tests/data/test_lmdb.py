import os

import pytest

from blobnet import BlobnetError
from blobnet.data import database, lmdb
from blobnet.proto import blobnet_pb2 as pb

RECORDS = [(b"%08d" % number, b"value %d" % number * 50) for number in range(700)]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "db"
    assert lmdb.write_database(path, RECORDS) == len(RECORDS)
    return path


def test_records_come_back_in_key_order_from_any_start(tmp_path):
    lmdb.write_database(tmp_path / "db", reversed(RECORDS))
    reader = lmdb.Reader(tmp_path / "db")
    assert list(reader.records()) == RECORDS
    assert list(reader.records(690)) == RECORDS[690:]
    assert list(reader.records(700)) == []
    assert list(reader.records(5000)) == []


def test_two_readers_share_a_database(folder):
    first, second = lmdb.Reader(folder), database.open_database(folder, pb.DataParameter.LMDB)
    pairs = zip(first.records(), second.records(1), strict=False)
    assert all(one[0] < other[0] for one, other in pairs)


def test_cycle_goes_round_and_round(folder):
    numbers = [record.number for record in take(database.cycle(lmdb.Reader(folder), 698), 703)]
    assert numbers == [698, 699, *range(700), 0]
    beyond = [record.number for record in take(database.cycle(lmdb.Reader(folder), 9000), 2)]
    assert beyond == [0, 1]


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def test_the_map_grows_with_the_records(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb, "_FIRST_MAP_SIZE", 1 << 16)
    lmdb.write_database(tmp_path / "db", ((b"%04d" % number, bytes(5000)) for number in range(300)))
    assert sum(1 for _ in lmdb.Reader(tmp_path / "db").records()) == 300


def test_an_existing_folder_is_not_overwritten(folder):
    with pytest.raises(BlobnetError, match="already exists"):
        lmdb.write_database(folder, RECORDS)


def test_a_failed_write_leaves_nothing(tmp_path):
    def records():
        yield from RECORDS
        raise BlobnetError("no more")

    with pytest.raises(BlobnetError, match="no more"):
        lmdb.write_database(tmp_path / "db", records())
    with pytest.raises(BlobnetError, match="cannot be written"):
        lmdb.write_database(tmp_path / "db", [(b"", b"a key must not be empty")])
    with pytest.raises(BlobnetError, match="cannot write"):
        lmdb.write_database(tmp_path / "nowhere" / "db", RECORDS)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_database_is_an_error_when_read(tmp_path):
    lmdb.write_database(tmp_path / "db", [])
    with pytest.raises(BlobnetError, match="holds no records"):
        next(database.cycle(lmdb.Reader(tmp_path / "db")))


@pytest.mark.parametrize("size", [0, 100, 5000, 8192, 20000])
def test_a_truncated_file_is_an_error(folder, size):
    os.truncate(folder / "data.mdb", size)
    with pytest.raises(BlobnetError, match="truncated|cannot be read") as caught:
        list(lmdb.Reader(folder).records())
    assert caught.value.file == str(folder)


def test_a_file_of_another_kind_is_an_error(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1000)
    with pytest.raises(BlobnetError, match="cannot be read"):
        lmdb.Reader(tmp_path)


def damage(folder, offset, content):
    data = bytearray((folder / "data.mdb").read_bytes())
    data[offset : offset + len(content)] = content
    (folder / "data.mdb").write_bytes(data)


def root_of(folder):
    """The number of the root page, as the newer of the two meta pages has it; pages have 4096 bytes."""
    data = (folder / "data.mdb").read_bytes()
    metas = [data[page : page + 4096] for page in (0, 4096)]
    newest = max(metas, key=lambda meta: meta[144:152][::-1])
    return int.from_bytes(newest[128:136], "little")


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (10, b"\x02\x00"),  # a leaf in the place of a branch
        (12, b"\x10\x00"),  # without nodes
        (12, b"\xff\xff"),  # with more than fit
        (16, b"\xff\x0f"),  # a node at the end
    ],
)
def test_a_damaged_page_is_an_error(folder, offset, content):
    damage(folder, 4096 * root_of(folder) + offset, content)
    with pytest.raises(BlobnetError, match="data.mdb is damaged: page") as caught:
        list(lmdb.Reader(folder).records())
    assert caught.value.file == str(folder)


def test_a_page_that_is_its_own_child_is_an_error(folder):
    root = root_of(folder)
    first_node = int.from_bytes((folder / "data.mdb").read_bytes()[4096 * root + 16 :][:2], "little")
    damage(folder, 4096 * root + first_node, root.to_bytes(4, "little"))
    with pytest.raises(BlobnetError, match=f"page {root} is not of the kind that its place needs"):
        list(lmdb.Reader(folder).records())


def test_pages_with_fewer_records_than_the_header_counts_are_an_error(folder):
    for page in (0, 4096):
        damage(folder, page + 120, (701).to_bytes(8, "little"))
    with pytest.raises(BlobnetError, match="its header counts 701 records, its pages hold others"):
        list(lmdb.Reader(folder).records())


def test_large_values_have_pages_of_their_own(tmp_path):
    records = [(b"%d" % size, bytes(range(256)) * (size // 256)) for size in (1024, 2048, 4096, 9984)]
    lmdb.write_database(tmp_path / "db", records)
    assert list(lmdb.Reader(tmp_path / "db").records()) == sorted(records)
