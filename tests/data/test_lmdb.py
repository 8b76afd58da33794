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
    numbers = [number for number, _, _ in take(database.cycle(lmdb.Reader(folder), 698), 703)]
    assert numbers == [698, 699, *range(700), 0]
    beyond = [number for number, _, _ in take(database.cycle(lmdb.Reader(folder), 9000), 2)]
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
