import random
import resource

import pytest

from blobnet import BlobnetError
from blobnet.data import leveldb, leveldb_writer
from blobnet.data.database import new_database
from tests.naive import leveldb as naive


def write(path, records):
    with leveldb_writer.new_database(path) as put:
        for key, value in records:
            put(key, value)


def random_records(count, size, seed):
    generator = random.Random(seed)
    return [(b"%06d_%s" % (i, b"k" * (i % 200)), generator.randbytes(generator.randrange(size))) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "size", "table"), [(0, 1, 100), (1, 9, 100), (500, 200, 1 << 25), (300, 9000, 50000)]
)
def test_records_are_read_back(tmp_path, monkeypatch, count, size, table):
    monkeypatch.setattr(leveldb_writer, "_TABLE", table)
    records = random_records(count, size, seed=count)
    write(tmp_path / "db", records)
    assert list(leveldb.Reader(tmp_path / "db").records()) == records
    tables = list((tmp_path / "db").glob("*.ldb"))
    assert len(tables) > 10 if size == 9000 else len(tables) == min(count, 1)


def test_logs_and_blocks_are_those_of_the_format():
    generator = random.Random(1)
    sizes = [32768 - 2 * 7, 100, 1, 40000, 100000]  # the first leaves 7 bytes of its block: room for an empty fragment
    records = [generator.randbytes(size) for size in sizes]
    assert leveldb_writer._log(records) == naive.log(records)
    pairs = random_records(20, 300, seed=2)
    assert leveldb_writer._block(pairs) == naive.block(pairs, restart_every=1)


@pytest.mark.parametrize("keys", [[b"b", b"a"], [b"a", b"a"]])
def test_keys_must_ascend(tmp_path, keys):
    with pytest.raises(BlobnetError, match="must come in ascending order; got b'a' after"):
        write(tmp_path / "db", [(key, b"") for key in keys])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path):
    with pytest.raises(BlobnetError, match="already exists"):
        write(tmp_path, [])


def test_unknown_backends(tmp_path):
    with pytest.raises(BlobnetError, match='backend of a database is lmdb or leveldb; got "sqlite"'):
        new_database(tmp_path / "db", "sqlite")


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(BlobnetError, match="db: cannot write: File too large"):
            write(tmp_path / "db", random_records(20, 300, seed=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
