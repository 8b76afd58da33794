# ruff: noqa: C408 (dict(...) is how such programs write messages)
import pytest

import blobnet.pycaffe as caffe
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.pycaffe import layers as L  # noqa: N812
from blobnet.pycaffe import params as P  # noqa: N812


def parsed(prototxt):
    return text.strip_source_info(text.parse(prototxt, pb.NetParameter()))


def build(net, tmp_path, phase=caffe.TEST):
    (tmp_path / "net.prototxt").write_text(str(net))
    return caffe.Net(str(tmp_path / "net.prototxt"), phase)


def branches():
    n = caffe.NetSpec()
    n.data, n.label = L.DummyData(shape=[dict(dim=[4, 1, 8, 8]), dict(dim=[4])], ntop=2)
    n.conv = L.Convolution(
        n.data, kernel_size=3, num_output=6, weight_filler=dict(type="xavier"), param=[dict(lr_mult=1), dict(lr_mult=2)]
    )
    n.pool = L.Pooling(n.conv, kernel_size=2, stride=2, pool=P.Pooling.AVE)
    n.relu = L.ReLU(n.pool, in_place=True)
    n.sum = L.Eltwise(n.relu, n.pool, operation=P.Eltwise.SUM, coeff=[1, 0.5])
    n.score = L.InnerProduct(n.sum, num_output=3)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_weight=2)
    n.accuracy = L.Accuracy(n.score, n.label, include=dict(phase=caffe.TEST))
    return n


def test_the_text_says_what_was_called():
    assert branches().to_proto() == parsed("""
        layer { name: "data" type: "DummyData" top: "data" top: "label"
          dummy_data_param { shape { dim: 4 dim: 1 dim: 8 dim: 8 } shape { dim: 4 } } }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 } param { lr_mult: 2 }
          convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
        layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
          pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
        layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
        layer { name: "sum" type: "Eltwise" bottom: "pool" bottom: "pool" top: "sum"
          eltwise_param { operation: SUM coeff: 1 coeff: 0.5 } }
        layer { name: "score" type: "InnerProduct" bottom: "sum" top: "score" inner_product_param { num_output: 3 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 2 }
        layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy"
          include { phase: TEST } }
    """)


def test_a_spec_builds_and_runs(tmp_path):
    net = build(branches().to_proto(), tmp_path)
    assert set(net.forward()) == {"accuracy", "loss"}


def test_names_are_made_up_where_none_are_given():
    data, label = L.DummyData(shape=[dict(dim=[2, 3]), dict(dim=[2])], ntop=2)
    first = L.InnerProduct(data, num_output=3)
    second = L.InnerProduct(L.ReLU(first, in_place=True), num_output=2)
    loss = L.SoftmaxWithLoss(second, label)
    silent = L.Silence(data, ntop=0)
    net = loss.to_proto()
    assert [layer.name for layer in net.layer] == [
        "DummyData1", "InnerProduct1", "ReLU1", "InnerProduct2", "SoftmaxWithLoss1"
    ]  # fmt: skip
    assert list(net.layer[0].top) == ["DummyData1", "DummyData2"]
    assert net.layer[2].bottom == net.layer[2].top == ["InnerProduct1"]
    assert caffe.to_proto(second, loss) == net
    assert silent.ntop == 0


def test_layers_without_tops(tmp_path):
    n = caffe.NetSpec()
    n.a, n.b = L.DummyData(shape=dict(dim=[3]), ntop=2)
    n.quiet = L.Silence(n.a, ntop=0)
    n.still = L.Silence(n.b, ntop=0)
    net = n.to_proto()
    assert [layer.name for layer in net.layer] == ["a", "quiet", "still"]
    assert build(net, tmp_path).forward() == {}


def test_shared_ancestors_come_once_and_before_their_readers():
    n = caffe.NetSpec()
    shared = L.Input(input_param=dict(shape=dict(dim=[1, 2])))
    n.late = L.Concat(L.ReLU(shared), L.TanH(shared))
    n.source = shared
    assert [layer.name for layer in n.to_proto().layer] == ["source", "ReLU1", "TanH1", "late"]


def test_names_as_items_and_their_removal():
    n = caffe.NetSpec()
    n["fire2/relu"] = L.Input(shape=dict(dim=[1]))
    n.kept = L.ReLU(n["fire2/relu"])
    n.dropped = L.TanH(n.kept)
    del n.dropped
    n["gone"] = L.TanH(n.kept)
    del n["gone"]
    assert list(n.tops) == ["fire2/relu", "kept"]
    assert [layer.name for layer in n.to_proto().layer] == ["fire2/relu", "kept"]
    with pytest.raises(KeyError):
        n.dropped  # noqa: B018


def test_every_kind_of_parameter():
    n = caffe.NetSpec()
    n.data = L.Data(
        source="train_lmdb", backend=P.Data.LMDB, batch_size=64, transform_param=dict(scale=0.5, mean_value=[1, 2])
    )
    n.up = L.Deconvolution(n.data, convolution_param=dict(num_output=2, kernel_size=[3, 5], bias_term=False))
    n.own = L.Python(n.up, module="mine", layer="Mine", param_str="{}")
    n.renamed = L.LRN(n.own, name="other", norm_region=P.LRN.WITHIN_CHANNEL)
    assert n.to_proto() == parsed("""
        layer { name: "data" type: "Data" top: "data"
          data_param { source: "train_lmdb" backend: LMDB batch_size: 64 }
          transform_param { scale: 0.5 mean_value: 1 mean_value: 2 } }
        layer { name: "up" type: "Deconvolution" bottom: "data" top: "up"
          convolution_param { num_output: 2 kernel_size: 3 kernel_size: 5 bias_term: false } }
        layer { name: "own" type: "Python" bottom: "up" top: "own"
          python_param { module: "mine" layer: "Mine" param_str: "{}" } }
        layer { name: "other" type: "LRN" bottom: "own" top: "renamed" lrn_param { norm_region: WITHIN_CHANNEL } }
    """)


def test_bottoms_must_be_tops():
    pair = L.DummyData(ntop=2)
    with pytest.raises(TypeError, match=r"^Concat input 1 is not a Top \(type is <class 'tuple'>\)$"):
        L.Concat(pair[0], pair)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: L.Convolution(kernl_size=3), 'Convolution has no parameter "kernl_size"; did you mean "kernel_size"'),
        (lambda: L.Deconvolution(kernel_size=3), "Deconvolution.*param=dict.kernel_size=...."),
        (lambda: L.Permute(order=[0, 2]), "SSD"),
    ],
)
def test_unknown_parameters_are_attribute_errors(layer, message):
    with pytest.raises(AttributeError, match=message):
        layer().to_proto()


def test_unknown_enums_are_attribute_errors():
    assert P.Pooling.MAX == pb.PoolingParameter.MAX
    with pytest.raises(AttributeError):
        P.Pooling.MEDIAN  # noqa: B018
    with pytest.raises(AttributeError, match='did you mean "PoolingParameter"'):
        P.Poling.MAX  # noqa: B018
