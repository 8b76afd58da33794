"""Recurrent layers: LSTM and RNN by truncated back-propagation through time, and LSTMUnit, one step alone.

Time steps are the first axis and independent streams the second, so that one matrix product projects the
inputs of all steps; only the product with the previous hidden state is made step by step (``kernels.recurrent``).
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from blobnet import config
from blobnet.blob import Blob
from blobnet.kernels import gemm, parallel
from blobnet.kernels import recurrent as kernels
from blobnet.kernels.recurrent_gradients import add_gradients
from blobnet.kernels.workspace import aligned
from blobnet.layers.base import Layer, describe
from blobnet.layers.registry import register

log = logging.getLogger("blobnet")

# Elements of cells that are worth a thread's while.
ELEMENTS_PER_THREAD = 4096


class Recurrent(Layer):
    """Base of LSTM and RNN: T steps of N streams, a hidden state of H units in each stream.

    bottoms  x (T, N, ...), the trailing axes flattened to D
             cont (T, N), by which a stream's previous state is multiplied: 0 starts a new sequence, 1 goes on
             x_static (N, ...), optional, an input that is the same at all steps, flattened to Ds
             with expose_hidden, the initial states, (1, N, H) each
    tops     (T, N, H); with expose_hidden also the final states, (1, N, H) each

    The state after the last step is where the next forward pass starts, so that a long sequence can be fed in
    pieces; cont 0 at its first step forgets it. With expose_hidden the bottoms take its place. Gradients flow
    through the T steps of a pass, neither into its initial state nor from its final one: truncated
    back-propagation through time (Williams and Peng 1990, An efficient gradient-based algorithm).

    recurrent_param  num_output H (required), weight_filler and bias_filler (zeros), expose_hidden (false),
                     debug_info (false): log the mean magnitude of state and gradient at each step
    Errors           num_output 0, or a number of bottoms or tops or a shape other than these
    """

    bottoms = (2, 5)
    tops = (1, 3)

    projections: ClassVar[int]  # of the input, for each hidden unit
    state_names: ClassVar[tuple[str, ...]]  # carried from step to step; h first

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        param = self.param.recurrent_param
        self.units: int = param.num_output
        self.require(self.units > 0, "num_output must be 1 or more; got 0", "recurrent_param.num_output")
        self.exposed_names = self.state_names if param.expose_hidden else ()
        self._check_arity(len(bottom), len(top))
        self.first_state = len(bottom) - len(self.exposed_names)
        self.has_static = self.first_state == 3
        rows = self.projections * self.units
        self.input_weight = self.add_blob((rows, bottom[0].count_between(2)), param.weight_filler)
        self.bias = self.add_blob((rows,), param.bias_filler)
        if self.has_static:
            self.static_weight = self.add_blob((rows, bottom[2].count_between(1)), param.weight_filler)
        self.recurrent_weight = self.add_blob((rows, self.units), param.weight_filler)
        carried = () if param.expose_hidden else self.state_names
        self.carried_over = {name: Blob((0, self.units), self.dtype, name) for name in carried}
        self.inner_blobs = [*self.carried_over.values()]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._check_shapes(bottom)
        steps, streams = bottom[0].shape[:2]
        top[0].reshape(steps, streams, self.units)
        for blob in top[1:]:
            blob.reshape(1, streams, self.units)
        for blob in self.carried_over.values():
            blob.reshape(streams, self.units)
        rows = self.projections * self.units
        self.gates = aligned((steps, streams, rows), self.dtype)
        self.gates_diff = aligned((steps, streams, rows), self.dtype)
        self.kept = aligned((steps, streams, self.units), self.dtype)  # cont_t * h_{t-1}
        self.offset = aligned((streams, rows), self.dtype)
        self.state_diffs = [aligned((streams, self.units), self.dtype) for _ in self.state_names]

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._write_offset(bottom)
        weights = kernels.pack(self.input_weight.data, "W_x"), kernels.pack(self.recurrent_weight.data, "W_h")
        arrays = _matrix(bottom[0].data), bottom[1].data, self.offset, *weights, self.kept, self.gates
        hidden = self.run_steps(top[0].data, self._ends(bottom, top), *arrays)
        if self.param.recurrent_param.debug_info:
            self._log_steps("Forward", hidden)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.require(not propagate_down[1], f"no gradient flows into sequence markers, {describe(bottom[1])}")
        weights = kernels.pack(self.recurrent_weight.data, "W_h", transposed=True)
        from_output = self.output_backward(top[0])
        self.run_steps_backward(bottom[1].data, weights, from_output, self.gates_diff, self.state_diffs[0])
        if propagate_down[0]:
            weights = kernels.pack(self.input_weight.data, "W_x", transposed=True)
            kernels.multiply_all(_matrix(self.gates_diff), weights, _matrix(bottom[0].diff))
        self._accumulate_params(bottom)
        self._write_bottom_diffs(propagate_down, bottom)
        if self.param.recurrent_param.debug_info:
            self._log_steps("Backward", self.gates_diff)

    def flops(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> int:
        steps, streams = bottom[0].shape[:2]
        once = self.static_weight.count if self.has_static else 0
        at_each_step = sum(blob.count for blob in self.blobs if blob.num_axes > 1) - once
        return 2 * streams * (steps * at_each_step + once)

    def has_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0 or (bottom_index == 2 and self.has_static)

    def state(self) -> dict[str, Any]:
        return super().state() | {name: blob.data.copy() for name, blob in self.carried_over.items()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        for name, blob in self.carried_over.items():
            blob.reshape(*state[name].shape)
            blob.data[...] = state[name]

    def run_steps(self, output: np.ndarray, ends: Sequence[np.ndarray], *arrays) -> np.ndarray:
        """All steps, from the projections of their inputs to the output; returns the hidden states.

        The kernel takes the arrays, and what is the layer's own.
        """
        raise NotImplementedError

    def output_backward(self, top: Blob) -> np.ndarray:
        """The gradient that reaches each hidden state from the output of its step."""
        raise NotImplementedError

    def run_steps_backward(self, *arrays) -> None:
        """``gates_diff`` of all steps: the kernel takes these arrays, and what is the layer's own."""
        raise NotImplementedError

    def over_streams(self, kernel: Callable, *arrays) -> None:
        """Run a kernel over the streams, an equal share for each thread: whoever takes some reads all the weights."""
        steps, streams, rows = self.gates.shape
        worthwhile = -(-kernels.PRODUCTS_OF_A_THREAD // (steps * rows * self.units))
        share = max(worthwhile, -(-streams // config.threads()))
        grain = -(-share // kernels.STREAMS) * kernels.STREAMS
        pieces = kernels.room_for_pieces(streams, self.units, self.dtype)
        parallel.parallel_for(kernel, streams, *arrays, grain=grain, scratch=pieces)

    def _check_arity(self, bottoms: int, tops: int) -> None:
        wanted = ["x", "cont", *(f"{name}_0" for name in self.exposed_names)]
        self.require(
            bottoms in (len(wanted), len(wanted) + 1),
            f"the bottoms must be {', '.join(wanted)}, with or without an x_static after cont; got {bottoms} of them",
            "bottom",
        )
        wanted = ["the output", *(f"{name}_T" for name in self.exposed_names)]
        self.require(tops == len(wanted), f"the tops must be {', '.join(wanted)}; got {tops} of them", "top")

    def _check_shapes(self, bottom: Sequence[Blob]) -> None:
        x, cont = bottom[:2]
        self._check(x, x.num_axes >= 2, "the input must have 2 axes or more, (time steps, streams, ...)")
        self._check(cont, cont.num_axes == 2, "cont must have exactly 2 axes, (time steps, streams)")
        self._check(cont, cont.shape == x.shape[:2], f"cont must have the time steps and streams of {describe(x)}")
        self._check_features(x, 2, self.input_weight)
        streams = x.shape[1]
        if self.has_static:
            static = bottom[2]
            self._check(static, static.shape[:1] == (streams,), f"x_static must have {streams} rows, one a stream")
            self._check_features(static, 1, self.static_weight)
        for name, blob in zip(self.exposed_names, self._initial_states(bottom), strict=True):
            rule = f"{name}_0 must be 1 x {streams} x {self.units}, (1, streams, num_output)"
            self._check(blob, blob.shape == (1, streams, self.units), rule)

    def _check_features(self, blob: Blob, axis: int, weight: Blob) -> None:
        features = weight.shape[1]
        rule = f"the axes from {axis} on must hold the {features} features that the weights were made for"
        self._check(blob, blob.count_between(axis) == features, rule)

    def _check(self, blob: Blob, holds: bool, rule: str) -> None:
        self.require(holds, f"{rule}; got {describe(blob)}", "bottom")

    def _initial_states(self, bottom: Sequence[Blob]) -> Sequence[Blob]:
        return bottom[self.first_state :]

    def _ends(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> list[np.ndarray]:
        """The initial states, and where the last ones go."""
        carried = self.carried_over.values()
        ends = *self._initial_states(bottom), *carried, *top[1:], *carried
        return [blob.data.reshape(self.kept.shape[1:]) for blob in ends]

    def _write_offset(self, bottom: Sequence[Blob]) -> None:
        """b (+ W_static x_static): what the gates of every step take, by stream."""
        parallel.repeated(np.copyto, self.offset, self.bias.data)
        if self.has_static:
            x_static = bottom[2].data.reshape(len(self.offset), -1)
            gemm.gemm(x_static, self.static_weight.data, self.offset, transpose_b=True, beta=1.0)

    def _accumulate_params(self, bottom: Sequence[Blob]) -> None:
        x = bottom[0].data.reshape(*self.kept.shape[:2], -1)
        products = (self.input_weight, x), (self.recurrent_weight, self.kept)
        self.accumulate(self.gates_diff, self.bias, *products)
        if self.has_static:
            static = bottom[2].data.reshape(1, len(bottom[2].data), -1)
            self.accumulate(self.gates_diff.sum(axis=0, keepdims=True), None, (self.static_weight, static))

    def _write_bottom_diffs(self, propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if self.has_static and propagate_down[2]:
            static_diff = bottom[2].diff.reshape(bottom[2].shape[0], -1)
            gemm.gemm(self.gates_diff.sum(axis=0), self.static_weight.data, static_diff)
        for blob, wanted in zip(self._initial_states(bottom), propagate_down[self.first_state :], strict=True):
            if wanted:
                parallel.repeated(np.copyto, blob.diff, 0)

    def accumulate(self, output_diff: np.ndarray, bias: Blob | None, *products: tuple[Blob, np.ndarray]) -> None:
        """Add to the gradients of a bias, and of a weight or two with what each has met, as far as they learn."""
        known = []
        for weight, met in products:
            if self._learns(weight):
                gradient, beta = weight.gradient_sum()
                known.append((_matrix(met), gradient, beta == 1))
        total: np.ndarray | None
        total, beta = bias.gradient_sum() if bias and self._learns(bias) else (None, 0)
        add_gradients(_matrix(output_diff), known, total, beta == 1)

    def _learns(self, blob: Blob) -> bool:
        return self.param_propagate_down[self.blobs.index(blob)]

    def _log_steps(self, direction: str, steps: np.ndarray) -> None:
        for step, values in enumerate(steps):
            log.info("[%s] %s, step %d: mean magnitude %g", direction, self.name, step, np.abs(values).mean())


@register("LSTM")
class LSTM(Recurrent):
    """Long short-term memory, without peepholes.

    With h' = cont_t h_{t-1} and c' = cont_t c_{t-1}:
        i, f, o = sigmoid, g = tanh of the rows of W_x x_t + b (+ W_static x_static) + W_h h'
        c_t = f c' + i g        h_t = o tanh(c_t)        output h_t

    blobs  W_x (4H, D), b (4H), W_static (4H, Ds) if there is a static input, W_h (4H, H);
           rows in the order i, f, o, g
    expose_hidden adds the bottoms h_0, c_0 and the tops h_T, c_T. Bottoms, recurrent_param and errors are
    those of Recurrent; the gradient of a step is that of LSTMUnit.

    Source: Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000; this form: Zaremba and Sutskever
    2014, Learning to Execute.
    """

    projections = 4
    state_names = ("h", "c")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().setup(bottom, top)
        self.steady = not (self.has_static or self.param.recurrent_param.debug_info)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        steps, streams, units = self.kept.shape
        self.cells = aligned((steps + 1, streams, units), self.dtype)

    def run_steps(self, output: np.ndarray, ends: Sequence[np.ndarray], *arrays) -> np.ndarray:
        self.over_streams(kernels.lstm_steps, *arrays, output, self.cells, *ends)
        return output

    def output_backward(self, top: Blob) -> np.ndarray:
        return top.diff

    def run_steps_backward(self, *arrays) -> None:
        self.over_streams(kernels.lstm_steps_backward, *arrays, self.gates, self.cells, self.state_diffs[1])


@register("RNN")
class RNN(Recurrent):
    """The simple recurrent network of Elman with a tanh output.

    h_t = tanh(W_x x_t + b_h (+ W_static x_static) + W_h (cont_t h_{t-1}))        output tanh(W_o h_t + b_o)

    blobs  W_x (H, D), b_h (H), W_static (H, Ds) if there is a static input, W_h (H, H), W_o (H, H), b_o (H)
    expose_hidden adds the bottom h_0 and the top h_T. Bottoms, recurrent_param and errors are those of
    Recurrent.

    Gradient: with e_t that of the output before its tanh and dh_t = W_o' e_t + cont_{t+1} W_h' du_{t+1},
    the gradient before the inner tanh is du_t = dh_t (1 - h_t^2).

    Source: Elman 1990, Finding structure in time.
    """

    projections = 1
    state_names = ("h",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().setup(bottom, top)
        param = self.param.recurrent_param
        self.output_weight = self.add_blob((self.units, self.units), param.weight_filler)
        self.output_bias = self.add_blob((self.units,), param.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().reshape(bottom, top)
        self.hidden = aligned(self.kept.shape, self.dtype)

    def run_steps(self, output: np.ndarray, ends: Sequence[np.ndarray], *arrays) -> np.ndarray:
        self.over_streams(kernels.rnn_steps, *arrays, self.hidden, *ends)
        output[...] = self.output_bias.data
        gemm.gemm(_matrix(self.hidden), self.output_weight.data, _matrix(output), transpose_b=True, beta=1.0)
        np.tanh(output, out=output)
        return self.hidden

    def output_backward(self, top: Blob) -> np.ndarray:
        output_diff = top.diff * (1 - np.square(top.data))
        self.accumulate(output_diff, self.output_bias, (self.output_weight, self.hidden))
        hidden_diff = np.empty(top.shape, self.dtype)
        gemm.gemm(_matrix(output_diff), self.output_weight.data, _matrix(hidden_diff))
        return hidden_diff

    def run_steps_backward(self, *arrays) -> None:
        self.over_streams(kernels.rnn_steps_backward, *arrays, self.hidden)


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM on gates that other layers have computed.

    bottoms  c_prev (1, N, H), gates (1, N, 4H) before their activation in the order i, f, o, g, cont (1, N)
    tops     c (1, N, H), h (1, N, H)

    c = cont sigmoid(f) c_prev + sigmoid(i) tanh(g)        h = sigmoid(o) tanh(c)

    Gradient, with i, f, o, g activated, F = cont f and dc = c_diff + h_diff o (1 - tanh(c)^2): c_prev dc F,
    gates dc g i (1 - i), dc c_prev F (1 - F), h_diff tanh(c) o (1 - o), dc i (1 - g^2); none flows into cont.
    F (1 - F) is Caffe's choice, exact where cont is 0 or 1. Has no message of parameters.

    Errors: shapes other than these.
    """

    bottoms = (3, 3)
    tops = (2, 2)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        c_prev, gates, cont = bottom
        self.require(
            c_prev.num_axes == 3 and c_prev.shape[0] == 1,
            f"the previous cell state must be (1, streams, units); got {describe(c_prev)}",
            "bottom",
        )
        _, streams, units = c_prev.shape
        self.require(
            gates.shape == (1, streams, 4 * units),
            f"the gates must be 1 x {streams} x {4 * units}, four for each unit of {describe(c_prev)}; "
            f"got {describe(gates)}",
            "bottom",
        )
        self.require(
            cont.shape == (1, streams),
            f"the sequence markers must be 1 x {streams}, one for each stream of {describe(c_prev)}; "
            f"got {describe(cont)}",
            "bottom",
        )
        for blob in top:
            blob.reshape_like(c_prev)
        self.gates = np.empty((streams, 4 * units), self.dtype)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        c_prev, gates, cont = (blob.data[0] for blob in bottom)
        c, h = (blob.data[0] for blob in top)
        self.gates[...] = 0
        _cell_forward(gates, self.gates, cont, c_prev, c, h)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        self.require(not propagate_down[2], f"no gradient flows into sequence markers, {describe(bottom[2])}")
        c_prev, cont, c = bottom[0].data[0], bottom[2].data[0], top[0].data[0]
        c_prev_diff, gates_diff = top[0].diff[0].copy(), np.empty_like(self.gates)
        _cell_backward(self.gates, cont, c_prev, c, top[1].diff[0], c_prev_diff, gates_diff)
        for index, diff in enumerate((c_prev_diff, gates_diff)):
            if propagate_down[index]:
                bottom[index].diff[0] = diff

    def has_backward(self, bottom_index: int) -> bool:
        return bottom_index != 2


def _cell_forward(offset, gates, *arrays: np.ndarray) -> None:
    _over_streams(kernels.lstm_forward, _by_gate(offset), _by_gate(gates), *arrays)


def _cell_backward(gates, cont, c_prev, c, h_diff, c_diff, gates_diff) -> None:
    """``c_diff`` becomes the gradient of ``c_prev``."""
    arrays = cont, c_prev, c, h_diff, c_diff, _by_gate(gates_diff)
    _over_streams(kernels.lstm_backward, _by_gate(gates), *arrays)


def _over_streams(kernel, gates: np.ndarray, *arrays: np.ndarray) -> None:
    streams, _, units = gates.shape
    parallel.parallel_for(kernel, streams, gates, *arrays, grain=-(-ELEMENTS_PER_THREAD // units))


def _by_gate(gates: np.ndarray) -> np.ndarray:
    return gates.reshape(len(gates), 4, -1)


def _matrix(array: np.ndarray) -> np.ndarray:
    """(T, N, ...) as (T N, ...): one row for each step of each stream."""
    return array.reshape(array.shape[0] * array.shape[1], -1)
