"""Rules of layers that apply a function to each element, and of those that leave the elements as they are."""

import math

import numpy as np

from blobnet.io.onnx.graph import FLOAT, Graph, Step, exports

_PLAIN = {"AbsVal": "Abs", "BNLL": "Softplus", "Sigmoid": "Sigmoid", "TanH": "Tanh"}


@exports("Input")
def graph_input(graph: Graph, step: Step) -> None:
    for blob, name in zip(step.tops, step.outputs, strict=True):
        graph.add_input(name, step.batch.declared(blob))


@exports("Parameter")
def parameter(graph: Graph, step: Step) -> None:
    graph.add("Identity", graph.constant(step.learned(0)), output=step.outputs[0])


@exports("Dropout", "Split")
def identity(graph: Graph, step: Step) -> None:
    for output in step.outputs:
        graph.add("Identity", *step.inputs, output=output)


@exports("Silence")
def nothing(graph: Graph, step: Step) -> None:
    pass


@exports(*_PLAIN)
def plain(graph: Graph, step: Step) -> None:
    graph.add(_PLAIN[step.layer.type], *step.inputs, output=step.outputs[0])


@exports("ReLU")
def relu(graph: Graph, step: Step) -> None:
    slope = step.layer.param.relu_param.negative_slope
    leaky = {"alpha": slope} if slope else {}
    graph.add("LeakyRelu" if slope else "Relu", *step.inputs, output=step.outputs[0], **leaky)


@exports("PReLU")
def prelu(graph: Graph, step: Step) -> None:
    slope = step.learned(0).reshape(-1, *[1] * (step.bottoms[0].num_axes - 2))
    graph.add("PRelu", *step.inputs, graph.constant(slope), output=step.outputs[0])


@exports("ELU")
def elu(graph: Graph, step: Step) -> None:
    graph.add("Elu", *step.inputs, output=step.outputs[0], alpha=step.layer.param.elu_param.alpha)


@exports("Swish")
def swish(graph: Graph, step: Step) -> None:
    (x,) = step.inputs
    gate = graph.add("Sigmoid", _line(graph, x, step.layer.param.swish_param.beta, 0))
    graph.add("Mul", x, gate, output=step.outputs[0])


@exports("Exp")
def exponential(graph: Graph, step: Step) -> None:
    param = step.layer.param.exp_param
    log_base = 1.0 if param.base == -1 else math.log(param.base)
    line = _line(graph, step.inputs[0], param.scale * log_base, param.shift * log_base)
    graph.add("Exp", line, output=step.outputs[0])


@exports("Log")
def logarithm(graph: Graph, step: Step) -> None:
    param = step.layer.param.log_param
    log_base = 1.0 if param.base == -1 else math.log(param.base)
    log = graph.add("Log", _line(graph, step.inputs[0], param.scale, param.shift))
    graph.add("Mul", log, graph.constant(1 / log_base), output=step.outputs[0])


@exports("Power")
def power(graph: Graph, step: Step) -> None:
    param = step.layer.param.power_param
    line = _line(graph, step.inputs[0], param.scale, param.shift)
    if param.power == 1:
        graph.add("Identity", line, output=step.outputs[0])
    else:
        graph.add("Pow", line, graph.constant(param.power), output=step.outputs[0])


@exports("Clip")
def clip(graph: Graph, step: Step) -> None:
    param = step.layer.param.clip_param
    graph.add("Clip", *step.inputs, graph.constant(param.min), graph.constant(param.max), output=step.outputs[0])


@exports("Threshold")
def threshold(graph: Graph, step: Step) -> None:
    above = graph.add("Greater", *step.inputs, graph.constant(step.layer.param.threshold_param.threshold))
    graph.add("Cast", above, output=step.outputs[0], to=FLOAT)


@exports("Softmax")
def softmax(graph: Graph, step: Step) -> None:
    graph.add("Softmax", *step.inputs, output=step.outputs[0], axis=step.layer.class_axis)


@exports("BatchNorm")
def batch_norm(graph: Graph, step: Step) -> None:
    layer = step.layer
    layer.require(
        layer.use_global_stats,
        "statistics of the batch are for training; leave use_global_stats out",
        "batch_norm_param.use_global_stats",
    )
    mean, variance, (weight,) = (blob.data for blob in layer.blobs)
    share = 1 / weight if weight else 0.0
    ones, zeros = np.ones_like(mean), np.zeros_like(mean)
    arrays = (ones, zeros, mean * share, variance * share)
    constants = [graph.constant(array) for array in arrays]
    graph.add(
        "BatchNormalization",
        *step.inputs,
        *constants,
        output=step.outputs[0],
        epsilon=layer.param.batch_norm_param.eps,
    )


@exports("MVN")
def mean_variance(graph: Graph, step: Step) -> None:
    param, (bottom,) = step.layer.param.mvn_param, step.bottoms
    x = graph.reshape(step.inputs[0], (-1, bottom.count // step.layer.view[1]))
    y = graph.add("Sub", x, _row_means(graph, x))
    if param.normalize_variance:
        deviation = graph.add("Sqrt", _row_means(graph, graph.add("Mul", y, y)))
        y = graph.add("Div", y, graph.add("Add", deviation, graph.constant(param.eps)))
    graph.reshape(y, step.batch.shape(step.tops[0]), output=step.outputs[0])


def _row_means(graph: Graph, x: str) -> str:
    return graph.add("ReduceMean", x, graph.integers([1]), keepdims=1)


def _line(graph: Graph, x: str, scale: float, shift: float) -> str:
    """scale x + shift."""
    if scale != 1:
        x = graph.add("Mul", x, graph.constant(scale))
    return graph.add("Add", x, graph.constant(shift)) if shift else x
