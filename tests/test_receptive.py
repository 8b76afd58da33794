"""Receptive fields against the cells that reach an output, followed back one by one."""

import numpy as np
import pytest

from blobnet import receptive, summary, zoo
from blobnet.testing import net_from_text

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 40 dim: 40 } } }'


def net_of(*layers: str):
    return net_from_text(INPUT + "".join(layers))


def layer(type_name: str, top: str, bottom: str, fields: str = "") -> str:
    bottoms = "".join(f'bottom: "{name}" ' for name in bottom.split())
    return f'layer {{ name: "{top}" type: "{type_name}" {bottoms} top: "{top}" {fields} }}'


def chain(windows):
    """A net of convolutions, and for each output cell the input cells that reach it (padding has negative ones)."""
    layers, bottom = [], "x"
    for place, (kernel, stride, pad, dilation) in enumerate(windows):
        fields = f"num_output: 2 kernel_size: {kernel} stride: {stride} pad: {pad} dilation: {dilation}"
        layers.append(layer("Convolution", f"y{place}", bottom, f"convolution_param {{ {fields} }}"))
        bottom = f"y{place}"

    def cells(index: int) -> set[int]:
        seen = {index}
        for kernel, stride, pad, dilation in reversed(windows):
            seen = {cell * stride - pad + tap * dilation for cell in seen for tap in range(kernel)}
        return seen

    return net_of(*layers), bottom, cells


@pytest.mark.parametrize("seed", range(8))
def test_chains_of_windows(seed):
    generator = np.random.default_rng(seed)
    windows = [tuple(map(int, generator.integers((1, 1, 0, 1), (4, 3, 3, 3)))) for _ in range(4)]
    net, top, cells = chain(windows)
    axis = receptive.fields(net)[top][0]
    for index in (0, 1, 5):
        first = axis.offset + index * axis.stride
        assert (first, first + axis.size - 1) == (min(cells(index)), max(cells(index)))


def test_recurrence():
    """R_n = R_(n-1) + (K_n - 1) prod S_i."""
    net, _, _ = chain([(3, 2, 0, 1), (5, 2, 0, 1), (3, 1, 0, 1)])
    fields = receptive.fields(net)
    assert [fields[name][0].size for name in ("y0", "y1", "y2")] == [3, 3 + 4 * 2, 3 + 4 * 2 + 2 * 4]


@pytest.mark.parametrize(
    ("model", "blob", "size", "stride", "pad"),
    [("alexnet", "pool5", 195, 32, 64), ("vgg16", "pool5", 212, 32, 90)],
)
def test_published_fields(model, blob, size, stride, pad):
    """Araujo, Norris and Sim 2019, the table of classification nets."""
    rows = summary.summarize(zoo.folder(model) / "deploy.prototxt").rows
    row = next(row for row in rows if row.name == blob)
    assert row.field == (receptive.Axis(size, stride, -pad),) * 2


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(4, 2, 1), (3, 2, 1), (2, 2, 0), (5, 3, 2), (64, 32, 16)])
def test_deconvolution_sees_the_inputs_that_spread_over_its_cell(kernel, stride, pad):
    fields = f"num_output: 2 kernel_size: {kernel} stride: {stride} pad: {pad}"
    net = net_of(layer("Deconvolution", "y", "x", f"convolution_param {{ {fields} }}"))
    axis = receptive.fields(net)["y"][0]
    seen = {
        index: {cell for cell in range(-50, 90) if 0 <= index + pad - cell * stride < kernel} for index in range(stride)
    }
    assert axis.size == max(map(len, seen.values()))
    assert axis.offset == min(seen[0])
    assert axis.stride * stride == 1


def test_branches_see_what_either_sees():
    small = layer("Convolution", "a", "x", "convolution_param { num_output: 2 kernel_size: 3 pad: 1 }")
    large = layer("Convolution", "b", "x", "convolution_param { num_output: 2 kernel_size: 7 pad: 3 }")
    net = net_of(small, large, layer("Eltwise", "y", "a b"))
    assert receptive.fields(net)["y"] == (receptive.Axis(7, 1, -3),) * 2


@pytest.mark.parametrize(
    "last",
    [
        layer("Pooling", "y", "a", "pooling_param { pool: AVE global_pooling: true }"),
        layer("InnerProduct", "y", "a", "inner_product_param { num_output: 2 }"),
        layer("Flatten", "y", "a"),
    ],
)
def test_layers_that_look_at_whole_images(last):
    half = layer("Convolution", "a", "x", "convolution_param { num_output: 2 kernel_size: 4 stride: 2 }")
    axis = receptive.fields(net_of(half, last))["y"][0]
    assert (axis.size, axis.offset) == (40, 0)


def test_crop_moves_the_field():
    half = layer("Pooling", "a", "x", "pooling_param { kernel_size: 2 stride: 2 }")
    part = layer("Pooling", "b", "a", "pooling_param { kernel_size: 2 stride: 2 }")
    net = net_of(half, part, layer("Crop", "y", "a b", "crop_param { axis: 2 offset: 3 offset: 5 }"))
    assert [axis.offset for axis in receptive.fields(net)["y"]] == [6, 10]


def test_local_response_normalisation_looks_around_within_a_channel_only():
    for region, size in (("WITHIN_CHANNEL", 5), ("ACROSS_CHANNELS", 1)):
        net = net_of(layer("LRN", "y", "x", f"lrn_param {{ local_size: 5 norm_region: {region} }}"))
        assert receptive.fields(net)["y"][0].size == size


def test_what_comes_from_no_image_has_no_field():
    labels = 'layer { name: "l" type: "Input" top: "l" input_param { shape { dim: 1 } } }'
    fields = receptive.fields(net_of(labels, layer("Split", "m", "l")))
    assert "l" not in fields and "m" not in fields
