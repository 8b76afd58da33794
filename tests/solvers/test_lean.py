"""A solver whose nets share buffers trains to the same bits."""

import numpy as np
import pytest

from blobnet import solvers
from tests.solvers.small import Events, create

CONVOLUTION = "num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: 'msra' }"

NET = f"""
layer {{ name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param {{
  shape {{ dim: 4 dim: 2 dim: 7 dim: 7 }} shape {{ dim: 4 dim: 3 }}
  data_filler {{ type: "gaussian" }} data_filler {{ type: "uniform" }} }} }}
layer {{ name: "c1" type: "Convolution" bottom: "x" top: "c1" convolution_param {{ {CONVOLUTION} }} }}
layer {{ name: "n1" type: "BatchNorm" bottom: "c1" top: "c1" }}
layer {{ name: "s1" type: "Scale" bottom: "c1" top: "c1" scale_param {{ bias_term: true }} }}
layer {{ name: "r1" type: "ReLU" bottom: "c1" top: "c1" }}
layer {{ name: "c2" type: "Convolution" bottom: "c1" top: "c2" convolution_param {{ {CONVOLUTION} }} }}
layer {{ name: "n2" type: "BatchNorm" bottom: "c2" top: "n2" }}
layer {{ name: "s2" type: "Scale" bottom: "n2" top: "s2" scale_param {{ bias_term: true }} }}
layer {{ name: "r2" type: "ReLU" bottom: "s2" top: "r2" }}
layer {{ name: "sum" type: "Eltwise" bottom: "c1" bottom: "r2" top: "sum" }}
layer {{ name: "rs" type: "ReLU" bottom: "sum" top: "rs" }}
layer {{ name: "pool" type: "Pooling" bottom: "rs" top: "pool" pooling_param {{ kernel_size: 3 stride: 2 }} }}
layer {{ name: "drop" type: "Dropout" bottom: "pool" top: "pool" }}
layer {{ name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" }}
"""

FIELDS = "iter_size: 2 display: 2 test_iter: 2 test_iter: 1 test_interval: 2 momentum: 0.9 base_lr: 0.01"


def trained(folder, **options) -> tuple[solvers.Solver, Events]:
    events = Events()
    solver = create(folder, f"{FIELDS} snapshot_after_train: false", NET, callbacks=[events], **options)
    solver.solve()
    return solver, events


def test_the_training_has_the_same_bits(tmp_path):
    (lean, seen), (plain, expected) = (trained(tmp_path, lean=lean) for lean in (True, False))
    for one, other in zip(lean.net.learnable_params, plain.net.learnable_params, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    for one, other in zip(lean.history, plain.history, strict=True):
        np.testing.assert_array_equal(one, other)
    assert seen.events == expected.events
    assert seen.tests == expected.tests
    assert [(record.loss, record.outputs) for record in seen.records] == [
        (record.loss, record.outputs) for record in expected.records
    ]


def test_the_nets_share_buffers(tmp_path):
    lean, _ = trained(tmp_path, lean=True)
    kept = {id(net.blobs["r2"].data.base) for net in (lean.net, *lean.test_nets)}
    assert len(kept) == 1
    plain, _ = trained(tmp_path, lean=False)
    shared, own = ({blob.buffer("diff") for blob in solver.net.blobs.values()} for solver in (lean, plain))
    assert len(shared) < len(own)


@pytest.mark.parametrize("lean", [False, True])
def test_debug_info_shows_every_layer(tmp_path, lean, caplog):
    caplog.set_level("INFO", "blobnet")
    create(tmp_path, f"{FIELDS} debug_info: true", NET, lean=lean).step(1)
    for name in ("n1", "s1", "r1", "n2", "s2", "r2", "sum", "rs"):
        assert f"[Forward] Layer {name}, top blob" in caplog.text
        assert f"[Backward] Layer {name}, bottom blob" in caplog.text
