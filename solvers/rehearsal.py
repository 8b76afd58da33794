"""The rehearsal of a training: another process compiles its kernels while the training waits for the first of them.

Kernels are compiled when first called, one after the other on one core. The other process builds the train net with
inputs in the place of what reads files or runs a user's code, goes through an iteration in which no kernel runs, and
compiles what it would have called, the last kernel first. The training comes from the other end: it loads what is
there and compiles the rest, so that nothing depends on how far the rehearsal has got.
"""

import subprocess
import sys
import threading

import numpy as np
from google.protobuf.message import Message
from numba.core.dispatcher import Dispatcher

from blobnet.kernels import parallel
from blobnet.kernels.finite import all_finite
from blobnet.layers.base import Layer
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.solvers.registry import create
from blobnet.solvers.solver import Solver


def start(solver: Solver) -> subprocess.Popen:
    """The other process, which ends when everything is compiled and may be killed at any time."""
    program = f"import sys; sys.path[:] = {sys.path}; from blobnet.solvers import rehearsal; rehearsal.main()"
    command, nowhere = [sys.executable, "-c", program], subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)
    told = script(solver).SerializeToString()
    threading.Thread(target=process.communicate, args=(told,), daemon=True).start()
    return process


def main() -> None:
    """What the other process does."""
    for function, types in reversed(rehearse(pb.SolverParameter.FromString(sys.stdin.buffer.read()))):
        function.compile(types)


def rehearse(param: pb.SolverParameter) -> list[tuple[Dispatcher, tuple]]:
    """The compiled functions that an iteration calls, with the types of their arguments, in order.

    What arrays hold is what no kernel has written, be it anything.
    """
    solver = create(param, lean=True)
    with np.errstate(all="ignore"), parallel.rehearsed() as calls:
        solver.net.clear_param_diffs()
        solver.net.forward_backward()
        for blob in solver.net.learnable_params:
            all_finite(blob.gradient)  # as the solver's guard looks at them
        solver.apply_update()
    return list(calls)


def script(solver: Solver) -> pb.SolverParameter:
    """A solver whose iterations call the same kernels, without files; its weights are zeros, in memory not yet used."""
    param = solver.param
    told = pb.SolverParameter(type=param.type, lr_policy="fixed", base_lr=1, clip_gradients=param.clip_gradients)
    told.source_info.file = param.source_info.file
    told.train_net_param.force_backward = solver.net.param.force_backward
    for layer in solver.net.layers:
        if layer.param.top:
            told.train_net_param.layer.append(_part(layer, solver.net))
    return told


def _part(layer: Layer, net: Net) -> pb.LayerParameter:
    """What stands for the layer: the same without fillers, or an input."""
    part = pb.LayerParameter()
    if layer.param.bottom and layer.type != "Python" and layer.is_own:
        part.CopyFrom(layer.param)
        _clear_fillers(part)
    else:
        part.name, part.type = layer.name, "Input"
        part.top.extend(layer.param.top)
        for name in part.top:
            part.input_param.shape.add(dim=net.blobs[name].shape)
    return part


def _clear_fillers(message: Message) -> None:
    for field, value in message.ListFields():
        if field.message_type is pb.FillerParameter.DESCRIPTOR:
            message.ClearField(field.name)
        elif isinstance(value, Message):
            _clear_fillers(value)
