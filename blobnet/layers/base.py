"""Layer: one step of a net. A subclass declares its arity, computes shapes and calls kernels."""

import weakref
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

from blobnet.blob import Blob
from blobnet.context import Context
from blobnet.errors import error_at

Arity = tuple[int, int | None]


class Layer:
    """Base of all layers.

    The net calls ``setup`` once, then ``reshape`` before the first forward pass and whenever the shape of a
    bottom has changed, then ``forward`` and ``backward``. ``forward`` writes the data of the tops.
    ``backward`` overwrites the diff of each bottom whose ``propagate_down`` is set, and ADDS to the diff of
    each learnable blob whose ``param_propagate_down`` is set. A bottom is never modified unless it is a top too.

    bottoms, tops   (least, most) number of blobs; most None: any number
    in_place        whether a top may be one of the bottoms
    keeps_input     in place, a copy of the input is kept for the backward pass
    steady          both passes run regions, what is ``repeated`` and nothing else, as long as the blobs keep shapes and
                    memory, with what they read from blobs, or have made in reshape (see ``kernels.parallel``)
    inner_blobs     blobs that both passes use besides bottoms, tops and the learnable ones
    loss            a loss layer: its first top has loss weight 1 unless the prototxt says otherwise
    automatic_tops  tops that the prototxt leaves out are made, so that a loss may go unnamed
    """

    type: ClassVar[str] = ""
    bottoms: ClassVar[Arity] = (1, 1)
    tops: ClassVar[Arity] = (1, 1)
    in_place: ClassVar[bool] = False
    keeps_input: bool = False
    steady: bool = False
    inner_blobs: Sequence[Blob] = ()
    loss: ClassVar[bool] = False
    automatic_tops: ClassVar[bool] = False

    def __init__(self, param, context: Context):
        self.param = param
        self.context = context
        self.name: str = param.name
        self.phase: int = context.phase
        self.dtype: np.dtype = context.dtype
        self.blobs: list[Blob] = []
        self.read_ahead = 0  # elements that a data layer holds besides its tops
        self.param_propagate_down: list[bool] = []
        self.stream = context.stream(param.name)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the parameters and make the learnable blobs."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops (and work arrays) the shapes that follow from the bottoms."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        raise NotImplementedError

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if any(propagate_down):
            self.fail(f"{self.type} has no gradient, but a layer before it asks for one")

    @property
    def is_own(self) -> bool:
        """Whether it is one of the project's layers as it stands, not one that somebody has derived from them."""
        return type(self).__module__.startswith(__package__)

    def has_backward(self, bottom_index: int) -> bool:
        """Whether ``force_backward`` may ask for the gradient of this bottom; not of labels."""
        return True

    def flops(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        """Multiplications and additions with the learned matrices in ``forward``; 0 where there are none."""
        return 0

    def state(self) -> dict[str, Any]:
        """What a snapshot must hold, besides the learnable blobs, for this layer to go on exactly."""
        return {"stream": self.stream.state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.stream.restore(state["stream"])

    def charge(self, key: object, count: int) -> None:
        """Count the data of so many elements, before they are made; an error where they exceed the memory allowed."""
        if fault := self.context.budget.charge((weakref.ref(self), key), count * self.dtype.itemsize):
            self.fail(fault)

    def charge_tops(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Count the data of the tops that are not bottoms, too."""
        for blob in top:
            if blob not in bottom:
                self.charge(blob.name, blob.count)

    def charge_read_ahead(self, count: int) -> None:
        """Count the elements that a data layer is about to hold besides its tops."""
        self.read_ahead = count
        self.charge("read ahead", count)

    def add_blob(self, shape: Sequence[int], filler=None) -> Blob:
        """A new learnable blob, filled by a FillerParameter (zeros when left out)."""
        from blobnet.fillers import fill, is_zero

        blob = Blob(tuple(shape), self.dtype, f"{self.name}[{len(self.blobs)}]")
        self.charge(len(self.blobs), blob.count * self.context.budget.weight_copies)
        if filler is not None and not is_zero(filler):
            fill(blob, filler, self.stream, self.param)
        self.blobs.append(blob)
        self.param_propagate_down.append(True)
        return blob

    def check_arity(self, bottom_count: int, top_count: int) -> None:
        for kind, (least, most), count in (("bottom", self.bottoms, bottom_count), ("top", self.tops, top_count)):
            if count < least or (most is not None and count > most):
                wanted = f"{least} or more" if most is None else " to ".join(map(str, sorted({least, most})))
                self.fail(f"{self.type} takes {wanted} {kind} blob(s); got {count}", kind)

    def require(self, condition: bool, text: str, field: str = "") -> None:
        """Unless the condition holds, raise an error at this layer; ``field`` as in ``errors.error_at``."""
        if not condition:
            self.fail(text, field)

    def fail(self, text: str, field: str = "") -> NoReturn:
        raise error_at(self.param, text, field)

    def axis(self, blob: Blob, axis: int, field: str) -> int:
        """The canonical axis of a blob for a value read from ``field``; an error where there is none."""
        if not -blob.num_axes <= axis < blob.num_axes:
            self.fail(f"axis {axis} is out of range for {describe(blob)}, which has {blob.num_axes} axes", field)
        return blob.canonical_axis(axis)


def describe(blob: Blob) -> str:
    """``blob "conv1" (64 x 20 x 24 x 24)``, for error texts."""
    return f'blob "{blob.origin}" ({" x ".join(map(str, blob.shape)) or "scalar"})'
