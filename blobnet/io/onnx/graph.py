"""The ONNX graph as it is built, and the table of rules that build it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from blobnet import extras
from blobnet.blob import Blob
from blobnet.io.onnx.batch import Batch
from blobnet.net import Net

FLOAT, INT64 = 1, 7  # of onnx.TensorProto


class Step(NamedTuple):
    """A layer with its blobs, and the names of the values that stand for these in the graph."""

    layer: Any  # of the class that the rule is for
    bottoms: Sequence[Blob]
    tops: Sequence[Blob]
    inputs: Sequence[str]
    outputs: Sequence[str]
    batch: Batch

    def learned(self, index: int) -> np.ndarray:
        return self.layer.blobs[index].data


Rule = Callable[["Graph", Step], None]

RULES: dict[str, Rule] = {}


def exports(*types: str) -> Callable[[Rule], Rule]:
    """Register a rule: it adds the nodes that compute the step's outputs from its inputs."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(types, rule))
        return rule

    return register


class Graph:
    """Collects nodes, constants, inputs and outputs."""

    def __init__(self) -> None:
        self._onnx = extras.load("onnx", "export")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node of one output, whose name is made up unless it is given; returns that name."""
        output = output or self._new_name(op)
        self._nodes.append(self._onnx.helper.make_node(op, inputs, [output], **attributes))
        return output

    def add_many(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """A node of several outputs."""
        self._nodes.append(self._onnx.helper.make_node(op, inputs, outputs, **attributes))

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An initializer; returns its name."""
        name = self._new_name("constant")
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def integers(self, values: Sequence[int]) -> str:
        """A list of shapes, axes, ... as an initializer."""
        return self.constant(list(values), np.int64)

    def reshape(self, value: str, shape: Sequence[int], output: str | None = None) -> str:
        return self.add("Reshape", value, self.integers(shape), output=output)

    def add_input(self, name: str, shape: Sequence[int | str | None]) -> None:
        """``shape`` has a name, or None, for an extent that is left open."""
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape))

    def add_output(self, name: str, shape: Sequence[int | str | None]) -> None:
        self._outputs.append(self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape))

    def finish(self, name: str) -> Any:
        """The GraphProto."""
        return self._onnx.helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)

    def _new_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}#{self._count}"


def value_names(net: Net) -> list[tuple[list[str], list[str]]]:
    """Names of the values that each layer reads and writes.

    A blob that layers work on in place is a new value after each: its last one has the blob's name (an input's its
    first), the others ``<blob>/<layer>#<number of the layer>``.
    """
    writers: dict[str, list[int]] = {}
    for index, tops in enumerate(net.tops):
        for blob in tops:
            writers.setdefault(blob.name, []).append(index)
    keeper = {name: indices[0 if name in net.inputs else -1] for name, indices in writers.items()}
    current: dict[str, str] = {}
    names = []
    for index, (layer, bottoms, tops) in enumerate(zip(net.layers, net.bottoms, net.tops, strict=True)):
        inputs = [current[blob.name] for blob in bottoms]
        outputs = [blob.name if keeper[blob.name] == index else f"{blob.name}/{layer.name}#{index}" for blob in tops]
        current.update(zip((blob.name for blob in tops), outputs, strict=True))
        names.append((inputs, outputs))
    return names
