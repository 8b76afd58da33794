"""Rules of layers that combine blobs, or a blob with weights: InnerProduct, Embed, Eltwise, Scale, Bias."""

from blobnet.io.onnx.graph import INT64, Graph, Step, exports
from blobnet.proto import blobnet_pb2 as pb


@exports("InnerProduct")
def inner_product(graph: Graph, step: Step) -> None:
    layer = step.layer
    rows = graph.add("Flatten", *step.inputs, axis=layer.input_axis)
    transposed = not layer.param.inner_product_param.transpose
    learned = [graph.constant(blob.data) for blob in layer.blobs]
    product = graph.add("Gemm", rows, *learned, transB=int(transposed))
    graph.reshape(product, step.batch.shape(step.tops[0]), output=step.outputs[0])


@exports("Embed")
def embed(graph: Graph, step: Step) -> None:
    indices = graph.add("Cast", *step.inputs, to=INT64)
    rows = graph.add("Gather", graph.constant(step.learned(0)), indices, axis=0)
    bias = step.learned(1) if len(step.layer.blobs) > 1 else 0
    graph.add("Add", rows, graph.constant(bias), output=step.outputs[0])


@exports("Eltwise")
def eltwise(graph: Graph, step: Step) -> None:
    param = step.layer.param.eltwise_param
    if param.operation == pb.EltwiseParameter.PROD:
        product, *others = step.inputs
        for other in others[:-1]:
            product = graph.add("Mul", product, other)
        graph.add("Mul", product, others[-1], output=step.outputs[0])
    elif param.operation == pb.EltwiseParameter.MAX:
        graph.add("Max", *step.inputs, output=step.outputs[0])
    else:
        factors = param.coeff or [1] * len(step.inputs)
        terms = [
            value if factor == 1 else graph.add("Mul", value, graph.constant(factor))
            for value, factor in zip(step.inputs, factors, strict=True)
        ]
        graph.add("Sum", *terms, output=step.outputs[0])


@exports("Scale")
def scale(graph: Graph, step: Step) -> None:
    has_bias = step.layer.param.scale_param.bias_term
    product = graph.add("Mul", step.inputs[0], _operand(graph, step), output=None if has_bias else step.outputs[0])
    if has_bias:
        bias = graph.constant(step.learned(-1).reshape(_repeated(step)))
        graph.add("Add", product, bias, output=step.outputs[0])


@exports("Bias")
def bias(graph: Graph, step: Step) -> None:
    graph.add("Add", step.inputs[0], _operand(graph, step), output=step.outputs[0])


def _operand(graph: Graph, step: Step) -> str:
    """The second bottom or the learned operand, in a shape that is repeated along the bottom's other axes."""
    if len(step.inputs) == 2:
        return graph.reshape(step.inputs[1], _repeated(step))
    return graph.constant(step.learned(0).reshape(_repeated(step)))


def _repeated(step: Step) -> list[int]:
    layer, bottom = step.layer, step.bottoms[0]
    operand = layer.operand(step.bottoms)
    if not operand.num_axes:
        return [1]
    axis = bottom.canonical_axis(getattr(layer.param, layer.field).axis)
    return [*step.batch.shape(operand), *[1] * (bottom.num_axes - axis - operand.num_axes)]
