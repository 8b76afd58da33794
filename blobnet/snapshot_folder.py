"""The snapshots of one prefix in their folder: names, the newest whole pair, what to sweep out and what to keep."""

import contextlib
import glob
import logging
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from blobnet import snapshot
from blobnet.context import Context
from blobnet.errors import BlobnetError
from blobnet.io import files
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

log = logging.getLogger("blobnet")


class Found(NamedTuple):
    """A solverstate in the folder."""

    iteration: int
    state: Path


def prefix(param: pb.SolverParameter, context: Context) -> Path | None:
    """Where the names of snapshots begin: ``snapshot_prefix``, which may be a folder, else the solver's file.

    A folder is looked up in the working folder, else beside the solver's file. None where nothing names one.
    """
    named, file = param.snapshot_prefix, param.source_info.file
    if not named:
        return Path(file).with_suffix("") if file else None
    if named.endswith("/") or context.place(named).is_dir():
        return context.place(named) / Path(file or "solver").stem
    return context.place(str(Path(named).parent)) / Path(named).name


def paths(prefix: Path, iteration: int, as_hdf5: bool) -> snapshot.Paths:
    ending = ".h5" if as_hdf5 else ""
    stem = f"{prefix.name}_iter_{iteration}"
    return snapshot.Paths(
        prefix.with_name(f"{stem}.caffemodel{ending}"), prefix.with_name(f"{stem}.solverstate{ending}")
    )


@contextlib.contextmanager
def prepared(prefix: Path, iteration: int) -> Iterator[None]:
    """The folder, for a training that runs in the block: made, swept, writable, and no other training's meanwhile.

    Snapshots of later iterations than that of the start are another training's: a warning.
    """
    if prefix.parent.exists() and not prefix.parent.is_dir():
        text = "a file, where snapshot_prefix asks for a folder; move it away, or give another prefix"
        raise BlobnetError(f"cannot write snapshots here: this is {text}", file=str(prefix.parent))
    with contextlib.ExitStack() as stack:
        with files.os_errors(prefix.parent, "write snapshots here"):
            files.make_folder(prefix.parent)
            stack.enter_context(_claimed(prefix))
            _sweep(prefix)
            tempfile.TemporaryFile(dir=prefix.parent).close()
        _warn_of_later(prefix, iteration)
        yield


@contextlib.contextmanager
def _claimed(prefix: Path) -> Iterator[None]:
    lock = prefix.with_name(f".{prefix.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(lock))
        except BlobnetError as error:
            text = f"{error.message}, which trains with this snapshot_prefix; wait for it, or give another prefix"
            raise BlobnetError(text, file=error.file) from error
        yield


def _warn_of_later(prefix: Path, iteration: int) -> None:
    later = max((found for found in _states(prefix) if found.iteration > iteration), default=None)
    if later is not None:
        log.warning(
            "%s: left by an earlier training; --resume auto would go on from it unless it is moved away", later.state
        )


def _sweep(prefix: Path) -> None:
    name = glob.escape(prefix.name)
    for left in prefix.parent.glob(f".{name}_iter_*.tmp"):
        shutil.rmtree(left)
    for left in prefix.parent.glob(f".{name}_best.*.tmp"):
        left.unlink()


def newest(prefix: Path) -> Path | None:
    """The solverstate of the highest iteration that is whole; those that are not are named in the log."""
    for found in sorted(_states(prefix), reverse=True):
        try:
            state = snapshot.read(found.state)
            if snapshot.model_of(state, found.state) is None:
                raise BlobnetError("names no weights", file=str(found.state))
        except BlobnetError as error:
            log.warning("%s; an older snapshot is tried", error)
        else:
            return found.state
    return None


def holds(prefix: Path | None, state: Path) -> bool:
    """Whether a solverstate is one of this prefix and folder."""
    return (
        prefix is not None
        and state.resolve().parent == prefix.resolve().parent
        and _pattern(prefix).fullmatch(state.name) is not None
    )


def write_best(prefix: Path, net: Net, as_hdf5: bool) -> None:
    """Write the weights of the best test in the place of those of the one before."""
    path = prefix.with_name(f"{prefix.name}_best.caffemodel{'.h5' if as_hdf5 else ''}")
    with files.os_errors(path, "write"):
        files.make_folder(prefix.parent)
    snapshot.write_weights(path, net, as_hdf5)


def remove(prefix: Path, iterations: Iterable[int]) -> None:
    """Remove snapshots: of each first the state, so that no state is ever without its weights."""
    for iteration in iterations:
        for model, state in (paths(prefix, iteration, as_hdf5) for as_hdf5 in (False, True)):
            try:
                state.unlink(missing_ok=True)
                model.unlink(missing_ok=True)
            except OSError as error:
                log.warning("%s: cannot remove: %s", state, error.strerror)


def _states(prefix: Path) -> Iterator[Found]:
    pattern = _pattern(prefix)
    with files.os_errors(prefix.parent, "look for snapshots"):
        for path in prefix.parent.iterdir() if prefix.parent.is_dir() else ():
            if match := pattern.fullmatch(path.name):
                yield Found(int(match[1]), path)


def _pattern(prefix: Path) -> re.Pattern[str]:
    return re.compile(re.escape(prefix.name) + r"_iter_(\d+)\.solverstate(\.h5)?")
