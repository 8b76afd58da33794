"""What Pillow takes to decode an image, told from the header before it is taken."""

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


def _coefficients(image, data: bytes) -> int:
    """Those of a JPEG whose pixels are not complete before its last scan."""
    if "progressive" not in image.info and _components_of_first_scan(data) == image.layers:
        return 0
    across, down = max(part[1] for part in image.layer), max(part[2] for part in image.layer)
    units = -(-image.width // (_BLOCK * across)) * -(-image.height // (_BLOCK * down))
    return _COEFFICIENT * _BLOCK**2 * units * sum(part[1] * part[2] for part in image.layer)


def _components_of_first_scan(data: bytes) -> int:
    """0 where markers do not follow each other as they should."""
    at = 2
    while at + 4 < len(data) and data[at] == 0xFF and data[at + 1] not in _NO_LENGTH:
        if data[at + 1] == _START_OF_SCAN:
            return data[at + 4]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


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
