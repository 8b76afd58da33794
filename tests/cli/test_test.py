"""blobnet test: outputs of each batch, then their means."""

import numpy as np

from blobnet import cli
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

NET = """
layer {
  name: "data" type: "DummyData" top: "x" top: "y"
  dummy_data_param {
    shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 }
    data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" value: 1 }
  }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "constant" value: 2 } }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" loss_weight: 0.5 }
layer { name: "scores" type: "Split" bottom: "ip" top: "scores" include { stage: "scores" } }
"""


def test_batches_and_means(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    net = Net("net.prototxt", pb.TEST)
    net.params["ip"][0].data[...] = np.array([[1, 1, 1], [2, 2, 2]])
    (tmp_path / "net.caffemodel").write_bytes(net.to_proto().SerializeToString())

    command = ["test", "--model", "net.prototxt", "--weights", "net.caffemodel", "--iterations", "2"]
    assert cli.main(command) == 0
    loss = (0.5**2 + 2**2) / 2
    assert capsys.readouterr().out.splitlines() == [
        f"Batch 0, loss = {loss}",
        f"Batch 1, loss = {loss}",
        f"Loss: {loss / 2:g}",
        f"loss = {loss} (* 0.5 = {loss / 2:g} loss)",
    ]

    assert cli.main([*command, "--stage=scores"]) == 0
    scores = [line for line in capsys.readouterr().out.splitlines() if "scores" in line]
    assert scores == [f"Batch {batch}, scores = {value}" for batch in (0, 1) for value in (1.5, 3) * 2] + [
        f"scores = {value}" for value in (1.5, 3) * 2
    ]


def test_weights_that_are_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    assert cli.main(["test", "-model=net.prototxt", "-weights=none.caffemodel"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: none.caffemodel: cannot read: No such file or directory"
