"""Groups of layers that run as one leave what their layers leave when they run one by one."""

import numpy as np
import pytest

from blobnet import buffers, config
from blobnet.kernels import parallel
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text

RESIDUAL = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 6 dim: 3 dim: 9 dim: 9 } shape { dim: 6 } } }
layer { name: "c0" type: "Convolution" bottom: "data" top: "c0"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu0" type: "ReLU" bottom: "c0" top: "c0" }
layer { name: "cg" type: "Convolution" bottom: "c0" top: "cg"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 2 bias_term: false weight_filler { type: "msra" } } }
layer { name: "relug" type: "ReLU" bottom: "cg" top: "cg" }
layer { name: "c1" type: "Convolution" bottom: "cg" top: "c1"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "scale1" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2"
  convolution_param { num_output: 5 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "c2" top: "n2" }
layer { name: "scale2" type: "Scale" bottom: "n2" top: "n2" scale_param { filler { type: "gaussian" std: 2 } } }
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "n2" top: "sum" eltwise_param { coeff: 1 coeff: -0.5 } }
layer { name: "relu2" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "bn3" type: "BatchNorm" bottom: "sum" top: "n3" }
layer { name: "relu3" type: "ReLU" bottom: "n3" top: "n3" }
layer { name: "ip" type: "InnerProduct" bottom: "n3" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""

APART = RESIDUAL.replace('"ReLU" bottom: "cg" top: "cg"', '"ReLU" bottom: "cg" top: "rg"')
APART = APART.replace('"Convolution" bottom: "cg"', '"Convolution" bottom: "rg"')
APART = APART.replace('bottom: "c1" top: "c1" scale_param', 'bottom: "c1" top: "s1" scale_param')
APART = APART.replace('"ReLU" bottom: "c1" top: "c1"', '"ReLU" bottom: "s1" top: "r1"').replace(
    '"Convolution" bottom: "c1"', '"Convolution" bottom: "r1"'
)
APART = APART.replace('"Eltwise" bottom: "c1"', '"Eltwise" bottom: "r1"').replace(
    '"ReLU" bottom: "sum" top: "sum"', '"ReLU" bottom: "sum" top: "r2"'
)
APART = APART.replace('"BatchNorm" bottom: "sum"', '"BatchNorm" bottom: "r2"').replace(
    '"ReLU" bottom: "n3" top: "n3"', '"ReLU" bottom: "n3" top: "r3"'
)
APART = APART.replace('"InnerProduct" bottom: "n3"', '"InnerProduct" bottom: "r3"')


def with_two_readers(prototxt: str, total: str) -> str:
    """The net whose residual block ends in a plain sum that two layers read."""
    plain = prototxt.replace(" eltwise_param { coeff: 1 coeff: -0.5 }", "")
    readers = f"""layer {{ name: "c3" type: "Convolution" bottom: "{total}" top: "c3"
  convolution_param {{ num_output: 5 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "join" type: "Concat" bottom: "{total}" bottom: "c3" top: "j" }}
layer {{ name: "bn3" type: "BatchNorm" bottom: "j" """
    return plain.replace(f'layer {{ name: "bn3" type: "BatchNorm" bottom: "{total}" ', readers)


ENDS, ENDS_APART = with_two_readers(RESIDUAL, "sum"), with_two_readers(APART, "r2")
ENDS_IN_PLACE = ENDS.replace('"n2"', '"c2"')
NETS = [RESIDUAL, APART, ENDS, ENDS_APART, ENDS_IN_PLACE]

RANDOM = np.random.default_rng(4)
DATA, LABEL = 2 * RANDOM.standard_normal((6, 3, 9, 9)) + 1, RANDOM.integers(0, 3, 6)


def build(prototxt: str = RESIDUAL, phase: int = pb.TRAIN, dtype=np.float64, lean: bool = False) -> Net:
    net = net_from_text(prototxt, phase, seed=7, dtype=dtype)
    for layer in net.layers:
        if layer.type == "Scale":
            layer.blobs[-1].data[...] = 0.3 * np.arange(5) - 0.7
    if lean:
        net.fuse(lean=True)
    return net


def one_by_one(net: Net) -> Net:
    """The net with a hook that looks at every layer, so that each runs by itself."""
    net.before_forward.append(lambda net, index: None)
    net.before_backward.append(lambda net, index: None)
    return net


def feed(net: Net) -> Net:
    net.set_input("data", DATA)
    net.set_input("label", LABEL)
    net.clear_param_diffs()
    return net


def kernels_of(run) -> set[str]:
    found: set[str] = set()
    with parallel.observed(lambda kernel, seconds: found.add(kernel.__name__)):
        run()
    return found


def assert_same_gradients(found: Net, expected: Net) -> None:
    for one, other in zip(found.learnable_params, expected.learnable_params, strict=True):
        np.testing.assert_allclose(one.diff, other.diff, rtol=1e-9, atol=1e-11, err_msg=one.name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("phase", [pb.TRAIN, pb.TEST])
def test_forward_gives_the_same_bits(dtype, phase):
    fused, plain = feed(build(phase=phase, dtype=dtype)), feed(one_by_one(build(phase=phase, dtype=dtype)))
    kernels = kernels_of(lambda: [fused.forward() for _ in range(2)])
    for _ in range(2):
        plain.forward()
    assert {"apply_line", "clipped_sum"} <= kernels and not {"scale", "relu", "weighted_sum"} & kernels
    for name, blob in plain.blobs.items():
        np.testing.assert_array_equal(fused.blobs[name].data, blob.data, err_msg=name)
    for name, blobs in plain.params.items():
        for index, blob in enumerate(blobs):
            np.testing.assert_array_equal(fused.params[name][index].data, blob.data, err_msg=name)


@pytest.mark.parametrize("prototxt", [RESIDUAL, APART])
def test_backward_gives_the_same_gradients_and_leaves_the_same_diffs(prototxt):
    fused, plain = feed(build(prototxt)), feed(one_by_one(build(prototxt)))
    kernels = kernels_of(fused.forward_backward)
    plain.forward_backward()
    assert {"sums_and_line_gradient", "clipped_sum_gradient"} <= kernels and not {"multiple", "row_products"} & kernels
    assert_same_gradients(fused, plain)
    for name, blob in plain.blobs.items():
        np.testing.assert_array_equal(fused.blobs[name].data, blob.data, err_msg=name)
        np.testing.assert_allclose(fused.blobs[name].diff, blob.diff, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("prototxt", NETS)
def test_a_lean_net_gives_the_same_bits(prototxt):
    lean, plain = build(prototxt, lean=True), build(prototxt)
    for _ in range(3):
        kernels = kernels_of(feed(lean).forward_backward)
        feed(plain).forward_backward()
        assert not {"relu", "scale", "relu_gradient", "multiple"} & kernels
        for one, other in zip(lean.learnable_params, plain.learnable_params, strict=True):
            np.testing.assert_array_equal(one.diff, other.diff)
            np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("prototxt", [ENDS, ENDS_APART, ENDS_IN_PLACE])
def test_gradients_at_the_end_of_a_block_lie_where_those_of_its_tops_do(prototxt, by_layer):
    lean, plain = build(prototxt), build(prototxt)
    buffers.make_lean(lean, [])
    pairs = lean.overwritten
    assert pairs and all(np.shares_memory(one.diff, other.diff) for one, other in pairs)
    if by_layer:
        one_by_one(lean), one_by_one(plain)
    for _ in range(2):
        feed(lean).forward_backward()
        feed(plain).forward_backward()
        for one, other in zip(lean.learnable_params, plain.learnable_params, strict=True):
            np.testing.assert_array_equal(one.diff, other.diff)


@pytest.mark.parametrize("prototxt", NETS)
@pytest.mark.parametrize("lean", [False, True])
def test_one_pass_may_run_as_groups_and_the_other_layer_by_layer(prototxt, lean):
    plain = feed(one_by_one(build(prototxt)))
    plain.forward_backward()
    for hooks in ("before_forward", "before_backward"):
        net = feed(build(prototxt, lean=lean))
        getattr(net, hooks).append(lambda net, index: None)
        net.forward_backward()
        assert_same_gradients(net, plain)


@pytest.mark.parametrize("name", ["c0", "relug", "bn1", "scale1", "relu1", "bn2", "scale2", "sum", "relu2", "bn3"])
@pytest.mark.parametrize("prototxt", NETS)
def test_runs_may_start_and_end_within_a_group(name, prototxt):
    plain = feed(one_by_one(build(prototxt)))
    plain.forward_backward()
    net = feed(build(prototxt, lean=True))
    index = net.layer_index(name)
    last = len(net.layers) - 1
    net.forward_from_to(0, index)
    net.forward_from_to(index + 1, last)
    net.backward_from_to(last, index)
    net.backward_from_to(index - 1, 0)
    assert_same_gradients(net, plain)
    net.clear_param_diffs()
    for layer in (layer for layer in net.layers if layer.type == "BatchNorm"):
        for blob in layer.blobs:
            blob.data[...] = 0
    net.forward_from_to(0, last)
    net.backward_from_to(last, index)
    net.backward_from_to(index - 1, 0)
    assert_same_gradients(net, plain)


@pytest.mark.parametrize("prototxt", [ENDS, ENDS_APART, ENDS_IN_PLACE])
def test_the_end_of_a_residual_block_runs_as_one(prototxt):
    lean = feed(build(prototxt, lean=True))
    kernels = kernels_of(lean.forward_backward)
    assert "join_line" in kernels and not {"clipped_sum", "clipped_sum_gradient"} & kernels


@pytest.mark.parametrize("prototxt", [RESIDUAL, ENDS])
@pytest.mark.parametrize("lean", [False, True])
def test_frozen_layers_and_remembered_statistics(prototxt, lean):
    frozen = prototxt.replace('name: "scale1"', 'name: "scale1" param { lr_mult: 0 } param { lr_mult: 1 }')
    frozen = frozen.replace('name: "bn2"', 'name: "bn2" batch_norm_param { use_global_stats: true }')
    for name in ("c0", "c1"):
        frozen = frozen.replace(f'name: "{name}"', f'name: "{name}" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }}', 1)
    frozen = frozen.replace('name: "cg"', 'name: "cg" param { lr_mult: 0 }', 1)
    fused, plain = build(frozen, lean=lean), one_by_one(build(frozen))
    for net in (fused, plain):
        for blob, value in zip(net.params["bn2"], (0.5, 2, 1), strict=True):
            blob.data[...] = value
        feed(net).forward_backward()
    assert_same_gradients(fused, plain)
    assert not fused.params["scale1"][0].diff.any() and fused.params["scale1"][1].diff.any()


def test_another_shape_reaches_every_layer_of_a_group():
    fused, plain = feed(build()), feed(one_by_one(build()))
    for net in (fused, plain):
        net.forward_backward()
        net.clear_param_diffs()
        net.set_input("data", DATA[:2])
        net.set_input("label", LABEL[:2])
        net.forward_backward()
    assert_same_gradients(fused, plain)
    np.testing.assert_array_equal(fused.blobs["n3"].data, plain.blobs["n3"].data)


def test_nan_passes_as_it_does_layer_by_layer():
    fused, plain = feed(build(dtype=np.float32)), feed(one_by_one(build(dtype=np.float32)))
    for net in (fused, plain):
        net.blobs["data"].data[1, 1, 3, 3] = np.nan
        net.forward_backward()
    for name in ("c1", "sum", "n3"):
        np.testing.assert_array_equal(fused.blobs[name].data, plain.blobs[name].data)
        np.testing.assert_array_equal(np.isnan(fused.blobs[name].diff), np.isnan(plain.blobs[name].diff))


def test_the_bits_do_not_depend_on_threads(monkeypatch):
    results = []
    for threads in (1, 2, 4):
        monkeypatch.setattr(config, "_threads", threads)
        net = feed(build(dtype=np.float32))
        net.forward_backward()
        results.append([net.blobs["n3"].data, *(blob.diff for blob in net.learnable_params)])
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_reference_path_runs_every_layer_by_itself(monkeypatch):
    monkeypatch.setattr(config, "reference_kernels", lambda: True)
    net = feed(build())
    assert {"scale", "relu", "weighted_sum"} <= kernels_of(net.forward_backward)
