"""Blob: the array that flows between layers, with the gradient that flows back."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from blobnet.errors import BlobnetError

_moves = itertools.count()
_latest_move = next(_moves)


def latest_move() -> int:
    """A number that is another one when any blob has got another shape or other memory."""
    return _latest_move


def _move() -> None:
    global _latest_move
    _latest_move = next(_moves)


class _Storage:
    """A flat buffer, made when first used with room for ``capacity`` elements or more, that blobs may share.

    given_away  somebody may look at it at any time
    cleared     whatever it holds stands for zeros
    """

    __slots__ = ("capacity", "flat", "given_away", "cleared")

    def __init__(self, capacity: int = 0) -> None:
        self.capacity = capacity
        self.flat: np.ndarray | None = None
        self.given_away = False
        self.cleared = False

    def view(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        count = math.prod(shape)
        if self.flat is None:
            self.flat = np.zeros(max(count, self.capacity), dtype)
            _move()
        return self.flat[:count].reshape(shape)

    def fits(self, count: int) -> bool:
        return self.flat is None or self.flat.size >= count


class Blob:
    """An array of any number of axes (by convention N C H W) and, made when first used, its gradient.

    ``data`` and ``diff`` are live views: writing into them writes into the blob. Reshaping keeps the
    memory where it is large enough, and what it holds.

    A diff that is summed up over and over need not be filled with zeros each time, which takes as long as reading it:
    ``clear_diff`` leaves that to the first sum (``add_to_diff``, ``gradient_sum``), unless somebody has been given the
    diff and might look. Who only needs it until it is cleared again takes it as ``gradient``.
    """

    __slots__ = ("name", "origin", "dtype", "_shape", "_storage", "_views")

    def __init__(self, shape: tuple[int, ...] = (), dtype=np.float32, name: str = ""):
        self.name = name
        self.origin = name  # the blob of the prototxt that this one stands for; another name for the tops of a split
        self.dtype = np.dtype(dtype)
        self._shape = tuple(int(extent) for extent in shape)
        self._storage = {"data": _Storage(), "diff": _Storage()}
        self._views: dict[str, np.ndarray] = {}

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, shape={self._shape}, dtype={self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def count(self) -> int:
        return math.prod(self._shape)

    @property
    def num_axes(self) -> int:
        return len(self._shape)

    @property
    def data(self) -> np.ndarray:
        return self._view("data")

    @property
    def diff(self) -> np.ndarray:
        self._storage["diff"].given_away = True
        return self.gradient

    @property
    def gradient(self) -> np.ndarray:
        """The diff, not to be held on to when it is cleared."""
        gradient, storage = self._view("diff"), self._storage["diff"]
        if storage.cleared:
            gradient[...], storage.cleared = 0, False
        return gradient

    @property
    def cleared(self) -> bool:
        """Whether the diff stands for zeros, whatever it holds."""
        return self._storage["diff"].cleared

    def gradient_sum(self) -> tuple[np.ndarray, int]:
        """The ``gradient`` and beta: it becomes beta times itself plus a sum. With 0 it holds anything before."""
        storage = self._storage["diff"]
        beta, storage.cleared = int(not storage.cleared), False
        return self._view("diff"), beta

    def add_to_diff(self, values: np.ndarray) -> None:
        gradient, beta = self.gradient_sum()
        if beta == 0:
            gradient[...] = values
        else:
            gradient += values

    def clear_diff(self) -> None:
        """Set the diff to 0."""
        storage = self._storage["diff"]
        storage.cleared = not storage.given_away
        if storage.given_away:
            self._view("diff")[...] = 0

    def _view(self, part: str) -> np.ndarray:
        view = self._views.get(part)
        if view is None:
            view = self._views[part] = self._storage[part].view(self._shape, self.dtype)
        return view

    def reshape(self, *shape: int) -> None:
        """Give the blob new extents. A buffer that is too small is replaced, and no longer shared."""
        if shape == self._shape:
            return
        try:
            extents = tuple(int(extent) for extent in shape)
        except (TypeError, ValueError) as error:
            raise TypeError(f"the extents of a blob must be whole numbers, one an argument; got {shape}") from error
        if extents != shape or min(extents, default=0) < 0:
            raise BlobnetError(f"the extents of a blob must be whole numbers of 0 or more; got {shape}")
        count = math.prod(extents)
        for part, storage in self._storage.items():
            if not storage.fits(count):
                self._storage[part] = _Storage()
        self._shape = extents
        self._views.clear()
        _move()

    def reshape_like(self, other: "Blob") -> None:
        self.reshape(*other.shape)

    def share_data(self, other: "Blob") -> None:
        """From now on read and write the other blob's data, which must have the same count."""
        self._share("data", other)

    def share_diff(self, other: "Blob") -> None:
        """From now on read and write the other blob's diff, which must have the same count."""
        self._share("diff", other)

    def _share(self, part: str, other: "Blob") -> None:
        if other.count != self.count or other.dtype != self.dtype:
            raise ValueError(f"{self!r} cannot share the {part} of {other!r}: the counts or types differ")
        if self._storage[part] is not other._storage[part]:
            self._storage[part] = other._storage[part]
            self._views.pop(part, None)
            _move()

    def swap_data(self, other: "Blob") -> None:
        """Exchange the memory of the data with a blob of the same count; views taken before stay with the memory."""
        if other.count != self.count or other.dtype != self.dtype:
            raise ValueError(f"{self!r} cannot swap data with {other!r}: the counts or types differ")
        self._storage["data"], other._storage["data"] = other._storage["data"], self._storage["data"]
        self._views.pop("data", None)
        other._views.pop("data", None)
        _move()

    @property
    def memory(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """What data and diff lie in, None where they have not been made."""
        return self._storage["data"].flat, self._storage["diff"].flat

    def buffer(self, part: str) -> int:
        """Which buffer holds the data or diff (``part``): the same number for blobs that share it."""
        return id(self._storage[part])

    def room(self, part: str) -> int:
        """The elements that this buffer has, or will have when it is made."""
        storage = self._storage[part]
        return max(self.count, storage.capacity) if storage.flat is None else storage.flat.size

    def canonical_axis(self, axis: int) -> int:
        """The axis counted from the front; negative ones count from the back. IndexError when there is none."""
        if not -self.num_axes <= axis < self.num_axes:
            raise IndexError(f"axis {axis} is out of range for a blob of {self.num_axes} axes {self._shape}")
        return axis % self.num_axes if self.num_axes else 0

    def count_between(self, start: int, stop: int | None = None) -> int:
        """Product of the extents of axes start to stop (the end when left out)."""
        return math.prod(self._shape[start:stop])

    @property
    def num(self) -> int:
        return self.legacy_extent(0)

    @property
    def channels(self) -> int:
        return self.legacy_extent(1)

    @property
    def height(self) -> int:
        return self.legacy_extent(2)

    @property
    def width(self) -> int:
        return self.legacy_extent(3)

    def legacy_extent(self, axis: int) -> int:
        """Extent of an axis of the blob seen as N C H W: missing trailing axes count 1; at most four axes."""
        if self.num_axes > 4:
            raise ValueError(f"a blob of {self.num_axes} axes {self._shape} has no num, channels, height, width")
        return self._shape[axis] if axis < self.num_axes else 1


def pool(blobs: Sequence[Blob], part: str) -> None:
    """Let blobs that are never needed at the same time keep their data or diff (``part``) in one buffer.

    What they held before is lost. A blob that grows beyond the buffer later gets one of its own.
    """
    storage = _Storage(max(blob.count for blob in blobs))
    for blob in blobs:
        blob._storage[part] = storage
        blob._views.pop(part, None)
    _move()
