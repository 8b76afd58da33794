"""The training loop, in Caffe's order: test, accumulate gradients, display, update, snapshot.

A subclass is one update rule. Whatever concerns terminals, logs and signals reaches the loop as callbacks.
"""

import collections
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from blobnet import snapshot as snapshots
from blobnet.context import Context
from blobnet.errors import BlobnetError, error_at
from blobnet.kernels import update
from blobnet.kernels.parallel import parallel_for
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.solvers import debug, lr_policies, nets
from blobnet.solvers.callbacks import Action, Callback, DisplayRecord, Output, TestResult
from blobnet.streams import new_seed

log = logging.getLogger("blobnet")


class Solver:
    """Trains a net as its SolverParameter says.

    kernel         the update rule, called as ``kernel(start, stop, data, diff, *history, regularization, rate,
                   *constants)`` on flat arrays (see ``kernels.update``)
    history_count  arrays of history that the rule keeps for each learnable blob

    net, test_nets  the test nets share the weights of the train net
    iter            how often the weights have been updated
    lr              learning rate of the latest update
    history         ``history_count`` arrays for each learnable blob: the first ones of all blobs, then the second
    stopped         a callback asked to stop
    """

    type: ClassVar[str] = ""
    kernel: ClassVar[Callable]
    history_count: ClassVar[int] = 1

    def __init__(
        self,
        param: pb.SolverParameter,
        *,
        callbacks: Sequence[Callback] = (),
        dtype=np.float32,
        allowed_modules: Sequence[str] = (),
    ):
        self.param = param
        self.callbacks = list(callbacks)
        file = param.source_info.file
        context = Context(
            phase=pb.TRAIN,
            dtype=np.dtype(dtype),
            seed=param.random_seed if param.random_seed >= 0 else new_seed(),
            folder=Path(file).parent if file else None,
            allowed_modules=frozenset(allowed_modules),
        )
        self.check()
        self.snapshot_prefix = snapshots.prefix(param, context)
        self.net = nets.train_net(param, context)
        self.test_nets = nets.test_nets(param, context)
        for test_net in self.test_nets:
            test_net.share_trained_layers_with(self.net)
        self._check_regularization()
        self.history = [
            np.zeros(blob.shape, blob.dtype) for _ in range(self.history_count) for blob in self.net.learnable_params
        ]
        self.iter = 0
        self.current_step = 0
        self.lr = 0.0
        self.stopped = False
        self._losses: collections.deque[float] = collections.deque(maxlen=param.average_loss)
        self._display_time = time.monotonic()
        self._snapshot_iter: int | None = None
        self._states_before_test: list[list[dict]] | None = None

    # What a subclass adds

    def check(self) -> None:
        """Refuse a SolverParameter that the solver cannot follow."""
        lr_policies.check(self.param)
        for field in ("iter_size", "average_loss"):
            value = getattr(self.param, field)
            self.require(value >= 1, f"{field} must be 1 or more; got {value}", field)

    def step_size(self) -> float:
        """The rate that the kernel takes, before lr_mult."""
        return self.lr

    def constants(self) -> Sequence[float]:
        """The scalars that the kernel takes after the rate."""
        raise NotImplementedError

    def require(self, condition: bool, text: str, field: str) -> None:
        """Unless the condition holds, raise an error at that field of the SolverParameter."""
        if not condition:
            raise error_at(self.param, text, field)

    # Training

    def solve(self, resume: str | Path | None = None) -> None:
        """Train until max_iter or until a callback asks to stop; then snapshot, and test and display where due."""
        self.require(self.param.HasField("max_iter"), "max_iter must be given: it ends the training", "")
        if resume is not None:
            self.restore(resume)
        if self.param.snapshot or self.param.snapshot_after_train:
            snapshots.prepare(self._prefix())
        self._tell("on_start")
        self.step(self.param.max_iter - self.iter)
        if self.param.snapshot_after_train and self._snapshot_iter != self.iter:
            self.snapshot()
        if not self.stopped and self._due(self.param.test_interval):
            self.test_all()
        if not self.stopped and self._due(self.param.display):
            self._losses.append(self._forward(self.net))
            self._display()
        self._tell("on_finish")

    def step(self, iterations: int) -> None:
        """Train for a number of iterations, or until a callback asks to stop."""
        self.stopped = False
        self._display_time = time.monotonic()
        stop = self.iter + iterations
        while self.iter < stop and not self.stopped:
            self._iterate()

    def _iterate(self) -> None:
        self.net.clear_param_diffs()
        if self._due(self.param.test_interval) and (self.iter > 0 or self.param.test_initialization):
            self.test_all()
            if self.stopped:
                return
        display = self._due(self.param.display)
        with debug.logged(self.net, display and self.param.debug_info):
            loss = self._accumulate_gradients()
        self._losses.append(loss)
        self._set_learning_rate()
        if display:
            self._display()
        self._tell("on_gradients")
        self._update_weights()
        self._tell("on_iteration", loss)
        action = self._asked_action()
        if Action.SNAPSHOT in action or self._due(self.param.snapshot):
            self.snapshot()
        self.stopped = Action.STOP in action

    def _accumulate_gradients(self) -> float:
        """Sum the gradients of iter_size passes into the param diffs; returns the mean loss."""
        loss = 0.0
        for _ in range(self.param.iter_size):
            loss += self._forward(self.net)
            self.net.backward_from_to(len(self.net.layers) - 1, 0)
        return loss / self.param.iter_size

    def _forward(self, net: Net) -> float:
        self._tell("on_forward", net)
        return net.forward_from_to(0, len(net.layers) - 1)

    def _due(self, interval: int) -> bool:
        return interval > 0 and self.iter % interval == 0

    def _tell(self, event: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *args)

    def _asked_action(self) -> Action:
        asked = Action.NONE
        for callback in self.callbacks:
            asked |= callback.action(self)
        return asked

    def _display(self) -> None:
        now = time.monotonic()
        outputs = _outputs(self.net, {name: self.net.blobs[name].data for name in self.net.outputs})
        loss = sum(self._losses) / len(self._losses)
        record = DisplayRecord(self.iter, loss, outputs, self.lr, now - self._display_time)
        self._display_time = now
        self._tell("on_display", record)

    # Updating

    def apply_update(self) -> None:
        """Update the weights from the gradients in the param diffs, which then hold what was subtracted."""
        self._set_learning_rate()
        self._update_weights()

    def _set_learning_rate(self) -> None:
        self.lr, self.current_step = lr_policies.learning_rate(self.param, self.iter, self.current_step)

    @np.errstate(over="ignore")
    def _update_weights(self) -> None:
        scale = self._clip_factor() / self.param.iter_size
        step_size, constants = self.step_size(), self.constants()
        kind = self.param.regularization_type
        params = self.net.learnable_params
        for index, (blob, lr_mult, decay) in enumerate(zip(params, self.net.params_lr, self._decays(), strict=True)):
            number = blob.dtype.type
            arrays = [blob.data, blob.diff, *self.history[index :: len(params)]]
            regularization = update.Regularization(
                scale=number(scale),
                l2=number(decay if kind == "L2" else 0),
                l1=number(decay if kind == "L1" else 0),
            )
            parallel_for(
                type(self).kernel,
                blob.count,
                *(array.reshape(-1) for array in arrays),
                regularization,
                number(step_size * lr_mult),
                *map(number, constants),
                grain=update.GRAIN,
            )
        self.iter += 1

    def _decays(self) -> list[float]:
        """The weight decay of each learnable blob."""
        return [self.param.weight_decay * decay_mult for decay_mult in self.net.params_weight_decay]

    def _clip_factor(self) -> float:
        """What brings the norm of all gradients, summed over iter_size, down to clip_gradients (Caffe's order)."""
        limit = self.param.clip_gradients
        if limit < 0:
            return 1.0
        norm = self._gradient_norm()
        return limit / norm if norm > limit else 1.0

    def _gradient_norm(self) -> float:
        """L2 norm over all learnable blobs, summed block by block in a fixed order."""
        total = 0.0
        for blob in self.net.learnable_params:
            sums = np.empty(-(-blob.count // update.GRAIN))
            parallel_for(update.sums_of_squares, len(sums), blob.diff.reshape(-1), sums)
            total += float(sums.sum())
        return math.sqrt(total)

    def _check_regularization(self) -> None:
        kind = self.param.regularization_type
        self.require(
            kind in ("L1", "L2") or not any(self._decays()),
            f'regularization_type must be L1 or L2; got "{kind}"',
            "regularization_type",
        )

    # Testing

    def test_all(self) -> list[TestResult]:
        """Run every test net over its test_iter batches; fewer results when a callback asks to stop."""
        results: list[TestResult] = []
        self._states_before_test = [net.state() for net in self.test_nets]
        for index, net in enumerate(self.test_nets):
            with debug.logged(net, self.param.debug_info):
                result = self._test(net, self.param.test_iter[index])
            if result is None:
                return results
            results.append(result)
            self._tell("on_test", index, result.outputs, result.loss)
        self._states_before_test = None
        return results

    def _test(self, net: Net, batches: int) -> TestResult | None:
        """Means over the batches; None when a callback asked to stop."""
        loss = 0.0
        totals: dict[str, np.ndarray] = {}
        for _ in range(batches):
            action = self._asked_action()
            if Action.SNAPSHOT in action:
                self.snapshot()
            if Action.STOP in action:
                self.stopped = True
                return None
            loss += self._forward(net)
            for name in net.outputs:
                data = net.blobs[name].data.astype(np.float64)
                total = totals.setdefault(name, np.zeros_like(data))
                if total.shape != data.shape:
                    shapes = f"{total.shape} and {data.shape}"
                    raise BlobnetError(f'test output "{name}" has shapes {shapes} in two batches, so it has no mean')
                total += data
        means = {name: total / batches for name, total in totals.items()}
        return TestResult(_outputs(net, means), loss / batches if self.param.test_compute_loss else None)

    # Snapshots

    def snapshot(self) -> snapshots.Paths:
        """Write the weights and everything else that is needed to go on exactly from here."""
        self._snapshot_iter = self.iter
        hdf5 = self.param.snapshot_format == pb.SolverParameter.HDF5
        paths = snapshots.paths(self._prefix(), self.iter, hdf5)
        resume = {
            "type": self.type,
            "losses": list(self._losses),
            "train_net": self.net.state(),
            "test_nets": self._states_before_test or [net.state() for net in self.test_nets],
        }
        state = snapshots.State(self.iter, str(paths.model), self.current_step, self.history, resume)
        snapshots.write(paths, self.net, state, hdf5, self.param.snapshot_diff)
        self._tell("on_snapshot", *paths)
        return paths

    def restore(self, path: str | Path) -> None:
        """Go on from a solverstate, Caffe's or our own, binary or HDF5, and from the weights that it names."""
        state = snapshots.read(path)
        self._check_state(state, str(path))
        model = snapshots.find_model(state, Path(path))
        if model is not None:
            self.net.copy_trained_layers_from(model)
        for history, restored in zip(self.history, state.history, strict=True):
            history[...] = restored.reshape(history.shape)
        self.iter, self.current_step = state.iteration, state.current_step
        self._snapshot_iter = self.iter
        self._restore_exactly(state.resume, str(path))
        log.info("%s: going on from iteration %d", path, self.iter)

    def _check_state(self, state: snapshots.State, path: str) -> None:
        if state.resume is not None and state.resume.get("type") != self.type:
            raise BlobnetError(
                f"was written by a solver of type {state.resume.get('type')}; this one is {self.type}", file=path
            )
        counts = len(state.history), len(self.history)
        if counts[0] != counts[1]:
            raise BlobnetError(
                f"holds {counts[0]} history blobs; {self.type} needs {counts[1]} for this net", file=path
            )
        for index, (found, own) in enumerate(zip(state.history, self.history, strict=True)):
            if not snapshots.same_shape(found.shape, own.shape):
                raise BlobnetError(
                    f"holds history blob {index} with shape {found.shape}; this net needs {own.shape}", file=path
                )

    def _restore_exactly(self, resume: dict[str, Any] | None, path: str) -> None:
        """Losses, random streams and data positions: what Caffe's own solverstate lacks."""
        if resume is None:
            log.info("%s: holds no random state, data positions or losses, as Caffe wrote it; these start over", path)
            return
        try:
            self._losses.extend(map(float, resume["losses"]))
            self.net.restore(resume["train_net"])
            for net, states in zip(self.test_nets, resume["test_nets"], strict=True):
                net.restore(states)
        except (KeyError, TypeError, ValueError) as error:
            raise BlobnetError(f"its layer states do not fit the layers of this net: {error}", file=path) from error

    def _prefix(self) -> Path:
        if self.snapshot_prefix is None:
            raise error_at(self.param, "snapshot_prefix must be given: it names the snapshots")
        return self.snapshot_prefix


def _outputs(net: Net, values: dict[str, np.ndarray]) -> list[Output]:
    flat = [(name, float(value)) for name, array in values.items() for value in array.flat]
    return [Output(name, index, value, net.loss_weights.get(name, 0.0)) for index, (name, value) in enumerate(flat)]
