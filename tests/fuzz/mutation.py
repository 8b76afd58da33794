"""What fuzzing does to a file: bytes flipped, cut and repeated; words of a text exchanged, multiplied and nested."""

import random
import re
from collections.abc import Callable, Sequence

Mutation = Callable[[bytes, random.Random, Sequence[bytes]], bytes]

_NUMBERS = """
    0 1 -1 2 3 7 8 16 100 255 256 1000 4096 65535 65536 1000000 2147483647 2147483648 -2147483648 4294967295 4294967296
    9223372036854775807 -9223372036854775808 99999999999999999999 1e-45 1e38 1e39 -1e39 1e308 1e309 nan inf -inf
    0.5 -0.5 0x7fffffff 010 08 1f . .5 1e 0.1.2 2e9
""".split()  # noqa: SIM905
_WORDS = r"""
    "" "\xff" "a/../../b" "/dev/zero" "/dev/tty" "\000" true false AVE MAX { } < > [ ] : ; , - # "'" \
    layer layers bottom top name type param include input input_dim shape dim
""".split()  # noqa: SIM905
_TOKEN = re.compile(rb"\"[^\"\n]*\"|[A-Za-z_]\w*|-?[\d.]+(?:[eE][-+]?\d+)?|[^\s\w]")
_BOUNDARIES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1)
_BOUNDARIES += (1 << 63, (1 << 64) - 1)


def mutate(content: bytes, dice: random.Random, others: Sequence[bytes], text: bool) -> bytes:
    """One to four mutations in a row; ``others`` are files of the same format to take parts from."""
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 4))):
        kinds = TEXT if text and dice.random() < 0.85 else BINARY
        content = dice.choice(kinds)(content, dice, others)
    return content


def _span(content: bytes, dice: random.Random) -> tuple[int, int]:
    start = dice.randrange(len(content) + 1)
    longest = dice.choice((4, 64, 4096, len(content)))
    return start, min(len(content), start + dice.randint(0, longest))


def flip_bits(content, dice, others):
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 8, 64)) if content else 0):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def set_number(content, dice, others):
    """An extreme number over 1, 2, 4 or 8 bytes."""
    size = dice.choice((1, 2, 4, 8))
    value = (dice.choice(_BOUNDARIES) & ((1 << 8 * size) - 1)).to_bytes(size, dice.choice(("little", "big")))
    start = dice.randrange(len(content) + 1)
    return content[:start] + value + content[start + size :]


def truncate(content, dice, others):
    return content[: dice.randrange(len(content) + 1)]


def remove(content, dice, others):
    start, stop = _span(content, dice)
    return content[:start] + content[stop:]


def repeat(content, dice, others):
    start, stop = _span(content, dice)
    times = min(dice.choice((2, 3, 100)), 1 + (1 << 18) // (stop - start + 1))
    return content[:start] + content[start:stop] * times + content[stop:]


def overwrite(content, dice, others):
    start, stop = _span(content, dice)
    filling = dice.choice((b"\0" * (stop - start), b"\xff" * (stop - start), dice.randbytes(stop - start)))
    return content[:start] + filling + content[stop:]


def splice(content, dice, others):
    """The start of this file, then the rest of another."""
    other = dice.choice(others)
    return content[: dice.randrange(len(content) + 1)] + other[dice.randrange(len(other) + 1) :]


def exchange_words(content, dice, others):
    """Put a number, a word or a word of another file in the place of a word."""
    places = list(_TOKEN.finditer(content))
    if not places:
        return content
    place = dice.choice(places)
    source = dice.choice(("number", "word", "other"))
    if source == "other" and (found := _TOKEN.findall(dice.choice(others))):
        word = dice.choice(found)
    else:
        word = dice.choice(_NUMBERS if source == "number" else _WORDS).encode()
    return content[: place.start()] + word + content[place.end() :]


def change_number(content, dice, others):
    places = list(re.finditer(rb"(?<=[\s:])-?\d[\d.eE+-]*", content))
    if not places:
        return content
    place = dice.choice(places)
    return content[: place.start()] + dice.choice(_NUMBERS).encode() + content[place.end() :]


def lines(content, dice, others):
    """Remove, repeat or move lines."""
    rows = content.split(b"\n")
    start = dice.randrange(len(rows))
    stop = start + dice.randint(1, 12)
    block = rows[start:stop]
    kind = dice.choice(("remove", "repeat", "move", "take"))
    if kind == "repeat":
        rows[start:start] = block
    elif kind == "take":
        other = dice.choice(others).split(b"\n")
        first = dice.randrange(len(other))
        rows[start:start] = other[first : first + dice.randint(1, 12)]
    else:
        del rows[start:stop]
        if kind == "move":
            place = dice.randrange(len(rows) + 1)
            rows[place:place] = block
    return b"\n".join(rows)


def nest(content, dice, others):
    """A message in a message in a message, as deep as it goes."""
    opening = dice.choice((b"layer {", b"net_param {", b"layers { layer {", b"transform_param <", b"{", b"["))
    start = dice.randrange(len(content) + 1)
    return content[:start] + opening * dice.choice((2, 99, 101, 2000, 20000)) + content[start:]


def insert_shape(content, dice, others):
    """Another input, of any number of extents of any size."""
    extents = " ".join(f"dim: {dice.choice(_NUMBERS)}" for _ in range(dice.choice((0, 1, 4, 5, 33, 1000))))
    layer = f'layer {{ name: "i" type: "Input" top: "i{dice.randrange(3)}" input_param {{ shape {{ {extents} }} }} }}\n'
    return layer.encode() + content


BINARY: tuple[Mutation, ...] = (flip_bits, set_number, set_number, truncate, remove, repeat, overwrite, splice)
TEXT: tuple[Mutation, ...] = (exchange_words, exchange_words, change_number, change_number, lines, nest, insert_shape)
