import pytest

from blobnet import zoo
from blobnet.cli import main

LENET = str(zoo.folder("lenet") / "deploy.prototxt")


def test_table_of_a_prototxt(capsys):
    assert main(["summary", LENET]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("layer")
    assert lines[-1].split()[:2] == ["total", "431,080"]


def test_batch_phase_and_input(capsys):
    train_val = str(zoo.folder("alexnet") / "train_val.prototxt")
    assert main(["summary", train_val, "--phase", "TRAIN", "--batch", "2", "--input", "data=9x3x227x227"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 x 3 x 227 x 227, 2" in lines[1]
    assert not any(line.startswith("accuracy") for line in lines)
    assert lines[-1].startswith("Training with momentum takes about 9") and "learned 732" in lines[-1]


@pytest.mark.parametrize("shape", ["data", "data=3xx4", "=3", "data=0x3"])
def test_a_shape_that_is_none(shape, capsys):
    assert main(["summary", LENET, "--input", shape]) == 1
    assert "such as data=10x3x32x32" in capsys.readouterr().err
