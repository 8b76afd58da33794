"""The nets that are measured, and their layers one by one."""

import numpy as np
import pytest

from benchmarks import jobs, nets, units
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


@pytest.mark.parametrize("name, batch", nets.BATCHES.items())
def test_train_nets_are_fed_from_memory(name, batch):
    param = nets.training(name, batch)
    data, label, *layers = param.layer
    assert (data.type, label.type) == ("Input", "Input")
    assert data.input_param.shape[0].dim[0] == batch
    assert list(label.input_param.shape[0].dim) == [batch]
    assert not {"Data", "Accuracy"} & {layer.type for layer in layers}
    assert layers[-1].type == "SoftmaxWithLoss"


def test_a_net_that_predicts_takes_the_batch():
    assert list(nets.predicting("lenet", 8).layer[0].input_param.shape[0].dim) == [8, 1, 28, 28]


def test_a_job_is_read_as_written(tmp_path):
    jobs.write(tmp_path, nets.predicting("lenet", 2), pb.TEST)
    job = jobs.read(tmp_path)
    assert text.strip_source_info(job.param) == nets.predicting("lenet", 2)
    assert job.inputs["data"].shape == (2, 1, 28, 28)
    assert job.weights["conv1"][0].std() == pytest.approx((2 / 25) ** 0.5, rel=0.1)
    jobs.write(tmp_path / "again", nets.predicting("lenet", 2), pb.TEST)
    assert np.array_equal(jobs.read(tmp_path / "again").inputs["data"], job.inputs["data"])


def test_labels_are_classes(tmp_path):
    jobs.write(tmp_path, nets.training("lenet", 64), pb.TRAIN)
    assert set(jobs.read(tmp_path).inputs["label"]) == set(range(10))


def test_units_of_lenet():
    found = units.units(nets.training("lenet", 64))
    assert [(unit.name, unit.shapes, unit.count) for unit in found[:3]] == [
        ("conv1", "64x1x28x28 -> 64x20x24x24", 1),
        ("pool1", "64x20x24x24 -> 64x20x12x12", 1),
        ("conv2", "64x20x12x12 -> 64x50x8x8", 1),
    ]
    assert found[0].tasks == ["forward", "to weights"]  # nobody asks for the gradient of the data
    assert found[1].tasks == ["forward", "backward"]
    assert found[2].tasks == ["forward", "to data", "to weights"]


def test_equal_layers_are_one_unit_and_so_are_layers_that_run_as_one():
    param = nets.training("resnet20", 4)
    found = units.units(param)
    assert sum(unit.count * len(unit.type.split("+")) for unit in found) == len(param.layer) - 2  # but for the inputs
    block = next(unit for unit in found if unit.name == "res2a_branch2a")
    assert (block.type, block.shapes, block.count) == ("Convolution", "4x16x32x32", 6)
    line = next(unit for unit in found if unit.type == "BatchNorm+Scale+ReLU")
    assert [layer.type for layer in line.param.layer] == ["Input", "BatchNorm", "Scale", "ReLU"]
    for unit in found:
        assert len(Net(unit.param, pb.TRAIN).steps) == len(unit.param.layer) - len(unit.type.split("+")) + 1


def test_a_concat_is_one_unit_with_the_layers_that_read_their_gradients_in_its_top():
    found = [unit for unit in units.units(nets.training("squeezenet1_1", 2)) if "Concat" in unit.type]
    assert [(unit.name, unit.count) for unit in found] == [(f"fire{i}/concat", 2) for i in (2, 4, 6, 8)]
    first = found[0]
    assert (first.type, first.tasks) == ("Convolution+ReLU, Convolution+ReLU, Concat", ["forward", "backward"])
    assert first.shapes == "2x16x56x56 -> 2x128x56x56"
    assert [list(layer.bottom) for layer in first.param.layer[2:]] == [
        ["bottom0"], ["top0"], ["bottom1"], ["top1"], ["top0", "top1"]
    ]  # fmt: skip
