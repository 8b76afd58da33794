import pytest

from blobnet import Net
from blobnet.errors import BlobnetError
from blobnet.passes import size
from blobnet.passes.phases import connected_net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }
layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "x" top: "y" }
layer { name: "test" type: "Silence" bottom: "y" include { phase: TEST } }"""


@pytest.mark.parametrize(
    ("limit", "most", "what"), [("MOST_LAYERS", 2, "layers"), ("MOST_ENDS", 4, "bottoms and tops")]
)
def test_a_net_beyond_any_real_one_is_refused_before_it_is_built(monkeypatch, limit, most, what, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    monkeypatch.setattr(size, limit, most)
    assert len(Net(path, pb.TRAIN).layers) == 3  # with a split, which does not count
    with pytest.raises(BlobnetError, match=rf"net.prototxt:1: a net has at most {most} {what}; got {most + 1}\. "):
        Net(path, pb.TEST)


def test_the_largest_net_is_many_times_the_largest_real_one():
    """ResNet-1202 has 600 blocks of two convolutions with BatchNorm, Scale and ReLU each, and a sum."""
    block = [pb.LayerParameter(name="l", bottom=["x"], top=["x"])] * 9
    largest = pb.NetParameter(layer=[pb.LayerParameter(name="x", top=["x"]), *block * 600 * 3])
    assert len(connected_net(largest, text.parse("phase: TRAIN", pb.NetState())).layer) == 16_201
