"""Weights into layers by name: what is said of those that do not fit."""

import numpy as np
import pytest

from blobnet import BlobnetError, cli
from blobnet.testing import net_from_text
from blobnet.trained import LoadReport

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 2 bias_term: false } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 2 bias_term: false } }
"""
SQUARE = [np.ones((2, 2), np.float32)]


def test_report_names_layers_with_weights_only(caplog):
    caplog.set_level("INFO", "blobnet")
    report = net_from_text(NET).copy_trained_layers_from({"a": SQUARE, "c": SQUARE, "relu": []})
    assert report == LoadReport(loaded=["a"], ignored=["c"], missing=["b"])
    assert caplog.messages == ["the given weights: loaded: a; ignored: c; missing: b"]


def test_twins_of_loaded_layers_are_not_missing():
    shared = NET.replace("inner_product_param", 'param { name: "w" } inner_product_param')
    net = net_from_text(shared)
    assert net.copy_trained_layers_from({"a": SQUARE}) == LoadReport(loaded=["a"], ignored=[], missing=[])
    assert net.copy_trained_layers_from({"c": SQUARE}).missing == ["a", "b"]
    biased = net_from_text(shared.replace(" bias_term: false", ""))
    report = biased.copy_trained_layers_from({"a": [*SQUARE, np.ones(2, np.float32)]})
    assert report.missing == ["b"]  # its bias is its own


def test_weights_that_do_not_fit_leave_the_net_as_it_was():
    net = net_from_text(NET)
    before = [blob.data.copy() for blob in net.learnable_params]
    with pytest.raises(BlobnetError, match=r'layer "b" .* shape \(3, 2\), but the net needs \(2, 2\); to learn'):
        net.copy_trained_layers_from({"a": SQUARE, "b": [np.ones((3, 2), np.float32)]})
    np.testing.assert_array_equal([blob.data for blob in net.learnable_params], before)


def test_only_complete_weights_are_complete():
    net = net_from_text(NET)
    net.copy_trained_layers_from({"a": SQUARE, "b": SQUARE, "loss": []}).require_complete()
    for weights, said in (({"a": SQUARE}, "missing: b"), ({"a": SQUARE, "b": SQUARE, "c": SQUARE}, "ignored: c")):
        with pytest.raises(BlobnetError, match=said):
            net.copy_trained_layers_from(weights).require_complete()


@pytest.mark.parametrize("command", ["test", "time", "train"])
def test_strict_commands_refuse_other_weights(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    loss = 'layer { name: "l" type: "EuclideanLoss" bottom: "b" bottom: "x" top: "l" }'
    (tmp_path / "net.prototxt").write_text(NET + loss)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 0')
    other = net_from_text(NET.replace('name: "b"', 'name: "other"'))
    (tmp_path / "other.caffemodel").write_bytes(other.to_proto().SerializeToString())
    description = ["--solver", "solver.prototxt"] if command == "train" else ["--model", "net.prototxt"]
    counted = [] if command == "train" else ["--iterations", "1"]
    flags = [command, *description, "--weights", "other.caffemodel", *counted]
    assert cli.main(flags) == 0
    assert "other.caffemodel: loaded: a; ignored: other; missing: b" in capsys.readouterr().err
    assert cli.main([*flags, "--strict"]) == 1
    assert "no more and no fewer; loaded: a; ignored: other; missing: b" in capsys.readouterr().err
