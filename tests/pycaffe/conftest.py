"""A small net and solver as files in the working folder, and ``import caffe`` for the length of a test."""

import sys

import pytest

import blobnet.pycaffe

NET = """
name: "small"
force_backward: true
layer {
  name: "source" type: "DummyData" top: "image" top: "class"
  dummy_data_param {
    shape { dim: 4 dim: 3 dim: 5 dim: 5 } shape { dim: 4 }
    data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 2 }
  }
}
layer {
  name: "filter" type: "Convolution" bottom: "image" top: "filtered"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" std: 0.5 } }
}
layer {
  name: "score" type: "InnerProduct" bottom: "filtered" top: "scores"
  inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 0.5 } }
}
layer { name: "cost" type: "SoftmaxWithLoss" bottom: "scores" bottom: "class" top: "cost" }
"""

DEPLOY = """
name: "deployed"
layer { name: "image" type: "Input" top: "image" input_param { shape { dim: 4 dim: 3 dim: 5 dim: 5 } } }
layer {
  name: "filter" type: "Convolution" bottom: "image" top: "filtered"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "gaussian" std: 0.5 } }
}
layer {
  name: "score" type: "InnerProduct" bottom: "filtered" top: "scores"
  inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 0.5 } }
}
layer { name: "chance" type: "Softmax" bottom: "scores" top: "chance" }
"""

SOLVER = """
net: "small.prototxt"
test_iter: 2
test_interval: 5
base_lr: 0.1
lr_policy: "step"
gamma: 0.5
stepsize: 4
momentum: 0.9
display: 5
max_iter: 10
snapshot_prefix: "small"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, holding small.prototxt, deploy.prototxt and solver.prototxt."""
    for name, text in (("small", NET), ("deploy", DEPLOY), ("solver", SOLVER)):
        (tmp_path / f"{name}.prototxt").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def not_installed():
    """``import caffe`` fails when the test begins, and is as before when it is over."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "caffe"}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "caffe"]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture
def installed(not_installed):
    """``import caffe`` gives blobnet until the test is over."""
    blobnet.pycaffe.install()
