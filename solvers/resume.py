"""Exact resume: all that a solver's next iterations depend on besides the weights, and whether a snapshot fits."""

import itertools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blobnet import snapshot
from blobnet.errors import BlobnetError
from blobnet.io.weights import read_weights
from blobnet.net import Net

if TYPE_CHECKING:
    from blobnet.solvers.solver import Solver

log = logging.getLogger("blobnet")


def moment(solver: "Solver") -> dict[str, Any]:
    """Data positions, random streams, carried-over states, losses, and what the watches have seen."""
    return {
        "type": solver.type,
        "lr": solver.lr,
        "losses": list(solver.losses),
        "snapshots": list(solver.snapshots),
        "watches": {name: watch.state() for name, watch in solver.watches.items()},
        "layers": solver.net.layer_names,
        "train_net": solver.net.state(),
        "test_nets": [net.state() for net in solver.test_nets],
    }


def restore(solver: "Solver", resume: dict[str, Any] | None, path: str) -> None:
    """Take up what ``moment`` has held. Test nets and watches that the snapshot does not know start over."""
    if resume is None:
        text = "%s: holds no random state, data positions or losses, as Caffe wrote it; these start over"
        log.info(f"{text}. Nor does it say the solver's type: be sure that it is {solver.type}", path)
        return
    try:
        solver.lr = float(resume["lr"])
        solver.losses.clear()
        solver.losses.extend(map(float, resume["losses"]))
        solver.snapshots[:] = map(int, resume["snapshots"])
        for name, watch in solver.watches.items():
            if name in resume["watches"]:
                watch.restore(resume["watches"][name])
        solver.net.restore(resume["train_net"])
        _restore_test_nets(solver, resume["test_nets"], path)
    except (KeyError, TypeError, ValueError) as error:
        raise BlobnetError(f"its layer states do not fit the layers of this net: {error}", file=path) from error


def _restore_test_nets(solver: "Solver", states: list[list[dict[str, Any]]], path: str) -> None:
    if [len(state) for state in states] != [len(net.layers) for net in solver.test_nets]:
        log.info("%s: was written with other test nets; their data and random numbers start over", path)
        return
    for net, state in zip(solver.test_nets, states, strict=True):
        net.restore(state)


def check(solver: "Solver", state: snapshot.State, path: str) -> None:
    """Refuse the state of another solver type or net."""
    if state.resume is not None:
        _check_type(solver, state.resume.get("type"), path)
        _check_layers(solver.net.layer_names, state.resume.get("layers"), path)
    counts = len(state.history), len(solver.history)
    if counts[0] != counts[1]:
        raise BlobnetError(f"holds {counts[0]} history blobs; {solver.type} needs {counts[1]} for this net", file=path)
    for index, (found, own) in enumerate(zip(state.history, solver.history, strict=True)):
        if not snapshot.same_shape(found.shape, own.shape):
            text = f"holds history blob {index} with shape {found.shape}; this net needs {own.shape}"
            raise BlobnetError(text, file=path)


def _check_type(solver: "Solver", written: Any, path: str) -> None:
    if written != solver.type:
        raise BlobnetError(f"was written by a solver of type {written}; this one is {solver.type}", file=path)


def _check_layers(own: list[str], written: Any, path: str) -> None:
    if not isinstance(written, list):
        raise BlobnetError("its resume field is damaged: it names no layers", file=path)
    if written == own:
        return
    there = _some(name for name in written if name not in own)
    here = _some(name for name in own if name not in written)
    raise BlobnetError(
        f"was written for another net: layers only there: {there}; only here: {here}; "
        "to train this net from those weights, give the caffemodel as weights instead",
        file=path,
    )


def load_weights(net: Net, path: str | Path) -> None:
    """Copy the weights of a snapshot into the net it was made of; an error where one of the two has more layers."""
    arrays = read_weights(path)
    learning = {layer.name for layer in net.layers if layer.blobs}
    missing = learning - arrays.keys()
    unknown = {name for name, given in arrays.items() if any(array is not None for array in given)} - learning
    if missing or unknown:
        there, here = _some(sorted(unknown)), _some(sorted(missing))
        text = f"holds the weights of another net: layers only there: {there}; only here: {here}"
        raise BlobnetError(text, file=str(path))
    try:
        net.copy_trained_layers_from(arrays)
    except BlobnetError as error:
        raise BlobnetError(f"its weights do not fit this net: {error}", file=str(path)) from error


def _some(names: Iterable[Any]) -> str:
    """The first few names, for an error text."""
    first = [f'"{name}"' for name in itertools.islice(names, 6)]
    return ", ".join([*first[:5], "..."] if len(first) > 5 else first) or "none"
