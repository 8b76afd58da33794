import sys
import types

import pytest
from google.protobuf import text_format

import blobnet.pycaffe as caffe
from blobnet import zoo
from blobnet.pycaffe.proto import caffe_pb2

NET = """
name: "drawn"
layer { name: "d" type: "Data" top: "x" include { phase: TRAIN } data_param { batch_size: 64 } }
layer { name: "t" type: "Data" top: "x" include { phase: TEST } data_param { batch_size: 9 } }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" param { lr_mult: 3 }
  convolution_param { num_output: 7 kernel_size: 5 stride: 2 } }
layer { name: "p" type: "Pooling" bottom: "y" top: "z" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "r" type: "ReLU" bottom: "z" top: "z" }
layer { name: "i" type: "InnerProduct" bottom: "z" top: "s" inner_product_param { num_output: 4 } }
"""


@pytest.fixture
def net():
    return text_format.Merge(NET, caffe_pb2.NetParameter())


@pytest.fixture
def pydot(monkeypatch):
    """As much of pydot as a graph takes: it keeps what it is given."""

    class Dot:
        def __init__(self, name, **attributes):
            self.name, self.attributes, self.nodes, self.edges = name, attributes, {}, []

        def add_node(self, node):
            self.nodes[node.name] = node.attributes

        def add_edge(self, edge):
            self.edges.append(edge)

        def create(self, format):
            return f"{format} of {len(self.nodes)} nodes".encode()

    def node(name, **attributes):
        return types.SimpleNamespace(name=name, attributes=attributes)

    def edge(start, stop, label):
        return *(end if isinstance(end, str) else end.name for end in (start, stop)), label

    monkeypatch.setitem(sys.modules, "pydot", types.SimpleNamespace(Dot=Dot, Node=node, Edge=edge))


@pytest.mark.parametrize(
    ("ext", "beginning"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("dot", b"digraph"), ("raw", b"digraph")]
)
def test_pictures_without_pydot(net, tmp_path, ext, beginning):
    kept = net.SerializeToString()
    assert caffe.draw.draw_net(net, "LR", ext).startswith(beginning)
    caffe.draw.draw_net_to_file(net, str(tmp_path / f"net.{ext}"), "TB", caffe.TEST)
    assert (tmp_path / f"net.{ext}").read_bytes().startswith(beginning)
    assert net.SerializeToString() == kept


def test_png_is_the_default(net):
    assert caffe.draw.draw_net(net, "LR") == caffe.draw.draw_net(net, "LR", "png")


def test_a_phase_leaves_the_others_layers_out(net):
    assert b"d: Data" not in caffe.draw.draw_net(net, "LR", "dot", caffe.TEST)
    assert b"d: Data" in caffe.draw.draw_net(net, "LR", "dot", caffe.TRAIN)
    for name in (b"d: Data", b"t: Data"):
        assert name in caffe.draw.draw_net(net, "LR", "dot")


@pytest.mark.parametrize("model", ["lenet", "caffenet", "googlenet"])
def test_nets_of_the_zoo_parsed_by_text_format(model):
    net = caffe_pb2.NetParameter()
    text_format.Merge((zoo.folder(model) / "train_val.prototxt").read_text(), net)
    assert caffe.draw.draw_net(net, "LR").startswith(b"\x89PNG")


def test_other_formats_take_pydot(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(RuntimeError, match="pydot is not installed"):
        caffe.draw.draw_net(net, "LR", "pdf")


def test_pydots_graph(net, pydot):
    graph = caffe.draw.get_pydot_graph(net, "LR", phase=caffe.TRAIN, display_lrm=True)
    assert (graph.name, graph.attributes["rankdir"]) == ("drawn", "LR")
    layers = ["d_Data", "c_Convolution", "p_Pooling", "r_ReLU", "i_InnerProduct"]
    assert set(graph.nodes) == {*layers, "x_blob", "y_blob", "z_blob", "s_blob"}
    labels = {name: attributes["label"] for name, attributes in graph.nodes.items()}
    assert labels["c_Convolution"] == r'"c\n(Convolution)\nkernel size: 5\nstride: 2\npad: 0\nlr mult: 3.0, 1.0"'
    assert labels["p_Pooling"] == r'"p\n(Pooling AVE)\nkernel size: 3\nstride: 2\npad: 1"'
    assert graph.nodes["r_ReLU"]["fillcolor"] == caffe.draw.NEURON_LAYER_STYLE["fillcolor"]
    assert graph.nodes["c_Convolution"]["fillcolor"] == caffe.draw.choose_color_by_layertype("Convolution")
    assert ("d_Data", "x_blob", "Batch 64") in graph.edges
    assert ("x_blob", "c_Convolution", '""') in graph.edges
    assert ("c_Convolution", "y_blob", "7") in graph.edges
    assert ("i_InnerProduct", "s_blob", "4") in graph.edges
    assert ("p_Pooling", "z_blob", '""') in graph.edges
    assert caffe.draw.draw_net(net, "LR", "pdf") == b"pdf of 10 nodes"


def test_labels_on_one_line_where_the_graph_flows_downwards(net):
    assert caffe.draw.get_layer_label(net.layer[5], "TB", display_lrm=True) == '"i (InnerProduct) lr mult: 1.0, 1.0"'
    net.layer[5].param.extend([caffe_pb2.ParamSpec(lr_mult=0)] * 2)
    assert caffe.draw.get_layer_label(net.layer[5], "BT", display_lrm=True) == '"i (InnerProduct)"'
    with pytest.raises(ValueError, match="got a layer of type ReLU"):
        caffe.draw.get_layer_lr_mult(net.layer[4])
    assert caffe.draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}
