"""The rehearsal of a training: another process compiles its kernels while the training waits for the first of them.

Kernels are compiled when first called, one after the other on one core. The other process builds the train net with
inputs in the place of what reads files or runs a user's code, goes through an iteration in which no kernel runs, and
compiles what it would have called, beginning with the second half of it. The training begins with the first: it loads
what is there and compiles the rest, so that nothing depends on how far the rehearsal has got.
"""

import bisect
import itertools
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from blobnet.fillers import clear_fillers
from blobnet.kernels import parallel
from blobnet.kernels._jit import Kernel
from blobnet.layers.base import Layer
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.solvers.guards import Gradients
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
    calls = rehearse(pb.SolverParameter.FromString(sys.stdin.buffer.read()))
    for index in order([_size(start.kernel) for start, _ in calls]):
        start, types = calls[index]
        start.compile(types)


def order(sizes: Sequence[int]) -> list[int]:
    """In which order to compile what the training compiles from the first to the last.

    First the one in the middle, if it is ready when the training comes to it, then those behind it, then those before
    it from the last to the first. Of those behind it the largest come first: a large one left to the end, one of the
    two would be at it alone.
    """
    if not sizes:
        return []
    ends = list(itertools.accumulate(sizes))
    middle = bisect.bisect_left(ends, ends[-1] / 2)
    behind = sorted(range(middle + 1, len(sizes)), key=lambda index: (sizes[index], index), reverse=True)
    before = list(reversed(range(middle)))
    in_time = sizes[middle] < ends[middle] - sizes[middle]
    return [middle, *behind, *before] if in_time else [*behind, middle, *before]


def _size(kernel: Kernel) -> int:
    """How many bytes of Python's code the kernel and all that it calls have: the time to compile it goes by them."""
    found: set[Kernel] = set()
    pending = [kernel]
    while pending:
        function = pending.pop()
        if function not in found:
            found.add(function)
            known = [function.py_func.__globals__.get(name) for name in function.py_func.__code__.co_names]
            pending += [called for called in known if isinstance(called, Kernel)]
    return sum(len(function.py_func.__code__.co_code) for function in found)


def rehearse(param: pb.SolverParameter) -> list[tuple[Any, tuple]]:
    """What starts the regions that an iteration calls, with the types of its arguments, in order.

    What arrays hold is what no kernel has written, be it anything.
    """
    solver = create(param, lean=True)
    with np.errstate(all="ignore"), parallel.rehearsed() as calls:
        solver.net.clear_param_diffs()
        solver.net.forward_backward()
        Gradients(solver.net).all_finite()
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
        clear_fillers(part)
    else:
        part.name, part.type = layer.name, "Input"
        part.top.extend(layer.param.top)
        for name in part.top:
            part.input_param.shape.add(dim=net.blobs[name].shape)
    return part
