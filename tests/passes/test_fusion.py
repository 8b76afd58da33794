"""Which neighbours the plan of fusion takes together."""

import pytest

from blobnet.passes.fusion import plan_fusion, plan_joins
from blobnet.passes.splits import insert_splits
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def layers(*lines):
    """Layers written as "Type: bottoms -> tops | more fields"; the first is an Input with tops x and z."""
    param = text.parse('layer { name: "in" type: "Input" top: "x" top: "z" }', pb.NetParameter())
    for number, line in enumerate(lines):
        head, _, fields = line.partition("|")
        kind, _, blobs = head.partition(":")
        bottoms, _, tops = blobs.partition("->")
        named = [f'bottom: "{name}"' for name in bottoms.split()] + [f'top: "{name}"' for name in tops.split()]
        layer = f'layer {{ name: "l{number}" type: "{kind}" {" ".join(named)} {fields} }}'
        param.layer.extend(text.parse(layer, pb.NetParameter()).layer)
    return insert_splits(param).layer


BATCH_NORM, SCALE, RELU = "BatchNorm: x -> y", "Scale: y -> y", "ReLU: y -> y"


@pytest.mark.parametrize(
    "lines, found",
    [
        ([BATCH_NORM, SCALE, RELU], [range(1, 4)]),
        (["BatchNorm: x -> x", "Scale: x -> x", "ReLU: x -> x"], [range(1, 4)]),
        ([BATCH_NORM, SCALE], [range(1, 3)]),
        ([BATCH_NORM, RELU], [range(1, 3)]),
        ([BATCH_NORM, SCALE, RELU, RELU], [range(1, 4)]),
        (["Eltwise: x z -> y", RELU], [range(1, 3)]),
        (["Convolution: x -> y", RELU], [range(1, 3)]),
        (["Convolution: x -> y", BATCH_NORM.replace("x", "y"), RELU], [range(2, 4)]),
        (["Convolution: x z -> y w", RELU], []),
        (["Eltwise: x z -> y | eltwise_param { coeff: 1 coeff: -1 }", RELU], [range(1, 3)]),
        (["ReLU: x -> x", BATCH_NORM, SCALE, "Eltwise: y z -> s", "ReLU: s -> s"], [range(2, 4), range(4, 6)]),
        (
            [BATCH_NORM, "Scale: y -> s", "ReLU: s -> r", "Eltwise: r z -> e", "ReLU: e -> f"],
            [range(1, 4), range(4, 6)],
        ),
        ([BATCH_NORM], []),
        ([RELU.replace("y", "x"), SCALE.replace("y", "x")], []),
        # settings that groups do not know
        ([BATCH_NORM, "Scale: y -> y | scale_param { axis: 2 }", RELU], []),
        ([BATCH_NORM, "Scale: y -> y | scale_param { num_axes: 2 }", RELU], []),
        ([BATCH_NORM, "Scale: y z -> y", RELU], []),
        ([BATCH_NORM, SCALE, "ReLU: y -> y | relu_param { negative_slope: 0.1 }"], [range(1, 3)]),
        (["Eltwise: x z -> y | eltwise_param { operation: MAX }", RELU], []),
        (["Eltwise: x z z -> y", RELU], []),
        # a gradient that enters or ends within
        ([BATCH_NORM, "ReLU: y -> y | propagate_down: false"], []),
        ([BATCH_NORM, "ReLU: y -> y | loss_weight: 2"], []),
        # somebody else reads what lies between
        ([BATCH_NORM, "Scale: y -> s", "Power: y -> p"], []),
        ([BATCH_NORM, "Power: x -> x", SCALE], []),
    ],
)
def test_groups(lines, found):
    assert plan_fusion(layers(*lines)) == found


END = [BATCH_NORM, SCALE, "Eltwise: z y -> s", "ReLU: s -> s", "Power: s -> p", "Power: s -> q"]


@pytest.mark.parametrize(
    "lines, found",
    [
        (END, [range(1, 6)]),
        (END[:-1], [range(1, 3), range(3, 5)]),
        ([*END, "Power: s -> r"], [range(1, 3), range(3, 5)]),
        ([*END[:2], END[2] + " | eltwise_param { coeff: 1 coeff: 2 }", *END[3:]], [range(1, 3), range(3, 5)]),
    ],
)
def test_groups_of_a_net_that_is_lean(lines, found):
    assert plan_fusion(layers(*lines), lean=True) == found
    assert plan_fusion(layers(*lines)) == [range(1, 3), range(3, 5)]


@pytest.mark.parametrize(
    "lines, found",
    [
        (["Convolution: x -> y"], [range(1, 2)]),
        (["Convolution: x -> y", "BatchNorm: y -> y", SCALE, RELU], [range(1, 5)]),
        (["Convolution: x -> y", "BatchNorm: y -> n", "Scale: n -> s"], [range(1, 4)]),
        (["Convolution: x -> y", SCALE, "Eltwise: z y -> s", "ReLU: s -> s"], [range(1, 5)]),
        (["Convolution: x -> y", "Eltwise: y z -> s | eltwise_param { operation: PROD }"], [range(1, 2)]),
        (["Convolution: x -> y", RELU, "BatchNorm: y -> n", "Scale: n -> n"], [range(1, 3), range(3, 5)]),
        (["Convolution: x -> y", "Eltwise: x z -> s"], [range(2, 3)]),
        (["Convolution: x z -> y w", RELU], []),
        (["Power: x -> y", "Eltwise: y z -> s", "ReLU: s -> s"], [range(2, 4)]),
    ],
)
def test_groups_of_a_net_that_is_frozen(lines, found):
    assert plan_fusion(layers(*lines), frozen=True) == found


A, B = ["Convolution: x -> a", "ReLU: a -> a"], ["Convolution: z -> b", "ReLU: b -> r"]


@pytest.mark.parametrize(
    "lines, found",
    [
        ([*A, *B, "Concat: a r -> y"], [(5, [range(1, 3), range(3, 5)], True)]),
        ([*A, *B, "Concat: a r -> y", "Power: y -> y"], [(5, [range(1, 3), range(3, 5)], False)]),
        ([*B, "Power: x -> p", "Concat: p r -> y"], [(4, [None, range(1, 3)], True)]),
        ([*A, "Power: a -> a", "Concat: a -> y"], []),
        ([*A, "Power: a -> p", "Concat: a p -> y"], []),
        ([*A, "Concat: a a -> y"], []),
        ([*A[:1], "Concat: a -> y", "ReLU: y -> y"], []),
        ([*A, "Concat: a -> y | concat_param { axis: 0 }"], []),
        ([*A, "Concat: a -> y | concat_param { concat_dim: 2 }"], []),
        ([*A, "Concat: a -> y | concat_param { concat_dim: 1 }"], [(3, [range(1, 3)], True)]),
    ],
)
def test_groups_that_make_bottoms_of_a_concat(lines, found):
    param = layers(*lines)
    assert plan_joins(param, plan_fusion(param)) == found
