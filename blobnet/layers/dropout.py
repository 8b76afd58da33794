"""Dropout: silence a random part of the units while training."""

import numpy as np

from blobnet.kernels import elements, random
from blobnet.layers.neuron import Neuron
from blobnet.layers.registry import register
from blobnet.proto import blobnet_pb2 as pb


@register("Dropout")
class Dropout(Neuron):
    """In training y = m x / (1 - r), m being 0 with probability r and else 1; in testing y = x.

    dx = m dy / (1 - r). dropout_param: ``dropout_ratio`` r (default 0.5, at least 0 and below 1). The mask is a
    function of one random key a pass and the element, made again in backward. Hinton et al. 2012.
    """

    def setup(self, bottom, top):
        ratio = self.param.dropout_param.dropout_ratio
        self.require(
            0 <= ratio < 1,
            f"dropout_ratio must be at least 0 and below 1; got {ratio:g}",
            "dropout_param.dropout_ratio",
        )
        self._bound = np.uint64(ratio * 2**32)
        self._factor = self.dtype.type(1 / (1 - ratio))

    def compute(self, x, y):
        self._key = self.stream.key() if self.phase == pb.TRAIN else None
        self._drop(x, y)

    def differentiate(self, x, y, dy, dx):
        self._drop(dy, dx)

    def _drop(self, x: np.ndarray, y: np.ndarray | None) -> None:
        if self._key is not None:
            elements.run(random.dropout, x.size, x, self._key, self._bound, self._factor, y)
        elif y is not None:
            np.copyto(y, x)
