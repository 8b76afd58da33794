"""Rules of layers that move or reduce data: Reshape, Flatten, Concat, Slice, Tile, Crop, Reduction, ArgMax."""

from blobnet.io.onnx.graph import FLOAT, Graph, Step, exports
from blobnet.proto import blobnet_pb2 as pb

_REDUCTIONS = {
    pb.ReductionParameter.SUM: "ReduceSum",
    pb.ReductionParameter.ASUM: "ReduceL1",
    pb.ReductionParameter.SUMSQ: "ReduceSumSquare",
    pb.ReductionParameter.MEAN: "ReduceMean",
}


@exports("Reshape", "Flatten")
def reshape(graph: Graph, step: Step) -> None:
    graph.reshape(step.inputs[0], step.batch.shape(step.tops[0]), output=step.outputs[0])


@exports("Concat")
def concat(graph: Graph, step: Step) -> None:
    graph.add("Concat", *step.inputs, output=step.outputs[0], axis=step.layer.joint_axis)


@exports("Slice")
def slice_(graph: Graph, step: Step) -> None:
    axis = step.layer.joint_axis
    step.layer.require(axis != step.batch.axis(step.bottoms[0]), "a batch that is left open cannot be cut", "top")
    extents = graph.integers([blob.shape[axis] for blob in step.tops])
    graph.add_many("Split", [*step.inputs, extents], step.outputs, axis=axis)


@exports("Tile")
def tile(graph: Graph, step: Step) -> None:
    (bottom,), (top,) = step.bottoms, step.tops
    repeats = [wanted // given for wanted, given in zip(top.shape, bottom.shape, strict=True)]
    graph.add("Tile", *step.inputs, graph.integers(repeats), output=step.outputs[0])


@exports("Crop")
def crop(graph: Graph, step: Step) -> None:
    bottom, top, part = step.bottoms[0], step.tops[0], step.layer.part
    axes = [axis for axis in range(bottom.num_axes) if bottom.shape[axis] != top.shape[axis]]
    starts, ends = (graph.integers([getattr(part[axis], end) for axis in axes]) for end in ("start", "stop"))
    graph.add("Slice", step.inputs[0], starts, ends, graph.integers(axes), output=step.outputs[0])


@exports("Reduction")
def reduction(graph: Graph, step: Step) -> None:
    param, (bottom,) = step.layer.param.reduction_param, step.bottoms
    axes = graph.integers(range(bottom.canonical_axis(param.axis), bottom.num_axes))
    reduced = graph.add(_REDUCTIONS[param.operation], *step.inputs, axes, keepdims=0)
    graph.add("Mul", reduced, graph.constant(param.coeff), output=step.outputs[0])


@exports("ArgMax")
def arg_max(graph: Graph, step: Step) -> None:
    layer, param = step.layer, step.layer.param.argmax_param
    layer.require(
        param.top_k == 1 and not param.out_max_val,
        "only the index of the largest element can be exported to ONNX: leave top_k and out_max_val out",
        "argmax_param",
    )
    value, axis = step.inputs[0], param.axis
    if not param.HasField("axis"):
        value, axis = graph.add("Flatten", value, axis=1), 1
    index = graph.add("ArgMax", value, axis=axis, keepdims=1, select_last_index=1)
    number = graph.add("Cast", index, to=FLOAT)
    graph.reshape(number, step.batch.shape(step.tops[0]), output=step.outputs[0])
