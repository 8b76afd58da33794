"""Every solver run recorded from Caffe: gradients, updates, weights, histories, rates and losses of each step."""

from pathlib import Path

import numpy as np
import pytest

from blobnet import solvers
from tests.recorded import assert_close, files, load

CASES = files("solvers", "*.npz")


class Recorder(solvers.Callback):
    """Feeds the recorded inputs; notes what each step makes."""

    def __init__(self, golden: dict):
        self.batches = {
            name: golden[name].reshape(-1, *golden[name].shape[2:]) for name in ("data", "label") if name in golden
        }
        self.owned = [str(name) for name in golden["owned_params"]]
        self.passes = 0
        self.found: dict[str, list] = {}

    def note(self, name: str, value) -> None:
        self.found.setdefault(name, []).append(np.array(value))

    def params(self, solver):
        for name in self.owned:
            layer, _, index = name.rpartition("_")
            yield name, solver.net.params[layer][int(index)]

    def on_forward(self, solver, net):
        for name, batches in self.batches.items():
            net.set_input(name, batches[self.passes])
        self.passes += 1

    def on_gradients(self, solver):
        for name, blob in self.params(solver):
            self.note(f"grad_{name}", blob.diff)

    def on_iteration(self, solver, loss):
        self.note("loss", loss)
        self.note("lr", solver.lr)
        self.note("current_step", solver.current_step)
        self.note("state_iter", solver.iter)
        for name, blob in self.params(solver):
            self.note(f"update_{name}", blob.diff)
            self.note(f"param_{name}", blob.data)
        for index, array in enumerate(solver.history):
            self.note(f"history_{index}", array)


def tolerance(golden: dict, key: str) -> float:
    """Twice the bar for the tiny values of updates and histories in nets with BatchNorm or without momentum."""
    tiny = "BatchNorm" in str(golden["net_prototxt"]) or str(golden["variant"]) == "momentum0"
    return 2e-5 if tiny and key.startswith(("update_", "history_")) else 1e-5


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recorded_run(path: Path, tmp_path: Path):
    golden = load(path)
    (tmp_path / "net.prototxt").write_text(str(golden["net_prototxt"]))
    (tmp_path / "solver.prototxt").write_text(str(golden["solver_prototxt"]))
    recorder = Recorder(golden)
    solver = solvers.create(tmp_path / "solver.prototxt", callbacks=[recorder])
    for name, blob in recorder.params(solver):
        blob.data[...] = golden[f"init_{name}"]
    solver.step(len(golden["lr"]))
    golden["loss"] = golden["loss"].mean(axis=1)
    for key, values in recorder.found.items():
        assert_close(np.array(values), golden[key], key, tolerance(golden, key))
