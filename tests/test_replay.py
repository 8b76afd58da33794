"""Steps of a lean net that run again without Python do what the layers do, whatever weights and images hold by then."""

import contextlib
import re

import numpy as np
import pytest

from blobnet import config
from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.kernels import activation, eltwise, parallel
from blobnet.kernels.finite import all_finite
from blobnet.layers import registry
from blobnet.layers.common import InnerProduct
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.replay import Replay
from blobnet.testing import net_from_text

FILLED = 'weight_filler { type: "msra" }'


def after_input(layers: str, shape: tuple[int, ...]) -> str:
    """A net of an input, a ReLU, whose gradient shows, layers from "clipped" to "y", and a loss."""
    extents = "".join(f"dim: {extent} " for extent in shape)
    return f"""
force_backward: true
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {extents} }} }} }}
layer {{ name: "clipped" type: "ReLU" bottom: "x" top: "clipped" }}
{layers}
layer {{ name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 reduction_param {{ operation: ASUM }} }}
"""


def convolution(settings: str, relu: bool = False) -> str:
    clip = 'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }' if relu else ""
    return f"""layer {{ name: "layer" type: "Convolution" bottom: "clipped" top: "y"
        convolution_param {{ {settings} {FILLED} bias_filler {{ type: "gaussian" }} }} }} {clip}"""


def single(kind: str, settings: str = "") -> str:
    return f'layer {{ name: "layer" type: "{kind}" bottom: "clipped" top: "y" {settings} }}'


BRANCHES = """
layer { name: "a" type: "Convolution" bottom: "clipped" top: "a" convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "b" type: "Convolution" bottom: "clipped" top: "b" convolution_param { num_output: 3 kernel_size: 1
  weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" eltwise_param { coeff: 1 coeff: -2 } }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "layer" type: "Concat" bottom: "sum" bottom: "clipped" top: "y" }
"""

JOINED = """
layer { name: "a" type: "Convolution" bottom: "clipped" top: "a" convolution_param { num_output: 5 kernel_size: 1
  weight_filler { type: "msra" } } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "clipped" top: "b" convolution_param { num_output: 3 kernel_size: 1
  weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "b" top: "b" }
layer { name: "layer" type: "Concat" bottom: "clipped" bottom: "b" bottom: "a" top: "y" }
"""

NORMALIZED = """
layer { name: "layer" type: "Convolution" bottom: "clipped" top: "c" convolution_param { num_output: 16 kernel_size: 3
  pad: 1 weight_filler { type: "msra" } } }
layer { name: "norm" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "after" type: "Convolution" bottom: "c" top: "y" convolution_param { num_output: 4 kernel_size: 3
  weight_filler { type: "msra" } } }
"""

RESIDUAL = """
layer { name: "layer" type: "Convolution" bottom: "clipped" top: "c" convolution_param { num_output: 16 kernel_size: 3
  pad: 1 weight_filler { type: "msra" } } }
layer { name: "norm" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "sum" type: "Eltwise" bottom: "clipped" bottom: "c" top: "sum" }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "a" type: "Convolution" bottom: "sum" top: "a" convolution_param { num_output: 16 kernel_size: 1
  weight_filler { type: "msra" } } }
layer { name: "norm2" type: "BatchNorm" bottom: "a" top: "normal" }
layer { name: "relu2" type: "ReLU" bottom: "normal" top: "normal" }
layer { name: "last" type: "Eltwise" bottom: "normal" bottom: "sum" top: "y" }
"""

TABLE = """
layer { name: "layer" type: "InnerProduct" bottom: "clipped" top: "c" inner_product_param { num_output: 7
  weight_filler { type: "msra" } } }
layer { name: "norm of a table" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale of a table" type: "Scale" bottom: "c" top: "y" scale_param { bias_term: true } }
"""

SEQUENCES = """
layer { name: "cont" type: "Reduction" bottom: "clipped" top: "cont" reduction_param { axis: 2 operation: MEAN } }
layer { name: "layer" type: "LSTM" bottom: "clipped" bottom: "cont" top: "y" recurrent_param { num_output: 20
  weight_filler { type: "msra" } bias_filler { type: "gaussian" } } }
"""


def classified(labels: str, settings: str = "") -> str:
    """A loss of labels, an input; "y" are the probabilities."""
    return f"""
layer {{ name: "labels" type: "Input" top: "labels" input_param {{ shape {{ {labels} }} }} }}
layer {{ name: "layer" type: "SoftmaxWithLoss" bottom: "clipped" bottom: "labels" top: "loss of labels" top: "y"
  loss_weight: 2 loss_weight: 0 {settings} }}"""


# Layers that do more than a recording repeats.
NEVER_REPEATED = ("last", "norm of a table", "scale of a table", "cont")

CASES = {
    "groups by Winograd's way": (
        convolution("num_output: 64 kernel_size: 3 pad: 1 group: 2", relu=True),
        (8, 64, 12, 12),
    ),
    "winograd": (convolution("num_output: 16 kernel_size: 3 pad: 1"), (4, 16, 12, 12)),
    "winograd, clipped": (convolution("num_output: 20 kernel_size: 5", relu=True), (16, 16, 12, 12)),
    "winograd of many channels": (convolution("num_output: 256 kernel_size: 3 pad: 1"), (1, 256, 16, 16)),
    "one pixel": (convolution("num_output: 8 kernel_size: 1"), (3, 16, 16, 16)),
    "one pixel of many channels": (convolution("num_output: 8 kernel_size: 1", relu=True), (3, 160, 5, 5)),
    "one pixel, stride 2": (convolution("num_output: 8 kernel_size: 1 stride: 2"), (3, 16, 9, 9)),
    "few channels": (convolution("num_output: 32 kernel_size: 5 pad: 2"), (32, 3, 32, 32)),
    "direct": (convolution("num_output: 6 kernel_size: 3 pad: 1"), (2, 5, 7, 7)),
    "grouped": (convolution("num_output: 6 kernel_size: 3 group: 2", relu=True), (2, 4, 7, 7)),
    "stride 2": (convolution("num_output: 16 kernel_size: 3 pad: 1 stride: 2"), (2, 16, 11, 11)),
    "stride beyond the kernel": (convolution("num_output: 3 kernel_size: 2 stride: 3"), (2, 70, 11, 11)),
    "large, stride beyond the kernel": (convolution("num_output: 3 kernel_size: 2 stride: 3"), (1, 4, 600, 600)),
    "dilated": (convolution("num_output: 6 kernel_size: 3 dilation: 2"), (2, 5, 9, 9)),
    "depthwise": (convolution("num_output: 8 kernel_size: 3 pad: 1 group: 8", relu=True), (2, 8, 14, 14)),
    "depthwise, stride 2": (convolution("num_output: 8 kernel_size: 3 pad: 1 group: 8 stride: 2"), (2, 8, 28, 28)),
    "depthwise 5 x 5": (convolution("num_output: 8 kernel_size: 5 pad: 2 group: 8"), (2, 8, 14, 14)),
    "fully connected": (single("InnerProduct", f"inner_product_param {{ num_output: 7 {FILLED} }}"), (5, 12)),
    "transposed": (
        single("InnerProduct", f"inner_product_param {{ num_output: 7 transpose: true {FILLED} }}"),
        (5, 12),
    ),
    "few of many": (single("InnerProduct", f"inner_product_param {{ num_output: 900 {FILLED} }}"), (8, 600)),
    "one image": (single("InnerProduct", f"inner_product_param {{ num_output: 7 {FILLED} }}"), (1, 12)),
    "max": (single("Pooling", "pooling_param { kernel_size: 3 stride: 2 }"), (2, 3, 9, 9)),
    "average": (single("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"), (2, 3, 9, 9)),
    "global": (single("Pooling", "pooling_param { pool: AVE global_pooling: true }"), (2, 3, 9, 9)),
    "softmax": (single("Softmax"), (3, 5, 4)),
    "branches": (BRANCHES, (2, 4, 6, 6)),
    "joined": (JOINED, (2, 4, 6, 6)),
    "normalized": (NORMALIZED, (4, 16, 12, 12)),
    "residual": (RESIDUAL, (4, 16, 12, 12)),
    "normalized table": (TABLE, (5, 12)),
    "sequences": (SEQUENCES, (5, 9, 12)),
    "loss": (classified("dim: 30"), (30, 10)),
    "loss of pixels, some ignored": (classified("dim: [3, 4]", "loss_param { ignore_label: 1 }"), (3, 5, 4)),
}


class Twins:
    """Two equal lean nets that learn: steps of the first are repeated, those of the second are watched, so never."""

    def __init__(self, case: str):
        layers, self.shape = CASES[case]
        self.nets = [net_from_text(after_input(layers, self.shape), pb.TRAIN, seed=3) for _ in range(2)]
        for net in self.nets:
            net.fuse(lean=True)
        self._random = np.random.default_rng(4)

    def iterate(self, images: int | None = None, value: float = 1.0) -> None:
        """An iteration of both on new images, of which one number is multiplied; all they leave must be the same."""
        x = self._random.standard_normal((images or self.shape[0], *self.shape[1:])).astype(np.float32)
        x.reshape(-1)[7] = abs(x.reshape(-1)[7]) * value
        labels = self._random.integers(0, x.shape[1], (len(x), *x.shape[2:]))
        pairs = zip(self.nets, (False, True), strict=True)
        first, second = (self._left(net, [x, labels], watched) for net, watched in pairs)
        for name, array in first.items():
            np.testing.assert_array_equal(array, second[name], err_msg=name)

    def _left(self, net: Net, inputs: list[np.ndarray], watched: bool) -> dict[str, np.ndarray]:
        for name, array in zip(net.inputs, inputs, strict=False):
            net.set_input(name, array)
        net.clear_param_diffs()
        with parallel.observed(lambda kernel, seconds: None) if watched else contextlib.nullcontext():
            net.blobs["clipped"].diff.fill(np.nan)
            loss = net.forward_backward()
        left = {
            "weighted": loss,
            "loss": net.blobs["loss"].data.copy(),
            "y": net.blobs["y"].data.copy(),
            "dx": net.blobs["x"].diff.copy(),
        }
        for layer in net.layers:
            for index, blob in enumerate(layer.blobs):
                left[f"{layer.name}[{index}]"] = blob.gradient.copy()
                blob.data[...] -= np.float32(1e-3) * np.sign(np.nan_to_num(blob.gradient))
        return left


@pytest.fixture(params=CASES)
def case(request) -> str:
    return request.param


def test_iterations_are_those_of_the_layers(case):
    twins = Twins(case)
    for _ in range(6):
        twins.iterate()


def test_the_layers_are_left_out(case, monkeypatch):
    twins = Twins(case)
    for _ in range(5):
        twins.iterate()
    net = twins.nets[0]

    def refuse(*args):
        raise AssertionError("the layer runs")

    for layer in net.layers[:-1]:
        for method in ("forward", "backward", "convolve", "differentiate", "take_statistics", "apply"):
            if layer.name not in NEVER_REPEATED:
                monkeypatch.setattr(layer, method, refuse, raising=False)
    net.clear_param_diffs()
    net.forward_backward()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_goes_its_own_way(case, value):
    twins = Twins(case)
    for number in (1, 1, 1, 1, value, 1, value, 1, 1, 1):
        twins.iterate(value=number)


def test_other_shapes_and_back(case):
    twins = Twins(case)
    images = twins.shape[0]
    for number in (images, images, images, images + 1, images, images, images + 1, images + 1, images + 1, images):
        twins.iterate(number)


def test_gradients_that_add_up(case):
    """Without clearing, as in the passes of iter_size."""
    layers, shape = CASES[case]
    net = net_from_text(after_input(layers, shape), pb.TRAIN, seed=3)
    net.fuse(lean=True)
    net.set_input("x", np.random.default_rng(4).standard_normal(shape))
    for _ in range(4):
        net.clear_param_diffs()
        net.forward_backward()
    once = [blob.gradient.copy() for blob in net.learnable_params]
    net.forward_backward()
    for blob, gradient in zip(net.learnable_params, once, strict=True):
        np.testing.assert_allclose(blob.gradient, 2 * gradient, rtol=1e-5, atol=1e-5 * abs(gradient).max(initial=0))


def test_other_threads(case):
    twins, threads = Twins(case), config.threads()
    try:
        for count in (1, 1, 1, 2, 2, 2, 3, 1):
            config.set_threads(count)
            twins.iterate()
    finally:
        config.set_threads(threads)


def test_what_is_to_learn_may_change(case):
    twins = Twins(case)
    for learns in (True, True, True, True, False, False, False, True):
        for net in twins.nets:
            for layer in net.layers:
                layer.param_propagate_down[:] = [learns] * len(layer.blobs)
        twins.iterate()


def test_hooks_see_every_layer(case):
    twins = Twins(case)
    for _ in range(5):
        twins.iterate()
    seen: list[tuple[Net, int]] = []
    for net in twins.nets:
        net.before_forward.append(lambda net, index: seen.append((net, index)))
        net.before_backward.append(lambda net, index: seen.append((net, index)))
    twins.iterate()
    net = twins.nets[0]
    everything = range(len(net.layers))
    assert [index for which, index in seen if which is net] == [*everything, *reversed(everything)]
    for net in twins.nets:
        net.before_forward.clear()
        net.before_backward.clear()
    for _ in range(4):
        twins.iterate()


def test_a_loss_tells_of_a_wrong_label_and_goes_on():
    net = net_from_text(
        'layer { name: "x" type: "Input" top: "x" top: "t" input_param { shape { dim: [2, 3] } shape { dim: 2 } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" top: "loss" }'
    )
    net.fuse(lean=True)
    for labels in ([0, 1], [1, 2], [2, 0]):
        net.set_input("t", labels)
        assert net.forward_from_to(0, 1) == pytest.approx(np.log(3), rel=1e-6)
    net.set_input("t", [0, 3])
    with pytest.raises(BlobnetError, match=r'layer "loss" .*the label 3 at \[1\] of blob "t" .* is out of range'):
        net.forward_from_to(0, 1)
    net.set_input("t", [0, 2])
    assert net.forward_from_to(0, 1) == pytest.approx(np.log(3), rel=1e-6)


def test_every_steady_layer_has_a_case():
    steady = {kind for kind in registry.layer_types() if registry.layer_class(pb.LayerParameter(type=kind)).steady}
    assert steady - {"Input", "Split"} <= set(re.findall(r'type: "(\w+)"', str(CASES)))


def test_a_layer_of_ones_own_runs_each_time():
    class Counting(InnerProduct):
        passes = 0

        def forward(self, bottom, top):
            super().forward(bottom, top)
            Counting.passes += 1

    registry.register("Counting")(Counting)
    try:
        settings = f"inner_product_param {{ num_output: 7 {FILLED} }}"
        net = net_from_text(after_input(single("Counting", settings), (5, 12)), pb.TRAIN)
        net.fuse(lean=True)
        for _ in range(5):
            net.forward_backward()
    finally:
        del registry._classes["Counting"]
    assert Counting.passes == 5


@pytest.mark.parametrize(("moves", "not_repeated"), [(False, [1]), (True, [1, 2])])
def test_a_step_that_does_more_runs_each_time(moves, not_repeated):
    """So does what follows it, if it moves blobs."""
    first, second = Blob((4,)), Blob((4,))
    ran: list[int] = []

    def step(number: int) -> None:
        ran.append(number)
        parallel.parallel_for(activation.relu, 4, first.data, first.data)
        if number == 1:
            parallel.unrepeatable()
            if moves:
                first.swap_data(second)

    replay = Replay([first, second], [()] * 3)
    for _ in range(6):
        replay.run(step, [(0,), (1,), (2,)])
    ran.clear()
    replay.run(step, [(0,), (1,), (2,)])
    assert ran == not_repeated


def test_from_a_step_whose_values_ask_for_more_all_run_as_before():
    values, count = Blob((4,)), np.zeros(1)
    ran: list[int] = []

    def look(number: int) -> None:
        ran.append(number)
        if number == 1:
            all_finite(values.data)
        parallel.repeated(np.add, count, 1, out=count)

    replay = Replay([values], [()] * 3)
    every, none = [0, 1, 2], []
    for value, passes in ((0, [every, every, none, none]), (np.inf, [[1, 2], every, every]), (0, [every, none])):
        values.data[2] = value
        for expected in passes:
            ran.clear()
            replay.run(look, [(0,), (1,), (2,)])
            assert ran == expected
    assert count == 3 * 9


def test_a_step_that_would_add_twice_is_not_repeated():
    total, values = Blob((1,)), Blob((4,))
    assert not total.gradient.any() and not values.data.any()  # they have memory
    ran: list[bool] = []

    def add_and_look() -> None:
        gradient, beta = total.gradient_sum()
        ran.append(bool(beta))
        parallel.parallel_for(eltwise.accumulate, 1, np.ones(1), beta, gradient)
        all_finite(values.data)

    replay = Replay([total, values], [[total]])
    for value in (0, 0, 0, 0, np.nan):
        values.data[1] = value
        total.clear_diff()
        for passes in range(1, 4):
            replay.run(add_and_look)
            assert total.gradient_sum()[0] == passes
    assert ran.count(False) == 3  # twice until it is recorded, and where values are not finite


def test_inner_blobs_may_move():
    twins = Twins("sequences")
    for _ in range(5):
        twins.iterate()
    for net in twins.nets:
        for blob in net.layers[-2].inner_blobs:
            shape = blob.shape
            blob.reshape(10 * shape[0], shape[1])
            blob.reshape(*shape)
            blob.data[...] = 1
    for _ in range(3):
        twins.iterate()
