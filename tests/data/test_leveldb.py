import contextlib
import random

import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.data import database, leveldb
from blobnet.kernels import checksum
from blobnet.proto import blobnet_pb2 as pb
from tests.naive import leveldb as naive
from tests.naive.leveldb import DELETION, VALUE


def write(folder, manifest, files):
    (folder / "CURRENT").write_bytes(b"MANIFEST-000007\n")
    (folder / "MANIFEST-000007").write_bytes(manifest)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def read(folder):
    return list(leveldb.Reader(folder).records())


def test_crc32c_of_the_standard_vectors():
    for data, expected in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"", 0)):
        assert int(checksum.crc32c(np.frombuffer(data, np.uint8), checksum.TABLE)) == expected


def test_newest_entry_of_a_key_counts_across_tables_and_logs(tmp_path):
    write(
        tmp_path,
        naive.manifest({4: 1, 5: 0, 6: 0}, log_number=8, deleted=[(0, 6)]),
        {
            "000004.sst": naive.table([(b"a", 1, VALUE, b"old"), (b"b", 2, VALUE, b"b"), (b"c", 3, VALUE, b"c")]),
            "000005.ldb": naive.table([(b"a", 7, VALUE, b"new"), (b"a", 5, VALUE, b"mid"), (b"c", 6, DELETION, b"")]),
            "000006.ldb": b"deleted: never read",
            "000003.log": b"older than the tables: never read",
            "000008.log": naive.log(
                [
                    naive.batch(10, [(VALUE, b"d", b"first"), (VALUE, b"d", b"second")]),
                    naive.batch(12, [(DELETION, b"b", b""), (VALUE, b"e", b"")]),
                ]
            ),
        },
    )
    assert read(tmp_path) == [(b"a", b"new"), (b"d", b"second"), (b"e", b"")]


@pytest.mark.parametrize("snappy", [True, False])
def test_random_history_against_a_dictionary(tmp_path, snappy):
    generator = random.Random(3)
    truth, history = {}, []
    for sequence in range(1, 400):
        key = b"key%03d" % generator.randrange(120)
        if generator.random() < 0.25:
            truth.pop(key, None)
            history.append((key, sequence, DELETION, b""))
        else:
            truth[key] = generator.randbytes(generator.randrange(400))
            history.append((key, sequence, VALUE, truth[key]))
    ordered = [sorted(part, key=lambda entry: (entry[0], -entry[1])) for part in (history[:150], history[150:300])]
    records = [naive.batch(sequence, [(kind, key, value)]) for key, sequence, kind, value in history[300:]]
    tables = {f"{number:06d}.ldb": naive.table(part, 7, snappy) for number, part in enumerate(ordered, 20)}
    write(tmp_path, naive.manifest({20: 2, 21: 0}, 30), {**tables, "000030.log": naive.log(records)})
    assert read(tmp_path) == sorted(truth.items())
    assert list(leveldb.Reader(tmp_path).records(50)) == sorted(truth.items())[50:]


def test_record_larger_than_log_blocks(tmp_path):
    value = random.Random(1).randbytes(100_000)
    records = [naive.batch(1, [(VALUE, b"a", value)]), naive.batch(2, [(VALUE, b"b", value[:32740])])]
    write(tmp_path, naive.manifest({}, 5), {"000005.log": naive.log(records)})
    assert read(tmp_path) == [(b"a", value), (b"b", value[:32740])]


def test_a_write_that_was_cut_off_never_happened(tmp_path):
    whole = naive.log([naive.batch(1, [(VALUE, b"a", b"1")]), naive.batch(2, [(VALUE, b"b", b"2" * 50)])])
    write(tmp_path, naive.manifest({}, 5), {"000005.log": whole[:-10]})
    assert read(tmp_path) == [(b"a", b"1")]


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


TABLE = naive.table([(b"key%d" % number, number, VALUE, b"v" * 30) for number in range(8)])


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("000004.ldb", flipped(TABLE, 20), "checksum is wrong"),
        ("000004.ldb", flipped(TABLE, len(TABLE) - 1), "magic"),
        ("000004.ldb", TABLE[-48:], "truncated"),
        ("000004.ldb", b"short", "too short"),
        ("000005.log", flipped(naive.log([naive.batch(1, [(VALUE, b"k", b"v")])]), 9), "checksum"),
        ("000005.log", naive.log([naive.batch(1, [(9, b"k", b"v")])]), "unknown kind 9"),
        ("000005.log", naive.log([b"short"]), "ends too soon"),
        ("CURRENT", b"../../etc/passwd\n", "must name a manifest"),
        ("MANIFEST-000007", naive.log([b"\x63"]), "unknown tag 99"),
        ("MANIFEST-000007", naive.log([b"\x01" + naive.string(b"other")]), "comparator"),
    ],
)
def test_damage_is_an_error_that_names_the_file(tmp_path, name, data, text):
    write(tmp_path, naive.manifest({4: 0}, 5), {"000004.ldb": TABLE})
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BlobnetError, match=text) as caught:
        read(tmp_path)
    assert caught.value.file == str(tmp_path / name)


def test_a_missing_table_is_an_error(tmp_path):
    write(tmp_path, naive.manifest({4: 0}, 5), {})
    with pytest.raises(BlobnetError, match=r"000004\.ldb: cannot read"):
        read(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_any_flipped_byte_gives_records_or_an_error(tmp_path, seed):
    """Nothing but a BlobnetError comes out of a damaged database."""
    generator = random.Random(seed)
    files = {"000004.ldb": TABLE, "000005.log": naive.log([naive.batch(20, [(VALUE, b"k", b"v" * 9)])])}
    write(tmp_path, naive.manifest({4: 0}, 5), files)
    for name in generator.sample(["000004.ldb", "000005.log", "MANIFEST-000007"], 2):
        data = bytearray((tmp_path / name).read_bytes())
        for _ in range(3):
            data[generator.randrange(len(data))] = generator.randrange(256)
        (tmp_path / name).write_bytes(bytes(data[: generator.randrange(1, len(data) + 1)]))
    with contextlib.suppress(BlobnetError):
        read(tmp_path)


def test_the_wrong_backend_is_named(tmp_path):
    write(tmp_path, naive.manifest({}, 5), {})
    with pytest.raises(BlobnetError, match="holds no LMDB database; it is LEVELDB"):
        database.open_database(tmp_path, pb.DataParameter.LMDB)
    with pytest.raises(BlobnetError, match="no such folder"):
        database.open_database(tmp_path / "nowhere", pb.DataParameter.LMDB)


def test_a_manifest_whose_name_is_none_is_an_error(tmp_path):
    write(tmp_path, naive.manifest({}, log_number=8), {"CURRENT": b"MANIFEST-0000\x0007\n"})
    with pytest.raises(BlobnetError, match="must name a manifest"):
        leveldb.Reader(tmp_path)
