"""Rules of LSTM and RNN: their steps one after the other, as many as the net was built for.

ONNX has operators of the same names, but none that forgets a state in the middle, as ``cont`` asks.
"""

from collections.abc import Sequence

from blobnet.io.onnx.graph import Graph, Step, exports


@exports("LSTM")
def lstm(graph: Graph, step: Step) -> None:
    def cell(gates: str, cont: str, states: Sequence[str]) -> Sequence[str]:
        """i, f, o, g are blocks of H in the gates; c = cont f c + i g, h = o tanh(c)."""
        *parts, candidate = _blocks(graph, gates, 4)
        i, f, o = (graph.add("Sigmoid", part) for part in parts)
        g = graph.add("Tanh", candidate)
        kept = graph.add("Mul", graph.add("Mul", cont, f), states[1])
        c = graph.add("Add", kept, graph.add("Mul", i, g))
        return graph.add("Mul", o, graph.add("Tanh", c)), c

    hidden = _run(graph, step, cell)
    graph.add("Concat", *hidden, output=step.outputs[0], axis=0)


@exports("RNN")
def rnn(graph: Graph, step: Step) -> None:
    def cell(gates: str, cont: str, states: Sequence[str]) -> Sequence[str]:
        return [graph.add("Tanh", gates)]

    hidden = graph.add("Concat", *_run(graph, step, cell), axis=0)
    product = graph.add("MatMul", hidden, graph.constant(step.layer.output_weight.data.T))
    projected = graph.add("Add", product, graph.constant(step.layer.output_bias.data))
    graph.add("Tanh", projected, output=step.outputs[0])


def _run(graph: Graph, step: Step, cell) -> list[str]:
    """The hidden state after each step, (1, N, H) each; states come in and go out as inputs and outputs."""
    layer = step.layer
    layer.require(not step.batch, "the steps and streams of a recurrent layer cannot be left open", "type")
    steps, streams = step.bottoms[0].shape[:2]
    gates = _parts(graph, _projected_inputs(graph, step), steps)
    conts = _parts(graph, graph.reshape(step.inputs[1], (steps, streams, 1)), steps)
    weight = graph.constant(layer.recurrent_weight.data.T)
    states = _initial_states(graph, step, streams)
    hidden = []
    for offset, cont in zip(gates, conts, strict=True):
        kept = graph.add("Mul", cont, states[0])
        states = cell(graph.add("Add", offset, graph.add("MatMul", kept, weight)), cont, states)
        hidden.append(states[0])
    final = step.outputs[1:] or [f"{layer.name}/{name}_T" for name in layer.state_names]
    for state, output in zip(states, final, strict=True):
        graph.add("Identity", state, output=output)
        if not layer.exposed_names:
            graph.add_output(output, (1, streams, layer.units))
    return hidden


def _initial_states(graph: Graph, step: Step, streams: int) -> Sequence[str]:
    layer = step.layer
    if layer.exposed_names:
        return step.inputs[layer.first_state :]
    names = [f"{layer.name}/{name}_0" for name in layer.state_names]
    for name in names:
        graph.add_input(name, (1, streams, layer.units))
    return names


def _projected_inputs(graph: Graph, step: Step) -> str:
    """W x + b (and the static input's part) of all steps: (T, N, rows)."""
    layer = step.layer
    steps, streams = step.bottoms[0].shape[:2]
    x = graph.reshape(step.inputs[0], (steps, streams, -1))
    product = graph.add("MatMul", x, graph.constant(layer.input_weight.data.T))
    gates = graph.add("Add", product, graph.constant(layer.bias.data))
    if not layer.has_static:
        return gates
    static = graph.reshape(step.inputs[2], (streams, -1))
    return graph.add("Add", gates, graph.add("MatMul", static, graph.constant(layer.static_weight.data.T)))


def _parts(graph: Graph, value: str, count: int) -> list[str]:
    """A value cut into slices of one along its first axis."""
    names = [f"{value}[{index}]" for index in range(count)]
    graph.add_many("Split", [value, graph.integers([1] * count)], names, axis=0)
    return names


def _blocks(graph: Graph, value: str, count: int) -> list[str]:
    """A value cut into equal parts along its last axis."""
    names = [f"{value}[{index}]" for index in range(count)]
    graph.add_many("Split", [value], names, axis=-1, num_outputs=count)
    return names
