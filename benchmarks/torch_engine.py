"""PyTorch as an engine, eager, images in the memory format that is asked for."""

from pathlib import Path

import numpy as np
import torch

from benchmarks import jobs
from benchmarks.torch_net import TorchNet

FORMATS = {"torch": torch.contiguous_format, "torch channels_last": torch.channels_last}
SHORT = {"torch": "NCHW", "torch channels_last": "NHWC"}


class Training:
    """A training step: forward, backward, the fused SGD with momentum and weight decay."""

    def __init__(self, folder: Path, rate: float, momentum: float, decay: float, threads: int, variant: str):
        torch.set_num_threads(threads)
        job = jobs.read(folder)
        self._net = TorchNet(job.param, job.weights).to(memory_format=FORMATS[variant])
        self._inputs = [_tensor(job.inputs[name], FORMATS[variant]) for name in self._net.inputs]
        groups = self._net.parameter_groups(rate, decay)
        self._optimizer = torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=True)

    def first_loss(self) -> float:
        """The loss of the weights as they are, nothing dropped out."""
        dropouts = [module for module in self._net.modules() if isinstance(module, torch.nn.Dropout)]
        for module in dropouts:
            module.eval()
        with torch.no_grad():
            loss = self._net(*self._inputs).item()
        self._net.train()
        return loss

    def run(self, task: str) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._net(*self._inputs)
        loss.backward()
        self._optimizer.step()
        loss.item()


def _tensor(array, memory_format: torch.memory_format) -> torch.Tensor:
    """Images in their format; labels (one axis) as the integers that PyTorch wants."""
    tensor = torch.from_numpy(array)
    if tensor.ndim == 1:
        return tensor.long()
    return tensor.contiguous(memory_format=memory_format) if tensor.ndim == 4 else tensor


class Unit:
    """A unit in training; tasks are ``forward``, ``backward``, ``to data`` and ``to weights``."""

    def __init__(self, folder: Path, propagate: bool, threads: int, variant: str):
        torch.set_num_threads(threads)
        job = jobs.read(folder)
        self._net = TorchNet(job.param, job.weights).to(memory_format=FORMATS[variant])
        self._inputs = [_tensor(job.inputs[name], FORMATS[variant]) for name in self._net.inputs]
        bottoms = [tensor.requires_grad_() for tensor in self._inputs if propagate and tensor.is_floating_point()]
        params = list(self._net.parameters())
        self._sought = {"backward": [*bottoms, *params], "to data": bottoms, "to weights": params}
        self._top = self._net(*self._inputs)
        self._diff = _tensor(jobs.gradient(self._top.shape), FORMATS[variant]) if self._top.ndim else None

    def run(self, task: str) -> list[torch.Tensor]:
        if task == "forward":
            return [self._net(*self._inputs)]
        return torch.autograd.grad(self._top, self._sought[task], self._diff, retain_graph=True)

    def results(self, tasks: list[str]) -> list[np.ndarray]:
        """The top, and the gradients that the tasks make."""
        return [tensor.detach().numpy() for task in tasks for tensor in self.run(task)]


class Lstm:
    """``torch.nn.LSTM`` with the weights of an LSTM layer; tasks are ``forward`` and ``backward``."""

    def __init__(self, folder: Path, threads: int):
        torch.set_num_threads(threads)
        job = jobs.read(folder)
        self._x = torch.from_numpy(job.inputs["x"]).requires_grad_()
        input_weight, bias, recurrent_weight = (_other_order(array) for array in job.weights["lstm"])
        self._net = torch.nn.LSTM(input_weight.shape[1], recurrent_weight.shape[1])
        loaded = (input_weight, recurrent_weight, bias, np.zeros_like(bias))  # PyTorch adds two biases
        for parameter, array in zip(self._net.parameters(), loaded, strict=True):
            parameter.data = torch.from_numpy(array)
        self._top = self._net(self._x)[0]
        self._diff = torch.from_numpy(jobs.gradient(self._top.shape))
        self._sought = [self._x, *self._net.parameters()]

    def run(self, task: str) -> list[torch.Tensor]:
        if task == "forward":
            return [self._net(self._x)[0]]
        return torch.autograd.grad(self._top, self._sought, self._diff, retain_graph=True)

    def results(self, tasks: list[str]) -> list[np.ndarray]:
        """The top and the gradients, those of the weights in Caffe's order."""
        top = self.run("forward")[0].detach().numpy()
        x, *weights = (gradient.numpy() for gradient in self.run("backward"))
        input_weight, recurrent_weight, bias, _ = (_other_order(array) for array in weights)
        return [top, x, input_weight, bias, recurrent_weight]


def _other_order(array: np.ndarray) -> np.ndarray:
    """Rows of the gates i, f, o, g (Caffe) as i, f, g, o (PyTorch), or the other way round."""
    first, second, third, fourth = np.split(array, 4)
    return np.concatenate([first, second, fourth, third])
