"""blobnet as an engine."""

from pathlib import Path

import numpy as np

import blobnet
from benchmarks import jobs
from blobnet import roofline, solvers
from blobnet.kernels import limits
from blobnet.proto import blobnet_pb2 as pb


class Training:
    """A training step: forward, backward, SGD with momentum and weight decay."""

    def __init__(self, folder: Path, rate: float, momentum: float, decay: float):
        job = jobs.read(folder)
        param = pb.SolverParameter(
            net_param=job.param,
            type="SGD",
            base_lr=rate,
            lr_policy="fixed",
            momentum=momentum,
            weight_decay=decay,
            random_seed=1,
        )
        self._solver = solvers.create(param, lean=True)
        self._net = self._solver.net
        self._net.copy_trained_layers_from(job.weights)
        for name, array in job.inputs.items():
            self._net.set_input(name, array)

    def first_loss(self) -> float:
        """The loss of the weights as they are, nothing dropped out."""
        dropouts = [layer for layer in self._net.layers if layer.type == "Dropout"]
        for layer in dropouts:
            layer.phase = pb.TEST
        loss = self._net.forward_from_to(0, len(self._net.layers) - 1)
        for layer in dropouts:
            layer.phase = pb.TRAIN
        return loss

    def run(self, task: str) -> None:
        self._solver.step(1)


class Prediction:
    """A forward pass of a net that only predicts, frozen."""

    def __init__(self, folder: Path):
        job = jobs.read(folder)
        self._net = blobnet.Net(job.param, blobnet.TEST, weights=job.weights)
        self._net.freeze()
        for name, array in job.inputs.items():
            self._net.set_input(name, array)

    def run(self, task: str) -> None:
        self._net.forward_from_to(0, len(self._net.layers) - 1)

    def output(self) -> np.ndarray:
        self.run("predict")
        return self._net.blobs[self._net.outputs[0]].data


class Unit:
    """A unit in training; tasks are ``forward``, ``backward``, ``to data`` and ``to weights``."""

    def __init__(self, folder: Path, propagate: bool):
        job = jobs.read(folder)
        self._inputs = job.inputs
        self._net = blobnet.Net(job.param, blobnet.TRAIN, weights=job.weights)
        self._net.fuse(lean=True)
        self._first = len(self._net.inputs)
        self._last = len(self._net.layers) - 1
        self._bottoms = [self._net.blobs[name] for name in self._net.inputs]
        self._planned = [
            [want and (propagate or blob not in self._bottoms) for blob, want in zip(bottom, wanted, strict=True)]
            for bottom, wanted in zip(self._net.bottoms, self._net.bottom_need_backward, strict=True)
        ]
        self.run("forward")
        self._top = self._net.tops[self._last][0]
        if not self._net.layers[self._last].loss:
            self._top.diff[...] = jobs.gradient(self._top.shape)

    def run(self, task: str) -> None:
        if task == "forward":
            self._net.forward_from_to(self._first, self._last)
        else:
            self._select(task)
            self._net.backward_from_to(self._last, self._first)

    def _select(self, task: str) -> None:
        """Have the layers make the gradients of a task."""
        for index in range(self._first, self._last + 1):
            planned = self._planned[index]
            self._net.bottom_need_backward[index] = [wanted and task != "to weights" for wanted in planned]
            flags = self._net.layers[index].param_propagate_down
            flags[:] = [task != "to data"] * len(flags)

    def work(self, task: str) -> roofline.Work:
        """What the task amounts to."""
        self._select(task)
        counted = roofline.forward if task == "forward" else roofline.backward
        work = [counted(self._net, step) for step in self._net.steps if step[0] >= self._first]
        return roofline.Work(sum(part.flops for part in work), sum(part.bytes for part in work))

    def results(self, tasks: list[str]) -> list[np.ndarray]:
        """The top, and the gradients that the tasks make."""
        self._net.clear_param_diffs()
        for name, array in self._inputs.items():
            self._net.set_input(name, array)
        for task in tasks:
            self.run(task)
        pairs = [pair for own in zip(self._net.bottoms, self._planned, strict=True) for pair in zip(*own, strict=True)]
        learned = [layer for layer in self._net.layers if layer.type != "BatchNorm"]
        return [
            self._top.data,
            *(blob.diff for blob, planned in pairs if planned and blob in self._bottoms),
            *(blob.diff for layer in learned for blob in layer.blobs),
        ]


class Machine:
    """The limits of the machine."""

    def limits(self) -> limits.Limits:
        return limits.measure()
