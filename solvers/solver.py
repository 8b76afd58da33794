"""The training loop, in Caffe's order: test, accumulate gradients, display, update, snapshot.

A subclass is one update rule. Whatever concerns terminals, logs and signals reaches the loop as callbacks.
"""

import collections
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from blobnet import buffers
from blobnet import snapshot as snapshots
from blobnet import snapshot_folder as folder
from blobnet.budget import Budget
from blobnet.context import Context
from blobnet.errors import BlobnetError, error_at
from blobnet.kernels import update
from blobnet.kernels.parallel import parallel_for
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.replay import Replay
from blobnet.solvers import debug, epochs, lr_policies, memory, nets, resume, scoring
from blobnet.solvers.callbacks import Action, Callback, DisplayRecord, TestResult
from blobnet.solvers.clipping import clip_factor
from blobnet.solvers.guards import Guard, NotFinite
from blobnet.solvers.watch import Plateau, watches
from blobnet.streams import new_seed

log = logging.getLogger("blobnet")

_MOST_ROLLBACKS = 3  # to one snapshot


class Solver:
    """Trains a net as its SolverParameter says.

    kernel         the update rule, called as ``kernel(start, stop, data, diff, *history, scalars)`` on flat arrays
                   (see ``kernels.update``)
    history_count  arrays of history that the rule keeps for each learnable blob

    lean            the nets share buffers: between passes, only weights, inputs and outputs are worth a look. The
                    training has the same bits either way
    net, test_nets  the test nets share the weights of the train net
    iter            how often the weights have been updated
    lr              learning rate of the latest update
    history         ``history_count`` arrays for each learnable blob: the first ones of all blobs, then the second
    losses          of the latest average_loss iterations
    snapshots       iterations of the snapshots of this training that are kept, the latest one last
    watches         what follows test outputs, by the field that asks for it
    stopped         a callback or a watch asked to stop
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
        untrusted: bool = False,
        lean: bool = False,
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
            untrusted=untrusted,
            budget=Budget(weight_copies=2 + self.history_count),
        )
        self.check()
        self.snapshot_prefix = folder.prefix(param, context)
        self.net = nets.train_net(param, context)
        self.test_nets = nets.test_nets(param, context, self.net)
        if lean:
            buffers.make_lean(self.net, self.test_nets)
        memory.check(self.net, self.test_nets, context.budget.weight_copies)
        self._check_regularization()
        self.param = epochs.with_end(param, self.net)
        self.history = [
            np.zeros(blob.shape, blob.dtype) for _ in range(self.history_count) for blob in self.net.learnable_params
        ]
        self.iter = 0
        self.current_step = 0
        self.lr = 0.0
        self.stopped = False
        self.losses: collections.deque[float] = collections.deque(maxlen=param.average_loss)
        self.snapshots: list[int] = []
        self.watches = watches(param, self.test_nets)
        self._guard = Guard(param, self.net)
        params = self.net.learnable_params
        self._scalars = np.empty((len(params), update.CONSTANTS + len(self.constants())), context.dtype)
        self._update = Replay(params)
        self._display_time = time.monotonic()
        self._snapshot_iter: int | None = None
        self._last_state: Path | None = None
        self._missed: BlobnetError | None = None
        self._rollbacks = 0
        self._before_test: dict[str, Any] | None = None

    # What a subclass adds

    def check(self) -> None:
        """Refuse a SolverParameter that the solver cannot follow."""
        lr_policies.check(self.param)
        for field in ("iter_size", "average_loss"):
            value = getattr(self.param, field)
            self.require(value >= 1, f"{field} must be 1 or more; got {value}", field)
        for field in ("max_epoch", "snapshot_keep"):
            value = getattr(self.param, field)
            self.require(value >= 0, f"{field} must be 0 or more; got {value}", field)

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
        """Train until max_iter or until something asks to stop; then snapshot, and test and display where due.

        A snapshot that cannot be written is a warning, and an error at the end where no later one could be.
        """
        self.require(self.param.HasField("max_iter"), "max_iter or max_epoch must be given: it ends the training", "")
        if resume is not None:
            self.restore(resume)
        with contextlib.ExitStack() as stack:
            if self.param.snapshot or self.param.snapshot_after_train:
                stack.enter_context(folder.prepared(self._prefix(), self.iter))
            self._train()

    def _train(self) -> None:
        self._tell("on_start")
        self.step(self.param.max_iter - self.iter)
        if self.param.snapshot_after_train and self._snapshot_iter != self.iter:
            self._try_snapshot()
        if not self.stopped and self._due(self.param.test_interval):
            self.test_all()
        if not self.stopped and self._due(self.param.display):
            self.losses.append(self._forward(self.net))
            self._display()
        self._tell("on_finish")
        if self._missed is not None:
            raise BlobnetError(f"the last snapshot is missing: {self._missed}")

    def step(self, iterations: int) -> None:
        """Train for a number of iterations, or until a callback asks to stop."""
        self.stopped = False
        self._display_time = time.monotonic()
        stop = self.iter + iterations
        while self.iter < stop and not self.stopped:
            try:
                self._iterate()
            except NotFinite as fault:
                if self.param.on_nan != "rollback":
                    raise
                self._roll_back(fault)

    def _iterate(self) -> None:
        self.net.clear_param_diffs()
        if self._due(self.param.test_interval) and (self.iter > 0 or self.param.test_initialization):
            self.test_all()
            if self.stopped:
                return
        display = self._due(self.param.display)
        with debug.logged(self.net, display and self.param.debug_info):
            loss = self._accumulate_gradients()
        self.losses.append(loss)
        if isinstance(plateau := self.watches.get("plateau"), Plateau):
            plateau.on_loss(self, self._mean_loss())
        self._set_learning_rate()
        if display:
            self._display()
        self._tell("on_gradients")
        self._update_weights()
        self._tell("on_iteration", loss)
        action = self._asked_action()
        if Action.SNAPSHOT in action or self._due(self.param.snapshot):
            self._try_snapshot()
        self.stopped = Action.STOP in action

    def _accumulate_gradients(self) -> float:
        """Sum the gradients of iter_size passes into the param diffs; returns the mean loss."""
        loss = 0.0
        for _ in range(self.param.iter_size):
            batch_loss = self._forward(self.net)
            self.net.backward_from_to(len(self.net.layers) - 1, 0)
            self._guard.check(batch_loss, self.iter)
            loss += batch_loss
        return loss / self.param.iter_size

    def _forward(self, net: Net) -> float:
        self._tell("on_forward", net)
        return net.forward_from_to(0, len(net.layers) - 1)

    def _due(self, interval: int) -> bool:
        return interval > 0 and self.iter % interval == 0

    def _tell(self, event: str, *args: Any) -> None:
        for callback in (*self.callbacks, *self.watches.values()):
            getattr(callback, event)(self, *args)

    def _asked_action(self) -> Action:
        asked = Action.NONE
        for callback in self.callbacks:
            asked |= callback.action(self)
        return asked

    def _display(self) -> None:
        now = time.monotonic()
        outputs = scoring.outputs(self.net, {name: self.net.blobs[name].data for name in self.net.outputs})
        record = DisplayRecord(self.iter, self._mean_loss(), outputs, self.lr, now - self._display_time)
        self._display_time = now
        self._tell("on_display", record)

    def _mean_loss(self) -> float:
        return sum(self.losses) / len(self.losses)

    # Updating

    def apply_update(self) -> None:
        """Update the weights from the gradients in the param diffs, which then hold what was subtracted."""
        self._set_learning_rate()
        self._update_weights()

    def _set_learning_rate(self) -> None:
        self.lr, self.current_step = lr_policies.learning_rate(self.param, self.iter, self.current_step)

    def _update_weights(self) -> None:
        params = self.net.learnable_params
        gradients = [blob.gradient for blob in params]  # what was cleared is zeros now, also for a recording

        def update_all() -> None:
            for index, (blob, gradient, scalars) in enumerate(zip(params, gradients, self._scalars, strict=True)):
                arrays = [blob.data, gradient, *self.history[index :: len(params)]]
                flat = [array.reshape(-1) for array in arrays]
                parallel_for(type(self).kernel, blob.count, *flat, scalars, grain=update.GRAIN)

        self._set_scalars()
        self._update.run(update_all)
        self.iter += 1

    @np.errstate(over="ignore")
    def _set_scalars(self) -> None:
        """What the kernel takes for each learnable blob."""
        scale = clip_factor(self.param, self.net.learnable_params) / self.param.iter_size
        kind, decays = self.param.regularization_type, np.array(self._decays())
        l2, l1 = (decays if kind == wanted else 0 for wanted in ("L2", "L1"))
        rates = self.step_size() * np.array(self.net.params_lr)
        for column, values in zip(self._scalars.T, (scale, l2, l1, rates, *self.constants()), strict=True):
            column[...] = values

    def _decays(self) -> list[float]:
        """The weight decay of each learnable blob."""
        return [self.param.weight_decay * decay_mult for decay_mult in self.net.params_weight_decay]

    def _check_regularization(self) -> None:
        kind = self.param.regularization_type
        self.require(
            kind in ("L1", "L2") or not any(self._decays()),
            f'regularization_type must be L1 or L2; got "{kind}"',
            "regularization_type",
        )

    # Testing

    def test_all(self) -> list[TestResult]:
        """Run every test net over its test_iter batches, or once over its data where test_iter is left out.

        Fewer results come when a callback asks to stop.
        """
        results: list[TestResult] = []
        self._before_test = resume.moment(self)
        for index, net in enumerate(self.test_nets):
            with debug.logged(net, self.param.debug_info):
                result = self._test(index, net)
            if result is None:
                return results
            results.append(result)
            self._tell("on_test", index, result.outputs, result.loss)
        if not self.stopped:
            self._before_test = None
        return results

    def _test(self, index: int, net: Net) -> TestResult | None:
        """Means over the batches; None when a callback asked to stop."""
        means = scoring.Means()
        for weight in self._batch_weights(index, net):
            action = self._asked_action()
            if Action.SNAPSHOT in action:
                self._try_snapshot()
            if Action.STOP in action:
                self.stopped = True
                return None
            means.add(net, self._forward(net), weight)
        return means.result(net, self.param.test_compute_loss)

    def _batch_weights(self, index: int, net: Net) -> list[int]:
        """What each batch of a test counts."""
        if nets.whole_passes(self.param):
            return epochs.pass_weights(net, self.param, "test_iter")
        return [1] * self.param.test_iter[index]

    # Snapshots

    def snapshot(self) -> snapshots.Paths:
        """Write the weights and everything else that is needed to go on exactly from here."""
        self._snapshot_iter = self.iter
        paths = folder.paths(self._prefix(), self.iter, self._as_hdf5)
        kept = [*(iteration for iteration in self.snapshots if iteration != self.iter), self.iter]
        now = {**(self._before_test or resume.moment(self)), "snapshots": kept}
        state = snapshots.State(self.iter, str(paths.model), self.current_step, self.history, now)
        snapshots.write(paths, self.net, state, self._as_hdf5, self.param.snapshot_diff)
        self.snapshots, self._last_state, self._missed, self._rollbacks = kept, paths.state, None, 0
        self._remove_old_snapshots()
        self._tell("on_snapshot", *paths)
        return paths

    def _remove_old_snapshots(self) -> None:
        if self.param.snapshot_keep:
            folder.remove(self._prefix(), self.snapshots[: -self.param.snapshot_keep])
            del self.snapshots[: -self.param.snapshot_keep]

    def save_best(self) -> None:
        """Write the weights as those of the best test so far."""
        with self._misses():
            folder.write_best(self._prefix(), self.net, self._as_hdf5)

    def _try_snapshot(self) -> None:
        self._guard.check_weights(self.iter)
        with self._misses():
            self.snapshot()

    @contextlib.contextmanager
    def _misses(self) -> Iterator[None]:
        """Training goes on without what cannot be written."""
        try:
            yield
        except BlobnetError as error:
            self._missed = error
            log.warning("Iteration %d: no snapshot, training goes on: %s", self.iter, error)

    @property
    def _as_hdf5(self) -> bool:
        return self.param.snapshot_format == pb.SolverParameter.HDF5

    def restore(self, path: str | Path, weights: str | Path | None = None) -> None:
        """Go on from a solverstate, Caffe's or our own, binary or HDF5, and from the weights written with it.

        weights  other weights to go on with, such as changed ones
        """
        state = snapshots.read(path)
        resume.check(self, state, str(path))
        model = weights or snapshots.model_of(state, Path(path))
        if model is not None:
            resume.load_weights(self.net, model)
        for history, restored in zip(self.history, state.history, strict=True):
            history[...] = restored.reshape(history.shape)
        self.iter, self.current_step = state.iteration, state.current_step
        self._snapshot_iter, self._last_state = self.iter, Path(path)
        resume.restore(self, state.resume, str(path))
        if folder.holds(self.snapshot_prefix, Path(path)):
            self._remove_old_snapshots()
        else:
            self.snapshots.clear()
        log.info("%s: going on from iteration %d", path, self.iter)

    def newest_snapshot(self) -> Path | None:
        """The solverstate of the newest whole snapshot under snapshot_prefix, None where there is none."""
        return folder.newest(self._prefix())

    def _roll_back(self, fault: NotFinite) -> None:
        """Go on from the last snapshot with other batches: layers without bottoms stay where they are."""
        self._rollbacks += 1
        if self._last_state is None:
            raise BlobnetError(f"{fault}; there is no snapshot yet to roll back to") from fault
        if self._rollbacks > _MOST_ROLLBACKS:
            raise BlobnetError(f"{fault}; rolled back {_MOST_ROLLBACKS} times to {self._last_state}") from fault
        log.warning("%s; rolling back to %s", fault, self._last_state)
        layers = zip(self.net.layers, self.net.bottoms, strict=True)
        sources = [(layer, layer.state()) for layer, bottoms in layers if not bottoms]
        self.restore(self._last_state)
        for layer, state in sources:
            layer.restore(state)

    def _prefix(self) -> Path:
        if self.snapshot_prefix is None:
            raise error_at(self.param, "snapshot_prefix must be given: it names the snapshots")
        return self.snapshot_prefix
