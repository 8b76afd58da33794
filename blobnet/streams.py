"""Randomness as a function of (seed, name, draw number): no hidden state, so it resumes exactly.

Every layer has a stream of its own, named after it. Each draw takes the next key; kernels hash the key
with the element's index, fillers hand it to NumPy's Philox generator.
"""

import hashlib
import secrets

import numpy as np

from blobnet.errors import BlobnetError


class Stream:
    """The random keys of one layer or data source."""

    def __init__(self, seed: int, name: str):
        digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
        self._base = int.from_bytes(digest, "little")
        self.drawn = 0

    def state(self) -> list[int]:
        """All there is to know, so that a net of another seed can go on with these keys."""
        return [self._base, self.drawn]

    def restore(self, state: list[int]) -> None:
        self._base, self.drawn = state

    def key(self) -> np.uint64:
        """The next 64-bit key."""
        self.drawn += 1
        return np.uint64(mix(self._base + self.drawn * 0x9E3779B97F4A7C15))

    def generator(self) -> np.random.Generator:
        """A NumPy generator on the next key."""
        return np.random.Generator(np.random.Philox(key=int(self.key())))

    def at(self, purpose: str, number: int) -> np.random.Generator:
        """The generator of a purpose and number: the same whenever it is asked for, whatever was drawn."""
        return np.random.Generator(np.random.Philox(key=int(Stream(self._base, f"{purpose}/{number}").key())))


def mix(value: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection that spreads every bit."""
    value &= 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)


_seed: int | None = None


def set_seed(seed: int | None) -> None:
    """Seed every net built from now on; None draws a fresh seed for each."""
    global _seed
    if seed is not None and seed < 0:
        raise BlobnetError(f"a random seed must be 0 or more; got {seed}")
    _seed = seed


def new_seed() -> int:
    """The seed for a net: the one that was set, else a fresh one from the system."""
    return secrets.randbits(32) if _seed is None else _seed
