"""Layers that choose items of a batch by the values of a bottom: Filter, BatchReindex."""

import numpy as np

from blobnet.blob import Blob
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register


class Choosing(Layer):
    """Base of layers whose last bottom chooses: it can have no gradient."""

    def check_choice(self, propagate_down) -> None:
        self.require(
            not propagate_down[-1],
            f"the last bottom of {self.type} chooses items and has no gradient: state propagate_down for each bottom, "
            "false for the last",
            "bottom",
        )


@register("Filter")
class Filter(Choosing):
    """Of each bottom but the last, the items whose entry in the last one, the selector, is not 0.

    The selector holds one number an item: N, or N x 1 x 1 ... dx is dy for a chosen item, else 0. Before the first
    forward pass the tops have the shapes of the bottoms.
    """

    bottoms = (2, None)
    tops = (1, None)

    def setup(self, bottom, top):
        self.require(
            len(top) == len(bottom) - 1,
            f"Filter makes one top for each bottom but the selector; got {len(bottom)} bottoms, {len(top)} tops",
            "top",
        )

    def reshape(self, bottom, top):
        *items, selector = bottom
        self.require(
            selector.num_axes >= 1 and selector.count_between(1) == 1,
            f"the selector must hold one number an item; got {describe(selector)}",
            "bottom",
        )
        for blob, filtered in zip(items, top, strict=True):
            self.require(
                blob.shape[:1] == selector.shape[:1],
                f"a bottom and the selector must have as many items; got {describe(blob)} and {describe(selector)}",
                "bottom",
            )
            filtered.reshape_like(blob)

    def forward(self, bottom, top):
        *items, selector = bottom
        self._chosen = np.flatnonzero(selector.data)
        self.require(self._chosen.size > 0, f"{describe(selector)} selects no item: at least one must differ from 0")
        for blob, filtered in zip(items, top, strict=True):
            filtered.reshape(self._chosen.size, *blob.shape[1:])
            np.take(blob.data, self._chosen, axis=0, out=filtered.data)

    def backward(self, top, propagate_down, bottom):
        self.check_choice(propagate_down)
        for blob, filtered, wanted in zip(bottom, top, propagate_down, strict=False):
            if wanted:
                blob.diff[...] = 0
                blob.diff[self._chosen] = filtered.diff


@register("BatchReindex")
class BatchReindex(Choosing):
    """y[i] = x[index[i]]: the items of the first bottom in the order that the second one, M indices, gives.

    dx[n] = the sum of dy[i] over the i with index[i] = n.
    """

    bottoms = (2, 2)

    def reshape(self, bottom, top):
        items, index = bottom
        self.require(index.num_axes == 1, f"the indices must have one axis; got {describe(index)}", "bottom")
        self.require(items.num_axes >= 1, f"there are no items to choose from in {describe(items)}", "bottom")
        top[0].reshape(*index.shape, *items.shape[1:])

    def forward(self, bottom, top):
        self._index = self._indices(bottom)
        np.take(bottom[0].data, self._index, axis=0, out=top[0].data)

    def _indices(self, bottom: list[Blob]) -> np.ndarray:
        items, index = bottom
        inside = (index.data > -1) & (index.data < items.shape[0])
        if not inside.all():
            self.fail(
                f"an index must be from 0 to {items.shape[0] - 1}, the items of {describe(items)}; "
                f"got {index.data[~inside][0]:g} in {describe(index)}"
            )
        return index.data.astype(np.intp)

    def backward(self, top, propagate_down, bottom):
        self.check_choice(propagate_down)
        if propagate_down[0]:
            bottom[0].diff[...] = 0
            np.add.at(bottom[0].diff, self._index, top[0].diff)
