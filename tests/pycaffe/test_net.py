import gc
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import blobnet.pycaffe as caffe
from blobnet.errors import BlobnetError
from blobnet.pycaffe._caffe import BlobVec


@pytest.fixture
def net(folder):
    return caffe.Net("small.prototxt", caffe.TRAIN)


@pytest.fixture
def deployed(folder):
    return caffe.Net("deploy.prototxt", caffe.TEST)


def images(count):
    return np.random.default_rng(1).normal(size=(count, 3, 5, 5)).astype(np.float32)


def test_names_come_in_the_nets_order(net):
    assert list(net._layer_names) == ["source", "filter", "score", "cost"]
    assert list(net.blobs) == list(net._blob_names) == ["image", "class", "filtered", "scores", "cost"]
    assert net.inputs == []
    assert net.outputs == ["cost"]
    assert net.top_names == OrderedDict(source=["image", "class"], filter=["filtered"], score=["scores"], cost=["cost"])
    assert net.bottom_names == OrderedDict(source=[], filter=["image"], score=["filtered"], cost=["scores", "class"])
    for names in (net.blobs, net.params, net.top_names, net.bottom_names, net.layer_dict, net.blob_loss_weights):
        assert isinstance(names, OrderedDict)


def test_indices_agree_with_names(net):
    assert net._inputs == []
    assert [net._blob_names[index] for index in net._outputs] == net.outputs
    for index, name in enumerate(net._layer_names):
        assert [net._blob_names[blob] for blob in net._bottom_ids(index)] == net.bottom_names[name]
        assert [net._blob_names[blob] for blob in net._top_ids(index)] == net.top_names[name]
    assert [blob.shape for blob in net._blobs] == [blob.shape for blob in net.blobs.values()]


def test_layers_know_their_types_and_blobs(net):
    assert [layer.type for layer in net.layers] == ["DummyData", "Convolution", "InnerProduct", "SoftmaxWithLoss"]
    assert [len(layer.blobs) for layer in net.layers] == [0, 2, 2, 0]
    assert net.layer_dict["score"] is net.layers[2]


def test_params_are_vectors_of_blobs(net):
    assert list(net.params) == ["filter", "score"]
    assert all(type(blobs) is BlobVec for blobs in net.params.values())
    weights, bias = net.params["filter"]
    assert weights.data.shape == (2, 3, 3, 3)
    assert bias.data.dtype == np.float32


def test_loss_weights_of_all_blobs(net):
    assert net.blob_loss_weights == OrderedDict(image=0, **{"class": 0}, filtered=0, scores=0, cost=1)
    assert net._blob_loss_weights == [0, 0, 0, 0, 1]


def test_blob_has_legacy_extents_and_a_shape(net):
    blob = net.blobs["image"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (4, 3, 5, 5, 300)
    assert tuple(blob.shape) == (4, 3, 5, 5)
    assert list(blob.shape)[1] == blob.shape[1] == 3
    assert (net.blobs["class"].channels, net.blobs["class"].width) == (1, 1)


def test_blob_data_are_live(net):
    blob = net.blobs["image"]
    view = blob.data
    view[...] = 3
    assert (blob.data == 3).all()
    with pytest.raises(AttributeError):
        blob.data = np.zeros((4, 3, 5, 5))
    blob.reshape(2, 3, 5, 5)
    assert blob.data.shape == blob.diff.shape == (2, 3, 5, 5)
    blob.data[...] = 4
    assert (view[:2] == 4).all()


def test_blobs_outlive_their_net(net):
    blobs = [*net.blobs.values(), *net.params["filter"]]
    del net
    assert all(np.isfinite(blob.data.sum() + blob.diff.sum()) for blob in blobs)


@pytest.mark.parametrize(
    ("kind", "arguments"), [("Net", ("small.prototxt", caffe.TRAIN)), ("SGDSolver", ("solver.prototxt",))]
)
def test_memory_is_given_back_at_once(folder, kind, arguments):
    """Programs make nets in loops: nothing waits for the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        made = getattr(caffe, kind)(*arguments)
        net = getattr(made, "net", made)
        net.forward()
        net.backward()
        within = weakref.ref(net._net)
        del made, net
        assert within() is None
    finally:
        gc.enable()


def test_forward_returns_outputs_and_asked_blobs(net):
    returned = net.forward(blobs=["filtered"])
    assert set(returned) == {"cost", "filtered"}
    assert returned["filtered"] is net.blobs["filtered"].data
    with pytest.raises(KeyError):
        net.forward(blobs=["nowhere"])


def test_forward_of_a_part(net):
    net.blobs["filtered"].data[...] = np.arange(72).reshape(4, 2, 3, 3)
    returned = net.forward(start="score", end="score")
    weights, bias = (blob.data for blob in net.params["score"])
    assert list(returned) == ["scores"]
    np.testing.assert_allclose(
        returned["scores"], net.blobs["filtered"].data.reshape(4, -1) @ weights.T + bias, rtol=1e-5, atol=1e-5
    )


def test_backward_of_a_part(net):
    net.forward()
    net.blobs["scores"].diff[...] = np.arange(24).reshape(4, 6)
    returned = net.backward(start="score", end="score", diffs=["scores"])
    assert set(returned) == {"filtered", "scores"}
    expected = net.blobs["scores"].diff @ net.params["score"][0].data
    np.testing.assert_allclose(returned["filtered"].reshape(4, -1), expected, rtol=1e-5, atol=1e-5)


def test_loss_comes_from_the_numbered_passes(net):
    loss = net._forward(0, len(net.layers) - 1)
    assert loss == pytest.approx(float(net.blobs["cost"].data))
    net._backward(len(net.layers) - 1, 0)
    assert np.abs(net.params["filter"][0].diff).max() > 0


def test_clear_param_diffs(net):
    net.forward()
    net.backward()
    diff = net.params["filter"][0].diff
    assert np.abs(diff).max() > 0
    net.clear_param_diffs()
    assert (diff == 0).all()


def test_callbacks_around_layers(net):
    calls = []
    net.before_forward(lambda index: calls.append(("before", index)))
    net.after_forward(lambda index: calls.append(("after", index)))
    net.forward(start="filter", end="score")
    assert calls == [("before", 1), ("after", 1), ("before", 2), ("after", 2)]
    calls.clear()
    net.before_backward(lambda index: calls.append(("before backward", index)))
    net.after_backward(lambda index: calls.append(("after backward", index)))
    net.backward(start="score", end="score")
    assert calls == [("before backward", 2), ("after backward", 2)]


def test_inputs_are_copied_in(deployed):
    data = images(4)
    chance = deployed.forward(image=data)["chance"]
    np.testing.assert_array_equal(deployed.blobs["image"].data, data)
    np.testing.assert_allclose(chance.sum(axis=1), 1, rtol=1e-5)


def test_inputs_must_be_the_nets_and_fit(deployed):
    for wrong in ({"picture": images(4)}, {"image": images(3)}, {"image": np.float32(1)}):
        with pytest.raises(Exception, match="must"):
            deployed.forward(**wrong)
    with pytest.raises(ValueError, match=r'"image" has shape \(4, 3, 5, 5\); got shape \(4, 3, 6, 6\)'):
        deployed.forward(image=np.zeros((4, 3, 6, 6)))
    for method in (deployed.forward, deployed.backward):
        with pytest.raises(ValueError, match='no layer "scor"; did you mean "score"'):
            method(start="scor")
    with pytest.raises(Exception, match="outputs"):
        deployed.backward(image=images(4))


def test_forward_takes_new_shapes(deployed):
    deployed.blobs["image"].reshape(2, 3, 5, 5)
    deployed.reshape()
    assert deployed.blobs["chance"].data.shape == (2, 6)
    deployed.blobs["image"].reshape(7, 3, 5, 5)
    assert deployed.forward()["chance"].shape == (7, 6)


def test_forward_all_fills_the_last_batch_up(deployed):
    data = images(10)
    whole = deployed.forward_all(blobs=["scores"], image=data)
    assert whole["chance"].shape == whole["scores"].shape == (10, 6)
    deployed.blobs["image"].reshape(*data.shape)
    np.testing.assert_allclose(whole["chance"], deployed.forward(image=data)["chance"], rtol=1e-4)
    with pytest.raises(BlobnetError, match="inputs"):
        deployed.forward_all()


def test_forward_backward_all(folder):
    (folder / "forced.prototxt").write_text((folder / "deploy.prototxt").read_text() + "force_backward: true")
    net = caffe.Net("forced.prototxt", caffe.TEST)
    data, slope = images(6), np.random.default_rng(2).normal(size=(6, 6)).astype(np.float32)
    found, diffs = net.forward_backward_all(diffs=["scores"], image=data, chance=slope)
    assert found["chance"].shape == diffs["scores"].shape == (6, 6)
    assert diffs["image"].shape == (6, 3, 5, 5)
    net.blobs["image"].reshape(*data.shape)
    net.forward(image=data)
    np.testing.assert_allclose(diffs["image"], net.backward(chance=slope)["image"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("save", ["save", "save_hdf5"])
def test_saved_weights_load_in_each_way(net, save):
    getattr(net, save)("saved.caffemodel")
    nets = [
        caffe.Net("small.prototxt", "saved.caffemodel", caffe.TRAIN),
        caffe.Net("small.prototxt", caffe.TRAIN, weights="saved.caffemodel"),
        caffe.Net(network_file="small.prototxt", phase=caffe.TEST, level=0, stages=None, weights="saved.caffemodel"),
        caffe.Net("small.prototxt", caffe.TRAIN),
        caffe.Net("small.prototxt", caffe.TRAIN),
    ]
    nets[-2].copy_from("saved.caffemodel")
    if save == "save_hdf5":
        nets[-1].load_hdf5("saved.caffemodel")
    else:
        nets[-1].share_with(net)
    for other in nets:
        for name, blobs in net.params.items():
            for blob, loaded in zip(blobs, other.params[name], strict=True):
                np.testing.assert_array_equal(blob.data, loaded.data)


def test_shared_weights_are_the_same_memory(net):
    other = caffe.Net("deploy.prototxt", caffe.TEST)
    other.share_with(net)
    net.params["score"][0].data[...] = 5
    assert (other.params["score"][0].data == 5).all()


@pytest.mark.parametrize(
    ("state", "layers"),
    [({}, ["always"]), ({"level": 2}, ["always", "deep"]), ({"stages": ["extra", "more"]}, ["always", "staged"])],
)
def test_level_and_stages_choose_layers(folder, state, layers):
    rules = {"always": "", "deep": "include { min_level: 1 }", "staged": 'include { stage: "extra" }'}
    dummy = 'type: "DummyData" dummy_data_param { shape { dim: 1 } }'
    text = [f'layer {{ name: "{name}" top: "{name}" {dummy} {rule} }}' for name, rule in rules.items()]
    (folder / "staged.prototxt").write_text("\n".join(text))
    assert list(caffe.Net("staged.prototxt", caffe.TEST, **state).layer_dict) == layers


@pytest.mark.parametrize("arguments", [("missing.prototxt", caffe.TEST), ("small.prototxt", "missing", caffe.TEST)])
def test_missing_files_are_runtime_errors(folder, arguments):
    with pytest.raises(RuntimeError, match="missing"):
        caffe.Net(*arguments)


def test_wrong_arguments_are_type_errors(folder):
    with pytest.raises(TypeError):
        caffe.Net("small.prototxt")


def test_set_input_arrays(folder):
    (folder / "memory.prototxt").write_text(
        'layer { name: "d" type: "MemoryData" top: "x" top: "y" '
        "memory_data_param { batch_size: 2 channels: 1 height: 2 width: 3 } }"
    )
    net = caffe.Net("memory.prototxt", caffe.TEST)
    data, labels = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3), np.arange(4, dtype=np.float32)
    net.set_input_arrays(data, labels)
    net.forward()
    np.testing.assert_array_equal(net.forward()["x"], data[2:])
    for wrong in ((data.astype(float), labels), (data, labels.astype(int)), (data[:3], labels[:3]), (data, labels[:2])):
        with pytest.raises(RuntimeError):
            net.set_input_arrays(*wrong)


def test_set_input_arrays_needs_memory_data(net):
    with pytest.raises(RuntimeError, match="MemoryData layer, not DummyData"):
        net.set_input_arrays(images(4), np.zeros(4, np.float32))


def test_a_subclass_may_call_the_constructor_itself(folder):
    class Wrapped(caffe.Net):
        def __init__(self, model):
            caffe.Net.__init__(self, model, caffe.TEST)
            self.extra = len(self.layers)

    assert Wrapped("deploy.prototxt").extra == 4


FOLDABLE = """
force_backward: true
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "c" type: "Convolution" bottom: "d" top: "c" convolution_param {
    num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "n2" type: "BatchNorm" bottom: "c" top: "n2" }
layer { name: "s2" type: "Scale" bottom: "n2" top: "s2" }
layer { name: "r2" type: "ReLU" bottom: "s2" top: "r2" }
layer { name: "i" type: "InnerProduct" bottom: "r2" top: "i" inner_product_param {
    num_output: 2 weight_filler { type: "xavier" } } }
"""


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_views_stay_live_from_pass_to_pass(folder, phase):
    """A program keeps ``net.blobs[...].data`` and looks at it after each pass, whatever runs as one inside."""
    (folder / "foldable.prototxt").write_text(FOLDABLE)
    net = caffe.Net("foldable.prototxt", phase)
    kept = {name: (blob.data, blob.diff) for name, blob in net.blobs.items()}
    for seed in (1, 2, 3):
        data = np.random.default_rng(seed).normal(size=(2, 3, 6, 6))
        outputs = net.forward(d=data)["i"].copy()
        net.blobs["i"].diff[...] = seed
        net.backward()
        np.testing.assert_array_equal(kept["i"][0], outputs)
        for name, blob in net.blobs.items():
            np.testing.assert_array_equal(blob.data, kept[name][0])
            np.testing.assert_array_equal(blob.diff, kept[name][1])
