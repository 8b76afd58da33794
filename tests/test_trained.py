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
