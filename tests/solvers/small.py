"""A small net with random data and dropout, and solvers that train it."""

from pathlib import Path

from blobnet import solvers

NET = """
name: "small"
layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } data_filler { type: "gaussian" } data_filler { type: "uniform" } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
layer { name: "drop" type: "Dropout" bottom: "ip" top: "drop" include { phase: TRAIN } }
layer { name: "loss" type: "EuclideanLoss" bottom: "drop" bottom: "t" top: "loss" include { phase: TRAIN } }
layer { name: "error" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "error" include { phase: TEST } }
"""

SOLVER = {"net": '"net.prototxt"', "base_lr": "0.1", "lr_policy": '"fixed"', "max_iter": "6", "random_seed": "5"}


def write(folder: Path, solver: str = "", net: str = NET) -> Path:
    """The two prototxts in a folder; the path of the solver's. Line 2 holds the given fields, line 1 the others."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.prototxt").write_text(net)
    path = folder / "solver.prototxt"
    defaults = " ".join(f"{field}: {value}" for field, value in SOLVER.items() if f" {field}:" not in f" {solver}")
    path.write_text(f"{defaults}\n{solver}")
    return path


def create(folder: Path, solver: str = "", net: str = NET, **options) -> solvers.Solver:
    return solvers.create(write(folder, solver, net), **options)


class Events(solvers.Callback):
    """Notes every event by its name; asks for the actions of ``asked``, one a question."""

    def __init__(self, asked=()):
        self.events: list[str] = []
        self.asked = list(asked)
        self.records: list[solvers.DisplayRecord] = []
        self.tests: list[solvers.TestResult] = []
        self.snapshots: list[Path] = []

    def on_start(self, solver):
        self.events.append("start")

    def on_forward(self, solver, net):
        self.events.append("forward" if net is solver.net else "test forward")

    def on_gradients(self, solver):
        self.events.append("gradients")

    def on_iteration(self, solver, loss):
        self.events.append(f"iteration {solver.iter}")

    def on_display(self, solver, record):
        self.events.append(f"display {record.iteration}")
        self.records.append(record)

    def on_test(self, solver, index, outputs, loss):
        self.events.append(f"test {index}")
        self.tests.append(solvers.TestResult(outputs, loss))

    def on_snapshot(self, solver, model_path, state_path):
        self.events.append(f"snapshot {solver.iter}")
        self.snapshots.append(state_path)

    def on_finish(self, solver):
        self.events.append("finish")

    def action(self, solver):
        return self.asked.pop(0) if self.asked else solvers.Action.NONE
