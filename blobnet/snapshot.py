"""Snapshots: the weights (caffemodel) and everything else a training needs to go on (solverstate), as a pair.

Both files are as Caffe writes them, binary or HDF5. The solverstate holds one field more, which Caffe skips:
``resume``, the JSON of what an exact resume needs besides, with the checksum of the caffemodel: so a pair of which
only one file was replaced gives itself away.
"""

import base64
import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.io import blob_proto, files, hdf5, weights
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

CHECKSUM = "model_sha256"  # in the JSON of ``resume``


class Paths(NamedTuple):
    """The two files of a snapshot."""

    model: Path
    state: Path


@dataclasses.dataclass
class State:
    """What a solverstate holds. ``resume`` is None in Caffe's own."""

    iteration: int
    learned_net: str
    current_step: int
    history: Sequence[np.ndarray]
    resume: dict[str, Any] | None


def write(paths: Paths, net: Net, state: State, as_hdf5: bool, diff: bool) -> None:
    """Write both files aside, then let them take their places: the snapshot is made when the second one has."""
    folder = paths.state.parent
    with files.os_errors(folder, "write a snapshot"):
        files.make_folder(folder)
        with _folder_aside(paths) as aside:
            write_weights(aside.model, net, as_hdf5, diff)
            whole = dataclasses.replace(state, resume={**(state.resume or {}), CHECKSUM: files.sha256(aside.model)})
            write_state = _write_hdf5_state if as_hdf5 else _write_binary_state
            write_state(aside.state, whole)
            aside.model.replace(paths.model)
            aside.state.replace(paths.state)
            files.flush(folder)


@contextlib.contextmanager
def _folder_aside(paths: Paths) -> Iterator[Paths]:
    """The same file names in a passing folder beside; an error in the block names the file that was meant."""
    folder = paths.state.parent
    with tempfile.TemporaryDirectory(prefix=f".{paths.state.name}.", suffix=".tmp", dir=folder) as aside:
        try:
            yield Paths(*(Path(aside) / path.name for path in paths))
        except BlobnetError as error:
            raise BlobnetError(error.message, file=str(folder / Path(error.file or "").name)) from error


def write_weights(path: Path, net: Net, as_hdf5: bool, diff: bool = False) -> None:
    """Write the weights alone."""
    if as_hdf5:
        write_hdf5_weights(path, net, diff)
    else:
        weights.write_caffemodel(path, net.to_proto(write_diff=diff))


def write_hdf5_weights(path: str | Path, net: Net, diff: bool = False) -> None:
    """The net's weights as Caffe's HDF5 tree: shared blobs only with their owner, diffs with every layer."""
    diffs = [(layer.name, [blob.gradient for blob in layer.blobs]) for layer in net.layers] if diff else None
    weights.write_hdf5(path, net.owned_blobs(), diffs)


def read(path: str | Path) -> State:
    """Read a solverstate, recognised by its content."""
    try:
        state = _read_hdf5_state(path) if hdf5.is_hdf5(path) else _read_binary_state(path)
    except BlobnetError:
        if _holds_weights(path):
            text = "holds weights, not the state of a solver: give it as weights, or give the solverstate beside it"
            raise BlobnetError(text, file=str(path)) from None
        raise
    if "\0" in state.learned_net:
        raise BlobnetError(f"its learned_net is no file name: {state.learned_net!r}", file=str(path))
    return state


def model_of(state: State, path: Path) -> Path | None:
    """The weights that a solverstate names: beside it, since the pair may have moved, else where it says.

    An error where they are missing, or are not those that were written with it. None where it names none.
    """
    if not state.learned_net:
        return None
    beside = path.parent / Path(state.learned_net).name
    model = beside if beside.exists() else Path(state.learned_net)
    found = files.sha256(model)
    if found != (state.resume or {}).get(CHECKSUM, found):
        raise BlobnetError(
            f"its weights were not written with the state {path}: they were changed, or a kill parted the two; "
            "to go on with them all the same, give them as weights, too",
            file=str(model),
        )
    return model


def same_shape(found: Sequence[int], own: Sequence[int]) -> bool:
    """Whether shapes agree, where ``found`` may be the legacy num, channels, height, width."""
    legacy = len(found) == 4 > len(own) and tuple(found) == (1,) * (4 - len(own)) + tuple(own)
    return legacy or tuple(found) == tuple(own)


def _write_binary_state(path: Path, state: State) -> None:
    """The history comes last, so that a file without its end has too little of it, and nothing else is missing."""
    head = pb.SolverState(
        iter=state.iteration,
        learned_net=state.learned_net,
        current_step=state.current_step,
        resume=_to_json(state.resume),
    )
    history = pb.SolverState(history=[blob_proto.from_array(array) for array in state.history])
    content = b"".join(files.message_content(part, path) for part in (head, history))
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _read_binary_state(path: str | Path) -> State:
    state = files.read_message(path, pb.SolverState())
    if not state.HasField("iter"):
        raise BlobnetError("is no solverstate: it does not say how many iterations were made", file=str(path))
    try:
        history = [blob_proto.to_array(proto) for proto in state.history]
    except BlobnetError as error:
        raise BlobnetError(f"history: {error.message}", file=str(path)) from error
    resume = _from_json(state.resume, path) if state.HasField("resume") else None
    return State(state.iter, state.learned_net, state.current_step, history, resume)


def _write_hdf5_state(path: Path, state: State) -> None:
    with hdf5.writer(path) as file:
        file.create_dataset("iter", data=np.array([state.iteration], np.int32))
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        hdf5.write_text(file, "learned_net", state.learned_net)
        group = file.create_group("history")
        for index, array in enumerate(state.history):
            group.create_dataset(str(index), data=array)
        file.create_dataset("resume", data=np.frombuffer(_to_json(state.resume).encode(), np.uint8))


def _read_hdf5_state(path: str | Path) -> State:
    with hdf5.Reader(path) as reader:
        history = [reader.array(f"history/{index}") for index in range(len(reader.names("history")))]
        learned_net = reader.text("learned_net") if "learned_net" in reader else ""
        resume = None
        if "resume" in reader:
            resume = _from_json(reader.array("resume").astype(np.uint8).tobytes(), path)
        return State(reader.integer("iter"), learned_net, reader.integer("current_step"), history, resume)


def _holds_weights(path: str | Path) -> bool:
    try:
        return any(weights.read_weights(path).values())
    except BlobnetError:
        return False


def _to_json(resume: dict[str, Any] | None) -> str:
    return json.dumps(resume, default=_encode)


def _encode(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    array = np.ascontiguousarray(value)
    content = base64.b64encode(array.tobytes()).decode()
    return {"array": content, "dtype": array.dtype.str, "shape": array.shape}


def _from_json(content: str | bytes, path: str | Path) -> dict[str, Any]:
    try:
        resume = json.loads(content, object_hook=_decode)
    except (ValueError, TypeError, RecursionError) as error:
        raise BlobnetError(f"its resume field is damaged: {error}", file=str(path)) from error
    if not isinstance(resume, dict):
        raise BlobnetError("its resume field is damaged: no JSON object", file=str(path))
    return resume


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() != {"array", "dtype", "shape"}:
        return value
    content = base64.b64decode(value["array"], validate=True)
    return np.frombuffer(content, np.dtype(value["dtype"])).reshape(value["shape"]).copy()
