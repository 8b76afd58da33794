"""The work that layers report: 2 for each multiplication of a weight."""

import pytest

from blobnet import testing

INPUT = 'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {} }} }} }}'
CONT = 'layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 7 dim: 2 } } }'


def dims(*shape):
    return INPUT.format(" ".join(f"dim: {extent}" for extent in shape))


@pytest.mark.parametrize(
    "inputs, layer, flops",
    [
        (
            dims(2, 4, 9, 8),
            'type: "Convolution" convolution_param { num_output: 6 group: 2 kernel_size: 3 stride: 2 }',
            2 * 2 * 6 * (4 * 3) * 2 * 9,
        ),
        (
            dims(2, 4, 4, 3),
            'type: "Deconvolution" convolution_param { num_output: 6 kernel_size: 2 stride: 2 }',
            2 * 2 * (4 * 3) * 4 * 6 * 4,
        ),
        (dims(5, 3, 2), 'type: "InnerProduct" inner_product_param { num_output: 4 }', 2 * 5 * 6 * 4),
        (
            dims(7, 2, 5) + CONT,
            'type: "LSTM" bottom: "cont" recurrent_param { num_output: 3 }',
            2 * 7 * 2 * (4 * 3) * (5 + 3),
        ),
        (dims(2, 4), 'type: "ReLU"', 0),
    ],
)
def test_flops(inputs, layer, flops):
    net = testing.net_from_text(f'{inputs} layer {{ name: "layer" bottom: "x" top: "y" {layer} }}')
    assert net.layers[-1].flops(net.bottoms[-1], net.tops[-1]) == flops
