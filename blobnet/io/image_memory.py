"""What Pillow takes to decode an image, told from the file before it is taken."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_HELD = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2}  # bytes of a pixel in Pillow's image; of other modes 4
_ROW = 64  # bytes of a pixel in the rows that a decoder works on
_COEFFICIENT = 2
_BLOCK = 8  # pixels, either way
# Decoders that gather all pixels first: copies of them, and what else they take.
_GATHERING = {"bmp_rle": (3, 0), "ppm": (3, 0), "ppm_plain": (4, 24 << 20)}
_PLAIN = {"group3", "group4", "packbits", "tiff_adobe_deflate", "tiff_ccitt", "tiff_deflate", "tiff_lzw"}
_CODEC_COPIES = 4  # of a strip, at most, that compressions which are not plain take: coefficients, or a window
_CONVERTED = 4  # bytes of a pixel whose colours libtiff converts
_UNCONVERTED = {0, 1, 2, 3, 5}  # photometric interpretations: grey, red-green-blue, palette, ink
# Tags of a TIFF
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP = 258, 262, 274, 277, 278
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_NO_LENGTH = {0x01, *range(0xD0, 0xDA)}  # markers of a JPEG that stand alone
_START_OF_SCAN = 0xDA
_BIG_TIFF = 43
_BYTES = {1, 2, 7}  # types of tags whose values Pillow leaves as they are

# Bytes that what is not pixels comes to in Pillow, found by measuring.
_PIECE = 400  # of a chunk, segment or tag, however small
_KEPT = 4  # of each byte
_TEXT = 12  # of each byte of text: at worst four for a character, and copies
_UNPACKED = 5 << 20  # of a packed text, which may hold a million such characters
_TAGS = 32  # of each byte of EXIF: a tag may be numbers of two bytes
_VALUE = 300  # of a number of a TIFF's tags: at worst the place of a strip
# By the chunk of a PNG or WebP: of each byte, and besides.
_CHUNKS: dict[bytes, tuple[int, int]] = {b"iCCP": (_KEPT, 1 << 20)}
_CHUNKS |= dict.fromkeys((b"zTXt", b"iTXt"), (_TEXT, _UNPACKED))
_CHUNKS |= dict.fromkeys((b"eXIf", b"EXIF", b"tEXt"), (_TAGS, _PIECE))
_CHUNKS |= dict.fromkeys((b"IDAT", b"fdAT", b"VP8 ", b"VP8L", b"ALPH", b"ANMF"), (0, 0))


class Memory(NamedTuple):
    """Bytes: of Pillow's image, and of what its decoder holds beside it until all pixels are there."""

    image: int
    decoder: int


def needed(image, data: bytes) -> Memory:
    """What loading an open image of the file ``data`` takes."""
    pixels = image.width * image.height
    held = pixels * _HELD.get(image.mode, 4)
    codec = image.tile[0][0] if image.tile else ""
    decoder = _ROW * image.width
    if image.format == "WEBP":
        decoder += 12 * pixels + len(data)  # two canvases, a frame, and the file once more
    elif codec == "jpeg":
        decoder += _coefficients(image, data)
    elif codec == "libtiff":
        decoder += _strip(image)
    elif codec in _GATHERING:
        copies, besides = _GATHERING[codec]
        decoder += copies * held + besides
    if image.format == "TIFF" and image.tag_v2.get(_ORIENTATION, 1) != 1:
        decoder += held  # turned
    return Memory(held, decoder)


def metadata(data: bytes) -> int:
    """What all that is not pixels comes to while the file is opened and read."""
    if data.startswith(b"\x89PNG"):
        return sum(_of_chunk(kind, size) for kind, size in _png_chunks(data))
    if data.startswith(b"RIFF"):
        return sum(_of_chunk(kind, size) for kind, size in _webp_chunks(data))
    if data.startswith(b"\xff\xd8"):
        return sum(_of_segment(data, *segment) for segment in _segments(data))
    return _of_tags(data) if data.startswith((b"II", b"MM")) else 0


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    at, kind = 8, b""
    while at + 8 <= len(data) and kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, min(size, len(data) - at)
        at += 12 + size


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        yield kind, min(size, len(data) - at)
        at += 8 + size + size % 2


def _of_chunk(kind: bytes, size: int) -> int:
    factor, besides = _CHUNKS.get(kind, (_KEPT, _PIECE))
    return factor * size + besides


def _of_segment(data: bytes, marker: int, at: int, size: int) -> int:
    tags = marker == 0 or data.startswith((b"Exif\0\0", b"MPF\0"), at)
    return (_TAGS if tags else _KEPT) * size + _PIECE


def _of_tags(data: bytes) -> int:
    """Of a TIFF's first directory."""
    order = "<" if data.startswith(b"II") else ">"
    place, count, entry = ("Q", "Q", "HHQ8x") if data[2:3] == bytes([_BIG_TIFF]) else ("I", "H", "HHI4x")
    total = 0
    try:
        (at,) = struct.unpack_from(order + place, data, 8 if place == "Q" else 4)
        (entries,) = struct.unpack_from(order + count, data, at)
        for index in range(entries):
            start = at + struct.calcsize(order + count) + index * struct.calcsize(order + entry)
            _, kind, values = struct.unpack_from(order + entry, data, start)
            total += _PIECE + min(values, len(data)) * (_KEPT if kind in _BYTES else _VALUE)
    except struct.error:  # the end of the file
        return total
    return total


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, place and size of what a JPEG holds up to its first scan; 0 and the rest where order ends."""
    at, marker = 2, 0
    while marker != _START_OF_SCAN:
        at += 1 if data[at : at + 2] == b"\xff\xff" else 0
        if data[at : at + 1] != b"\xff" or at + 4 > len(data) or data[at + 1] in _NO_LENGTH:
            yield 0, at, len(data) - at
            return
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at + 4, size
        at += 2 + size


def _coefficients(image, data: bytes) -> int:
    """Those of a JPEG whose pixels are not complete before its last scan."""
    if "progressive" not in image.info and _components_of_first_scan(data) == image.layers:
        return 0
    across, down = max(part[1] for part in image.layer), max(part[2] for part in image.layer)
    units = -(-image.width // (_BLOCK * across)) * -(-image.height // (_BLOCK * down))
    return _COEFFICIENT * _BLOCK**2 * units * sum(part[1] * part[2] for part in image.layer)


def _components_of_first_scan(data: bytes) -> int:
    """0 where it cannot be told."""
    *_, (marker, at, _) = _segments(data)
    return data[at] if marker == _START_OF_SCAN and at < len(data) else 0


def _strip(image) -> int:
    """What libtiff takes for one strip or tile; a strip without a height is all, and a tile may be larger than all."""
    tags, height = image.tag_v2, image.height
    strip = image.width * min(_whole(tags, _ROWS_PER_STRIP, height), height)
    pixels = max(strip, _whole(tags, _TILE_WIDTH, 0) * _whole(tags, _TILE_LENGTH, 0))
    packed = pixels * max(tags.get(_BITS, (1,))) * _whole(tags, _SAMPLES, 3) // 8
    copies = 1 if image.info["compression"] in _PLAIN else _CODEC_COPIES
    return copies * packed + (0 if tags.get(_PHOTOMETRIC) in _UNCONVERTED else _CONVERTED * pixels)


def _whole(tags, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"its tag {tag} must be a whole number")
    return value
