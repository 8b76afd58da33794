"""Concats that copy nothing, or no gradients: weights get the gradients that they get in a net that copies."""

import numpy as np
import pytest

from blobnet import buffers, memory
from blobnet.kernels import parallel
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text
from tests.test_fused import one_by_one

FILLED = 'weight_filler { type: "msra" } bias_filler { type: "gaussian" }'
NARROW, WIDE = "num_output: 4 kernel_size: 1", "num_output: 5 kernel_size: 3 pad: 1"


def convolution(name: str, bottom: str, settings: str = NARROW, fields: str = "") -> str:
    return f"""layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {fields}
    convolution_param {{ {settings} {FILLED} }} }}"""


def layer(kind: str, bottom: str, top: str, fields: str = "") -> str:
    return f'layer {{ name: "{kind} {top}" type: "{kind}" bottom: "{bottom}" top: "{top}" {fields} }}'


def clipped(name: str, bottom: str, settings: str = NARROW, fields: str = "") -> str:
    return convolution(name, bottom, settings, fields) + layer("ReLU", name, name)


def net_of(branches: str, bottoms: str, fields: str = "", after: str = "", stem: str = clipped("stem", "data")) -> str:
    named = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    return f"""
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 6 dim: 3 dim: 4 dim: 4 }} }} }}
{stem} {branches}
layer {{ name: "join" type: "Concat" {named} top: "join" {fields} }} {after}
{layer("Pooling", "join", "pool", "pooling_param { pool: AVE global_pooling: true }")}
{convolution("scores", "pool")}
{layer("Reduction", "scores", "loss", "reduction_param { operation: SUMSQ } loss_weight: 1")}
"""


A, B, C = clipped("a", "stem"), convolution("b", "stem", WIDE) + layer("ReLU", "b", "rb"), clipped("c", "stem")
DOUBLED, NEGATED = "power_param { scale: 2 }", "power_param { scale: -1 }"
FIXED = "param { lr_mult: 0 } param { lr_mult: 0 }"
INCEPTION = net_of(
    A + clipped("reduce", "stem") + layer("Power", "stem", "p", DOUBLED) + convolution("b", "reduce", WIDE)
    # the last branch is made first, and something else last
    + layer("ReLU", "b", "rb") + clipped("narrow", "stem") + convolution("d", "narrow", WIDE),
    "d a p rb",
)  # fmt: skip

PROJECTED = layer("Pooling", "stem", "p", "pooling_param { kernel_size: 3 stride: 1 pad: 1 }") + clipped("c", "p")
LONG = A + clipped("reduce", "stem") + convolution("b", "reduce", WIDE) + layer("ReLU", "b", "rb") + PROJECTED

# Nets, with the bottoms whose makers read their gradients in the top.
NETS = {
    "two branches": (net_of(A + B, "a rb"), {"a", "rb"}),
    "branches of several layers": (net_of(LONG, "a rb c"), {"a", "rb", "c"}),
    "a layer that might change shapes": (
        net_of(A + layer("Power", "stem", "p") + clipped("c", "p"), "a c"),
        {"a", "c"},
    ),
    "branches between branches": (INCEPTION, {"a", "rb"}),
    "a nested Concat": (
        net_of(A + B, "j c", after="").replace(
            'layer { name: "join"', layer("Concat", "a", "j", 'bottom: "rb"') + C + ' layer { name: "join"'
        ),
        {"a", "rb", "c"},
    ),
    "the top changes in place": (net_of(A + B, "a rb", after=layer("Power", "join", "join", NEGATED)), {"a", "rb"}),
    "a branch that does not learn": (net_of(clipped("a", "stem", fields=FIXED) + B, "a rb"), {"a", "rb"}),
    "channels by their old name": (net_of(A + C, "a c", "concat_param { concat_dim: 1 }"), {"a", "c"}),
    "read twice": (net_of(A + B + layer("Power", "a", "p"), "a rb p"), {"rb"}),
    "twice a bottom": (net_of(A + B, "a rb a"), {"rb"}),
    "changed in place": (net_of(A + B + layer("Power", "a", "a", DOUBLED), "a rb"), {"rb"}),
    "no ReLU": (net_of(convolution("a", "stem") + B, "a rb"), {"rb"}),
    "a leaky ReLU": (net_of(A + B.replace('top: "rb"', 'top: "rb" relu_param { negative_slope: 0.5 }'), "a rb"), {"a"}),
    "channels counted from the end": (net_of(clipped("a", "stem", NARROW + " axis: -3") + B, "a rb"), {"a", "rb"}),
    "depthwise": (net_of(A + clipped("g", "stem", NARROW + " group: 4"), "a g"), {"a"}),
    "convolutions of rows": (net_of(clipped("a", "stem", NARROW + " axis: 2") + B, "a rb"), {"rb"}),
    "rows": (net_of(A + C, "a c", "concat_param { axis: 2 }"), set()),
    "rows by their old name": (net_of(A + C, "a c", "concat_param { concat_dim: 2 }"), set()),
    "images": (net_of(A + C, "a c", "concat_param { axis: 0 }"), set()),
    "a gradient that ends": (net_of(A + B, "a rb", "propagate_down: true propagate_down: false"), {"a", "rb"}),
    "nothing learns before": (
        net_of(clipped("a", "stem", fields=FIXED) + B, "a rb", stem=clipped("stem", "data", fields=FIXED)),
        {"a", "rb"},
    ),
}

# The bottoms that are written there, too.
PLACED = {
    "a nested Concat": {"a", "rb"},
    **{
        name: NETS[name][1]
        for name in (
            "two branches",
            "branches of several layers",
            "a branch that does not learn",
            "channels by their old name",
            "channels counted from the end",
            "a gradient that ends",
            "nothing learns before",
        )
    },
}


def build(name: str) -> Net:
    return net_from_text(NETS[name][0], pb.TRAIN, seed=7)


def lean(name: str) -> Net:
    net = build(name)
    buffers.make_lean(net, [])
    return net


def feed(net: Net, images: int, seed: int) -> Net:
    net.set_input("data", np.random.default_rng(seed).normal(0.5, 1, (images, 3, 4, 4)))
    return net


def assert_same_gradients(found: Net, expected: Net) -> None:
    for one, other in zip(found.learnable_params, expected.learnable_params, strict=True):
        np.testing.assert_array_equal(one.gradient, other.gradient, err_msg=one.name)


@pytest.mark.parametrize("name", NETS)
def test_which_bottoms_get_no_copies(name):
    assert {blob.name for bottoms in lean(name).joined.values() for blob in bottoms} == NETS[name][1]
    assert lean(name).placed == PLACED.get(name, set())
    assert not build(name).joined and not build(name).placed


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_the_same_bits_and_add_up(name):
    nets = lean(name), build(name)
    for seed, images in enumerate([6, 6, 6, 6, 2, 2, 2, 8]):
        for net in nets:
            if seed % 2 == 0:
                net.clear_param_diffs()
            feed(net, images, seed).forward_backward()
        assert_same_gradients(*nets)


@pytest.mark.parametrize("name", NETS)
def test_a_hook_sees_the_diffs_of_the_bottoms(name):
    joined, plain = lean(name), build(name)
    seen: dict[Net, list[np.ndarray]] = {joined: [], plain: []}

    def look(net: Net, index: int) -> None:
        if net.layers[index].type == "Concat":
            pairs = zip(net.bottoms[index], net.bottom_need_backward[index], strict=True)
            seen[net] += [blob.diff.copy() for blob, wanted in pairs if wanted]

    for net in (joined, plain):
        net.after_backward.append(look)
        feed(one_by_one(net), 6, 1).forward_backward()
    assert_same_gradients(joined, plain)
    for diff, expected in zip(seen[joined], seen[plain], strict=True):
        np.testing.assert_array_equal(diff, expected)


@pytest.mark.parametrize("place", range(1, len(build("branches between branches").layers)))
def test_passes_in_two_parts(place):
    joined, plain = lean("branches between branches"), feed(build("branches between branches"), 6, 1)
    plain.forward_backward()
    last = len(plain.layers) - 1
    for _ in range(3):
        feed(joined, 6, 1)
        joined.clear_param_diffs()
        joined.forward_from_to(0, place - 1)
        joined.forward_from_to(place, last)
        joined.backward_from_to(last, place)
        joined.backward_from_to(place - 1, 0)
        assert_same_gradients(joined, plain)
        joined.clear_param_diffs()
        joined.forward_backward()
        assert_same_gradients(joined, plain)


def copies_of(run, *arguments) -> bool:
    found: set[str] = set()
    with parallel.observed(lambda kernel, seconds: found.add(kernel.__name__)):
        run(*arguments)
    return "copy_pieces" in found


@pytest.mark.parametrize(
    "name, forward, backward",
    [
        ("two branches", False, False),
        ("branches of several layers", False, False),
        ("the top changes in place", True, False),
        ("a layer that might change shapes", True, False),
        ("read twice", True, True),
        ("rows", True, True),
    ],
)
def test_copies_are_made_where_they_must_be(name, forward, backward):
    net = feed(lean(name), 6, 1)
    last = len(net.layers) - 1
    assert copies_of(net.forward_from_to, 0, last) == forward
    assert copies_of(net.backward_from_to, last, 0) == backward


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("hooks", ["before_forward", "before_backward"])
def test_one_pass_may_run_layer_by_layer(name, hooks):
    joined, plain = lean(name), feed(build(name), 6, 1)
    plain.forward_backward()
    for seed in (1, 2):
        feed(joined, 6, seed).forward_backward()
    getattr(joined, hooks).append(lambda net, index: None)
    joined.clear_param_diffs()
    feed(joined, 6, 1).forward_backward()
    assert_same_gradients(joined, plain)


@pytest.mark.parametrize("name", NETS)
def test_a_frozen_net_predicts_the_same(name):
    frozen, plain = build(name), build(name)
    frozen.freeze()
    for seed, images in enumerate([6, 6, 6, 1, 1, 1, 8]):
        found, expected = (feed(net, images, seed).forward(blobs=["join"])["join"] for net in (frozen, plain))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())
    frozen.before_forward.append(lambda net, index: None)
    np.testing.assert_allclose(feed(frozen, 6, 0).forward()["loss"], feed(plain, 6, 0).forward()["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    "name, placed",
    [("no ReLU", {"a", "rb"}), ("read twice", set()), ("the top changes in place", set()), ("depthwise", set())],
)
def test_a_frozen_net_shows_no_bottoms_that_it_does_not_make(name, placed):
    net = build(name)
    net.freeze()
    assert net.placed == placed and placed.isdisjoint(net.blobs)


@pytest.mark.parametrize("name", ["two branches", "a nested Concat", "the top changes in place"])
def test_what_is_not_made_takes_no_memory(name):
    told = memory.of_training(build(name))
    net = feed(lean(name), 6, 1)
    net.forward_backward()
    made = {id(array): array.nbytes for blob in net.blobs.values() if (array := blob.memory[0]) is not None}
    assert told.data == sum(made.values())
    assert all(blob.memory[0] is None for name, blob in net.blobs.items() if name in net.placed | net.hidden)
