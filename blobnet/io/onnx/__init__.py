"""Nets for inference as ONNX: the road to every other runtime.

``export`` builds the net in the TEST phase and walks its layers; each layer type has a rule in a module of its family.
"""

import os
from pathlib import Path

import blobnet
from blobnet import extras
from blobnet.errors import BlobnetError
from blobnet.io import files
from blobnet.io.onnx import combinations, functions, recurrent, shapes, windows  # noqa: F401  (rules)
from blobnet.io.onnx.batch import Batch, open_batch
from blobnet.io.onnx.graph import RULES, Graph, Step, value_names
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

OPSET = 18
IR_VERSION = 8  # the oldest that takes this opset


def export(
    model: str | os.PathLike, weights: str | os.PathLike, path: str | os.PathLike, dynamic_batch: bool = False
) -> None:
    """Write a deploy prototxt and its weights as an ONNX model.

    Its inputs and outputs have the names and shapes of the net's; with ``dynamic_batch``, the first extent of the
    inputs, and what follows from it, is left open under the name ``batch``. A recurrent layer, whose state Caffe keeps
    from one call to the next, gets inputs ``<layer>/h_0`` and outputs ``<layer>/h_T`` besides (an LSTM ``c`` too).
    """
    net = Net(os.fspath(model), pb.TEST, weights=Path(weights))
    files.write_message(path, to_onnx(net, dynamic_batch))


def to_onnx(net: Net, dynamic_batch: bool = False):
    """The ModelProto of a net that was built in the TEST phase."""
    onnx = extras.load("onnx", "export")
    graph = Graph()
    names = value_names(net)
    if not net.inputs:
        raise BlobnetError("the net has no Input layer; export the deploy prototxt, not the one for training")
    batch = open_batch(net) if dynamic_batch else Batch()
    for layer, bottoms, tops, (inputs, outputs) in zip(net.layers, net.bottoms, net.tops, names, strict=True):
        if layer.type not in RULES:
            known = ", ".join(sorted(RULES))
            layer.fail(f"{layer.type} cannot be exported to ONNX; what can be: {known}", "type")
        RULES[layer.type](graph, Step(layer, bottoms, tops, inputs, outputs, batch))
    for name in net.outputs:
        if name not in net.inputs:
            graph.add_output(name, batch.declared(net.blobs[name]))
    return onnx.helper.make_model(
        graph.finish(net.name or "net"),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="blobnet",
        producer_version=blobnet.__version__,
    )
