"""One layer on its own, for tests: Input layers feed it, and its gradients come back as arrays."""

from collections.abc import Sequence

import numpy as np

from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


class Single:
    """A net of Input layers "bottom0", ... and the layer of a text, ``layer { type: ... }`` without its bottoms.

    Tops are named "top0", ... unless the text names them; in place, the first top is the first bottom. Arrays are
    float64 unless ``dtype`` says otherwise.
    """

    def __init__(
        self,
        layer: str,
        *shapes: Sequence[int],
        tops: int = 1,
        in_place: bool = False,
        phase: int = pb.TEST,
        dtype=np.float64,
        seed: int = 1,
    ):
        param = pb.NetParameter()
        for position, shape in enumerate(shapes):
            param.layer.add(
                name=f"input{position}",
                type="Input",
                top=[f"bottom{position}"],
                input_param=pb.InputParameter(shape=[pb.BlobShape(dim=shape)]),
            )
        own = param.layer.add()
        own.CopyFrom(text.parse(f'layer {{ name: "l" {layer} }}', pb.NetParameter(), "net.prototxt").layer[0])
        own.bottom.extend(f"bottom{position}" for position in range(len(shapes)))
        own.top.extend("bottom0" if in_place else f"top{position}" for position in range(tops))
        self.net = Net(param, phase, dtype=dtype, seed=seed)
        self.layer, self.bottoms, self.tops = self.net.layers[-1], self.net.bottoms[-1], self.net.tops[-1]

    def forward(self, *bottoms: np.ndarray) -> list[np.ndarray]:
        for position, values in enumerate(bottoms):
            self.net.set_input(f"bottom{position}", np.asarray(values))
        self.net.forward()
        return [top.data.copy() for top in self.tops]

    def backward(self, *top_diffs: np.ndarray) -> list[np.ndarray]:
        for top, diff in zip(self.tops, top_diffs, strict=True):
            top.diff[...] = diff
        self.layer.backward(self.tops, [True] * len(self.bottoms), self.bottoms)
        return [bottom.diff.copy() for bottom in self.bottoms]
