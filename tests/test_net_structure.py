"""The structure Caffe gave to real nets: layers after splits, shapes, who needs backward, outputs."""

import pytest

from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text
from tests.recorded import files, load_json

CASES = [
    pytest.param(entry, id=f"{path.stem}-{entry['phase']}-{'-'.join(entry['stages']) or 'plain'}")
    for path in files("nets", "*.json")
    for entry in load_json(path)
]


@pytest.mark.parametrize("entry", CASES)
def test_structure(entry):
    net = net_from_text(entry["prototxt"], pb.Phase.Value(entry["phase"]), stages=entry["stages"])
    layers = [
        [layer.name, layer.type, [blob.name for blob in bottom], [blob.name for blob in top], backward]
        for layer, bottom, top, backward in zip(net.layers, net.bottoms, net.tops, net.layer_need_backward, strict=True)
    ]
    assert layers == entry["layers"]
    blobs = [[name, list(blob.shape), net.loss_weights.get(name, 0.0)] for name, blob in net.blobs.items()]
    assert blobs == entry["blobs"]
    assert [[name, [list(blob.shape) for blob in blobs]] for name, blobs in net.params.items()] == entry["params"]
    assert net.inputs == entry["inputs"]
    assert net.outputs == entry["outputs"]
    assert net.memory_required == entry["memory_required"]
