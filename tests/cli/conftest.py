"""A solver and its net in a folder of their own, small enough to train in no time."""

import pytest

NET = """
name: "line"
layer {
  name: "data" type: "DummyData" top: "x" top: "y"
  dummy_data_param {
    shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 }
    data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" value: 1 }
  }
}
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
layer {
  name: "extra" type: "Silence" bottom: "x" include { stage: "extra" min_level: 2 }
}
"""

SOLVER = """
net: "net.prototxt"
base_lr: 0.1
lr_policy: "fixed"
max_iter: 4
display: 2
test_iter: 1
test_interval: 2
snapshot_prefix: "line"
"""


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    """The working folder, holding net.prototxt and solver.prototxt."""
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path
