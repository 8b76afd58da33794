"""The words of the text format: names, numbers, strings and marks, with the line each stands on."""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Token(NamedTuple):
    """``kind`` is name, number, string, mark, bad (belongs to no kind) or end."""

    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        """For an error message: shortened, without characters that do not print."""
        if self.kind == "end":
            return "the end of the file"
        if self.kind == "bad" and self.text[0] in "\"'":
            return "a string whose closing quote is not on the same line"
        if self.kind == "bad" and "\udc80" <= self.text[0] <= "\udcff":
            return "a byte that is not UTF-8; save the file as UTF-8"
        shown = self.text if len(self.text) <= 40 else f"{self.text[:40]}..."
        if not shown.isprintable():
            shown = ascii(shown)[1:-1]
        return f'"{shown}"' if self.kind in ("mark", "bad") else shown


_TOKEN = re.compile(
    r"""
  (?: [^\S\n]++ | \#[^\n]*+ )*+
  (?: (?P<name> [A-Za-z_]\w*+ )
  | (?P<number> (?: 0[xX][0-9a-fA-F]++ | (?: \d++\.?+\d*+ | \.\d++ ) (?: [eE][+-]?+\d++ )?+ [fF]?+ )
                (?! [\w.] ) )
  | (?P<string> "(?:[^"\\\n]++|\\[^\n])*+" | '(?:[^'\\\n]++|\\[^\n])*+' )
  | (?P<mark> [{}<>:\[\],;-] )
  | (?P<newlines> \n\s*+ )
  | (?P<bad> [\w.]++ | . ) )?+
    """,
    re.VERBOSE | re.ASCII,
)


def tokenize(text: str) -> Iterator[Token]:
    """The tokens of a text, without blanks and comments, then end for ever."""
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "newlines":
            line += match[kind].count("\n")
        elif kind:
            yield tuple.__new__(Token, (kind, match[kind], line))  # in a quarter of the time of Token()
    while True:
        yield Token("end", "", line)


_ESCAPE = re.compile(
    rb"""\\(?: x([0-9a-fA-F]{1,2}) | u([0-9a-fA-F]{4}) | U(00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4})
            | ([0-7]{1,3}) | (.) )""",
    re.VERBOSE | re.DOTALL,
)
_LETTERS = dict(zip(b"nrtabfv\\'\"?", b"\n\r\t\a\b\f\v\\'\"?", strict=True))


def unquote(string: str) -> bytes:
    """The bytes a string token stands for. Raises KeyError for an escape sequence that is none."""
    content = string[1:-1].encode("utf-8", errors="surrogateescape")
    return _ESCAPE.sub(_unescape, content) if b"\\" in content else content


def _unescape(match: re.Match[bytes]) -> bytes:
    hexadecimal, short, long, octal, letter = match.groups()
    if letter:
        return bytes([_LETTERS[letter[0]]])
    if short or long:
        return chr(int(short or long, 16)).encode("utf-8", errors="surrogatepass")
    return bytes([int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF])


def to_integer(token: Token) -> int:
    """Decimal, 0x hexadecimal or 0 octal. Raises ValueError for anything else."""
    if token.kind != "number":
        raise ValueError(f"{token} is no number")
    number = token.text
    if number[0] != "0":
        return int(number)
    return int(number, 16 if number[:2] in ("0x", "0X") else 8)


def to_float(token: Token) -> float:
    """Decimal, with an exponent or a trailing f; inf, infinity, nan. Raises ValueError for anything else."""
    word = token.text.lower()
    if word in ("inf", "infinity", "nan"):
        return float(word)
    if token.kind != "number" or re.match(r"0[x\d]", word):
        raise ValueError(f"{token} is no decimal number")
    return float(word.rstrip("f"))
