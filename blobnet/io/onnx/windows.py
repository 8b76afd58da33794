"""Rules of layers with sliding windows: Convolution, Deconvolution, Pooling, SPP, LRN."""

from typing import Any

import numpy as np

from blobnet.io.onnx.graph import FLOAT, Graph, Step, exports
from blobnet.layers import pooling as pooling_layers
from blobnet.proto import blobnet_pb2 as pb


@exports("Convolution", "Deconvolution")
def convolution(graph: Graph, step: Step) -> None:
    layer = step.layer
    layer.require(layer.channel_axis == 1, "only channels on axis 1 can be exported", "convolution_param.axis")
    learned = [graph.constant(blob.data) for blob in layer.blobs]
    for value, output in zip(step.inputs, step.outputs, strict=True):
        graph.add(
            "Conv" if layer.type == "Convolution" else "ConvTranspose",
            value,
            *learned,
            output=output,
            kernel_shape=layer.kernel,
            strides=layer.stride,
            pads=layer.pad * 2,
            dilations=layer.dilation,
            group=layer.group,
        )


@exports("Pooling")
def pooling(graph: Graph, step: Step) -> None:
    layer, pooled = step.layer, step.tops[0].shape
    if len(step.tops) == 1:
        _pool(graph, step, layer, pooled, step.outputs[0])
        return
    _, _, H, W = step.bottoms[0].shape
    y, mask = step.outputs
    indices = f"{mask}/in_all"  # Caffe's mask counts in each plane, ONNX's in the whole array
    graph.add_many("MaxPool", step.inputs, [y, indices], **_windows(step, layer, pooled))
    graph.add("Cast", graph.add("Mod", indices, graph.integers([H * W])), output=mask, to=FLOAT)


@exports("SPP")
def spatial_pyramid_pooling(graph: Graph, step: Step) -> None:
    levels = [
        graph.add("Flatten", _pool(graph, step, level, pooled.shape, None))
        for level, pooled in zip(step.layer.levels, step.layer.pooled, strict=True)
    ]
    flat = graph.add("Concat", *levels, axis=1)
    graph.reshape(flat, step.batch.shape(step.tops[0]), output=step.outputs[0])


def _windows(step: Step, layer: pooling_layers.Pooling, pooled: tuple[int, ...]) -> dict[str, Any]:
    """Windows as Caffe counts them: the end is padded as far as the last one reaches."""
    window = layer.window
    _, _, H, W = step.bottoms[0].shape
    _, _, PH, PW = pooled
    end_h = max(0, (PH - 1) * window.sh + window.kh - H - window.ph)
    end_w = max(0, (PW - 1) * window.sw + window.kw - W - window.pw)
    return {
        "kernel_shape": (window.kh, window.kw),
        "strides": (window.sh, window.sw),
        "pads": (window.ph, window.pw, end_h, end_w),
    }


def _pool(graph: Graph, step: Step, layer: pooling_layers.Pooling, pooled: tuple[int, ...], output: str | None) -> str:
    window, attributes = layer.window, _windows(step, layer, pooled)
    if layer.method == pooling_layers.MAX:
        return graph.add("MaxPool", *step.inputs, output=output, **attributes)
    layer.require(
        layer.method == pooling_layers.AVE, "STOCHASTIC pooling cannot be exported to ONNX", "pooling_param.pool"
    )
    _, _, H, W = step.bottoms[0].shape
    _, _, PH, PW = pooled
    cells = np.outer(_cells(H, PH, window.kh, window.sh, window.ph), _cells(W, PW, window.kw, window.sw, window.pw))
    if (cells == window.kh * window.kw).all():
        return graph.add("AveragePool", *step.inputs, output=output, count_include_pad=1, **attributes)
    average = graph.add("AveragePool", *step.inputs, count_include_pad=1, **attributes)
    return graph.add("Mul", average, graph.constant(window.kh * window.kw / cells), output=output)


def _cells(extent: int, windows: int, kernel: int, stride: int, pad: int) -> np.ndarray:
    """Lines of each window along one axis that lie in the padded image: what AVE divides by."""
    start = np.arange(windows) * stride - pad
    return np.minimum(start + kernel, extent + pad) - start


@exports("LRN")
def local_response(graph: Graph, step: Step) -> None:
    param = step.layer.param.lrn_param
    size = param.local_size
    if param.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        attributes: dict[str, Any] = {"alpha": param.alpha, "beta": param.beta, "bias": param.k, "size": size}
        graph.add("LRN", *step.inputs, output=step.outputs[0], **attributes)
        return
    (x,) = step.inputs
    pads = (size // 2,) * 4
    mean_square = graph.add(
        "AveragePool", graph.add("Mul", x, x), kernel_shape=(size, size), pads=pads, count_include_pad=1
    )
    scale = graph.add("Add", graph.add("Mul", mean_square, graph.constant(param.alpha)), graph.constant(1))
    graph.add("Mul", x, graph.add("Pow", scale, graph.constant(-param.beta)), output=step.outputs[0])
