"""A writer of LevelDB files for tests, straight from the format documents: a manifest, logs and sorted tables."""

import cramjam

VALUE, DELETION = 1, 0


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def string(data: bytes) -> bytes:
    return varint(len(data)) + data


def log(records: list[bytes]) -> bytes:
    """A log file: records cut into fragments at blocks of 32 KiB."""
    out = b""
    for record in records:
        first = True
        while True:
            room = 32768 - len(out) % 32768
            if room < 7:
                out += bytes(room)
                continue
            part, record = record[: room - 7], record[room - 7 :]
            kind = bytes([{(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[first, not record]])
            out += masked(kind + part) + len(part).to_bytes(2, "little") + kind + part
            first = False
            if not record:
                break
    return out


def batch(sequence: int, entries: list[tuple[int, bytes, bytes]]) -> bytes:
    """A write batch: (VALUE, key, value) or (DELETION, key, b"")."""
    body = b"".join(
        bytes([kind]) + string(key) + (string(value) if kind == VALUE else b"") for kind, key, value in entries
    )
    return sequence.to_bytes(8, "little") + len(entries).to_bytes(4, "little") + body


def block(entries: list[tuple[bytes, bytes]], restart_every: int = 4) -> bytes:
    out, restarts, last = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_every == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + b"".join(place.to_bytes(4, "little") for place in restarts) + len(restarts).to_bytes(4, "little")


def table(entries: list[tuple[bytes, int, int, bytes]], per_block: int = 3, snappy: bool = True) -> bytes:
    """A sorted table of (key, sequence number, kind, value), given in order."""
    inner = [(key + (number << 8 | kind).to_bytes(8, "little"), value) for key, number, kind, value in entries]
    out, handles = b"", []

    def append(content: bytes, compress: bool) -> bytes:
        nonlocal out
        stored = bytes(cramjam.snappy.compress_raw(content)) if compress else content
        handle = varint(len(out)) + varint(len(stored))
        kind = bytes([compress])
        out += stored + kind + masked(stored + kind)
        return handle

    for start in range(0, len(inner), per_block):
        part = inner[start : start + per_block]
        handles.append((part[-1][0], append(block(part), snappy)))
    metadata = append(block([]), False)
    index = append(block(handles), False)
    return out + (metadata + index).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


def manifest(tables: dict[int, int], log_number: int, deleted: list[tuple[int, int]] = ()) -> bytes:
    """A manifest that adds tables {number: level}, then deletes (level, number)."""
    edit = b"\x01" + string(b"leveldb.BytewiseComparator") + b"\x02" + varint(log_number) + b"\x09" + varint(0)
    for number, level in tables.items():
        edit += b"\x07" + varint(level) + varint(number) + varint(1000) + string(b"a" * 9) + string(b"z" * 9)
    second = b"\x03" + varint(99) + b"\x04" + varint(500) + b"\x05" + varint(1) + string(b"pointer")
    for level, number in deleted:
        second += b"\x06" + varint(level) + varint(number)
    return log([edit, second])
