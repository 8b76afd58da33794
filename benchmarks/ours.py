"""blobnet as an engine."""

from pathlib import Path

import numpy as np

import blobnet
from benchmarks import jobs
from blobnet import solvers
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
        self._solver = solvers.create(param)
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
    """A forward pass of a net that only predicts."""

    def __init__(self, folder: Path):
        job = jobs.read(folder)
        self._net = blobnet.Net(job.param, blobnet.TEST, weights=job.weights)
        for name, array in job.inputs.items():
            self._net.set_input(name, array)

    def run(self, task: str) -> None:
        self._net.forward_from_to(0, len(self._net.layers) - 1)

    def output(self) -> np.ndarray:
        self.run("predict")
        return self._net.blobs[self._net.outputs[0]].data
