"""blobnet check: each rule finds what it is for, and nothing in a net that is well."""

import h5py
import numpy as np
import pytest

from blobnet import check, config
from blobnet.check import findings
from blobnet.cli import main
from blobnet.data.lmdb import write_database
from blobnet.io import images
from blobnet.proto import blobnet_pb2 as pb

INPUT = """layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } shape { dim: 2 } } }
"""
CONV = """layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "msra" } } }
"""
SCORE = """layer { name: "score" type: "InnerProduct" bottom: "conv" top: "score" inner_product_param { num_output: 5 }}
"""
LOSS = """layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
GOOD = INPUT + CONV + SCORE + LOSS
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 10 '


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(folder, text, **options):
    (folder / "file.prototxt").write_text(text)
    return [(finding.rule, finding.fault.line) for finding in check.check("file.prototxt", **options)]


def found_in_solver(folder, text, net=GOOD, **options):
    (folder / "net.prototxt").write_text(net)
    return found(folder, text, **options)


def test_a_good_net_and_a_good_solver(folder):
    assert found(folder, GOOD) == []
    assert found_in_solver(folder, SOLVER) == []


CONV_BOTTOM_DATA = CONV.replace('top: "conv"', 'top: "raw"')
BATCH_NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "raw" top: "conv" }\n'
SCALE = 'layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }\n'
IN_PLACE = 'layer { name: "relu" type: "ReLU" bottom: "data" top: "data" }\n'

NETS = {
    "unknown-type": (GOOD.replace("SoftmaxWithLoss", "SoftmaxLoss"), [("unknown-type", 6)]),
    "missing-bottom": (GOOD.replace('"conv" top: "score"', '"cnov" top: "score"'), [("missing-bottom", 5)]),
    "in-place-shared": (INPUT + CONV + IN_PLACE + SCORE + LOSS, [("in-place-shared", 5), ("unused-top", 5)]),
    "duplicate-name": (GOOD.replace('"score" type', '"conv" type'), [("duplicate-name", 5)]),
    "unused-top": (GOOD + 'layer { name: "more" type: "Power" bottom: "data" top: "x" }', [("unused-top", 7)]),
    "unused input": (
        GOOD.replace('"in" type: "Input"', '"in" type: "Input" top: "extra"')
        .replace("shape { dim: 2 }", "shape { dim: 2 } shape { dim: 2 }")
        .replace('top: "extra" top: "data" top: "label"', 'top: "data" top: "label" top: "extra"'),
        [("unused-top", 1)],
    ),
    "dead-layer": (
        GOOD
        + SCORE.replace('"score"', '"dead"').replace("num_output: 5", 'num_output: 5 weight_filler { type: "msra" }'),
        [("unused-top", 7), ("dead-layer", 7)],
    ),
    "unlearnt-net": (
        GOOD.replace("convolution_param", "param { lr_mult: 0 } convolution_param").replace(
            "inner_product_param", "param { lr_mult: 0 } inner_product_param"
        ),
        [("unlearnt-net", 4)],
    ),
    "zero-weights": (GOOD.replace('weight_filler { type: "msra" }', ""), [("zero-weights", 4)]),
    "batchnorm-without-scale": (
        INPUT + CONV_BOTTOM_DATA.replace("num_output", "bias_term: false num_output") + BATCH_NORM + SCORE + LOSS,
        [("batchnorm-without-scale", 5)],
    ),
    "bias-before-batchnorm": (
        INPUT + CONV_BOTTOM_DATA + BATCH_NORM + SCALE + SCORE + LOSS,
        [("bias-before-batchnorm", 4)],
    ),
    "activation-twice": (
        INPUT
        + CONV
        + SCORE
        + 'layer { name: "soft" type: "Softmax" bottom: "score" top: "soft" }\n'
        + LOSS.replace('"score"', '"soft"'),
        [("activation-twice", 7), ("zero-weights", 5)],
    ),
    "missing-file": (
        'layer { name: "in" type: "Data" top: "data" top: "label"\n data_param { source: "nowhere" batch_size: 2 }\n'
        "transform_param { crop_size: 4 } }" + CONV + SCORE + LOSS,
        [("missing-file", 2)],
    ),
    "syntax": (
        GOOD.replace("num_output: 5", "num_outputs: 5\n bias: [1, 2]\n axis: x"),
        [("syntax", 5), ("syntax", 6), ("syntax", 7), ("net", 5)],
    ),
    "net": (GOOD.replace("num_output: 4", "num_output: 4 group: 3"), [("net", 4)]),
}


@pytest.mark.parametrize(("text", "expected"), NETS.values(), ids=NETS)
def test_nets(folder, text, expected):
    assert sorted(found(folder, text)) == sorted(expected)


SOLVERS = {
    "unknown-solver": ('type: "Adm"', "unknown-solver"),
    "learning-policy": ('lr_policy: "stepp"', "learning-policy"),
    "zero-learning-rate": ("base_lr: 0", "zero-learning-rate"),
    "no-iterations": ("max_iter: 0", "no-iterations"),
    "momentum-of-one": ("momentum: 1", "momentum-of-one"),
    "step-never-reached": ('lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 10', "step-never-reached"),
    "steps that descend": ('lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 4', "step-never-reached"),
    "no-snapshot": ("snapshot_after_train: false", "no-snapshot"),
    "solver": ('train_net: "net.prototxt"', "solver"),
    "syntax": ("momentun: 1", "syntax"),
}


@pytest.mark.parametrize(("field", "rule"), SOLVERS.values(), ids=SOLVERS)
def test_solvers(folder, field, rule):
    kept = [
        f"{name} {value}" for name, value in zip(*[iter(SOLVER.split())] * 2, strict=True) if name not in field.split()
    ]
    assert found_in_solver(folder, "\n".join([*kept, field])) == [(rule, len(kept) + 1)]


def test_no_loss(folder):
    assert ("no-loss", 1) in found_in_solver(folder, SOLVER, net=INPUT + CONV + SCORE)


def test_a_fault_of_the_net_of_a_solver_names_the_net(folder, capsys):
    (folder / "net.prototxt").write_text(GOOD.replace("SoftmaxWithLoss", "SoftmaxLoss"))
    (folder / "solver.prototxt").write_text(SOLVER)
    assert main(["check", "solver.prototxt"]) == 1
    output = capsys.readouterr()
    assert output.out.startswith('net.prototxt:6: error: layer "loss" (SoftmaxLoss): unknown layer type "SoftmaxLoss"')
    assert output.err == "error: 1 errors, 0 warnings\n"


def test_warnings_alone_are_no_failure(folder, capsys):
    (folder / "net.prototxt").write_text(NETS["zero-weights"][0])
    assert main(["check", "net.prototxt", "net.prototxt"]) == 0
    assert capsys.readouterr().out.endswith("no errors, 2 warnings\n")


def test_unknown_fields_have_a_remedy(folder):
    (folder / "net.prototxt").write_text(
        "layer { num_output: 1 }\nlayer { permute_param { order: 0 } }\nlayyer { a < > }"
    )
    texts = [str(finding) for finding in check.check("net.prototxt") if finding.rule == "syntax"]
    assert "ConvolutionParameter" in texts[0]
    assert "SSD (weiliu89/caffe) defines it" in texts[1]
    assert 'did you mean "layer"?' in texts[2]


# Data


def datum(label, size=16):
    return pb.Datum(channels=1, height=4, width=4, data=bytes(size), label=label).SerializeToString()


DATA = """layer { name: "in" type: "Data" top: "data" top: "label"
  data_param { source: "db" backend: LMDB batch_size: 4 } }
"""
TESTED = SOLVER + "test_interval: 5\ntest_iter: "


def test_labels_and_records(folder):
    write_database(folder / "db", [(b"0", datum(0)), (b"1", datum(5)), (b"2", datum(4, size=3)), (b"3", datum(-1))])
    net = DATA + CONV + SCORE + LOSS
    assert found(folder, net) == []
    assert found(folder, net, data=True) == [("unreadable-example", 2), ("label-out-of-range", 2)]
    texts = [finding.fault.message for finding in check.check("file.prototxt", data=True)]
    assert 'db, record 2 "2": a Datum of shape 1 x 4 x 4 must hold as many values; got 3' in texts[0]
    assert "labels must be 0 to 4 for the 5 classes" in texts[1] and texts[1].endswith("got -1, 5")


@pytest.mark.parametrize(("batches", "fate"), [(2, "2 are left out"), (3, "2 are repeats"), (9, "26 are repeats")])
def test_coverage_of_the_test_set(folder, batches, fate):
    write_database(folder / "db", [(b"%d" % number, datum(0)) for number in range(10)])
    assert found_in_solver(folder, f"{TESTED}{batches}", DATA + CONV + SCORE + LOSS, data=True) == [
        ("test-iter-coverage", 2)
    ]
    (finding,) = check.check("file.prototxt", data=True)
    assert (
        f"tests of 10 examples: {fate}" in finding.fault.message
        and "set test_iter: 3, or leave test_iter out" in finding.fault.message
    )


def test_of_a_net_of_thousands_of_stages_some_are_looked_at(folder):
    """With all of them, this would take hours."""
    rules = (f'include {{ stage: "s{number}" }}' for number in range(5000))
    net = "".join(f'layer {{ name: "d{i}" type: "Input" top: "d{i}" {rule} }}\n' for i, rule in enumerate(rules))
    (folder / "net.prototxt").write_text(net)
    assert all(finding.severity != "error" for finding in check.check("net.prototxt"))


def test_exact_coverage_is_well(folder):
    write_database(folder / "db", [(b"%d" % number, datum(0)) for number in range(8)])
    assert found_in_solver(folder, f"{TESTED}2", DATA + CONV + SCORE + LOSS, data=True) == []


def test_images(folder):
    pixels = np.zeros((4, 4, 3), np.uint8)
    (folder / "good.png").write_bytes(images.encode(pixels, "png"))
    (folder / "bad.png").write_bytes(images.encode(pixels, "png")[:40])
    (folder / "list.txt").write_text("good.png 1\nbad.png 2\nnone.png 9\n")
    net = (
        """layer { name: "in" type: "ImageData" top: "data" top: "label"
        image_data_param { source: "list.txt" batch_size: 1 } }
        """
        + CONV
        + SCORE
        + LOSS
    )
    (folder / "net.prototxt").write_text(net)
    texts = [finding.fault.message for finding in check.check("net.prototxt", data=True)]
    assert len(texts) == 2 and "bad.png: cannot decode" in texts[0] and "none.png: cannot read" in texts[1]


def test_images_are_read_in_the_memory_that_is_allowed(folder, monkeypatch, capsys):
    monkeypatch.setattr(config, "_max_memory", None)
    (folder / "good.png").write_bytes(images.encode(np.zeros((4, 4, 3), np.uint8), "png"))
    (folder / "list.txt").write_text("good.png 1\n")
    data = """layer { name: "in" type: "ImageData" top: "data" top: "label"
        image_data_param { source: "list.txt" batch_size: 1 } }
        """
    (folder / "net.prototxt").write_text(data + CONV + SCORE + LOSS)
    assert main(["check", "--data", "net.prototxt"]) == 0
    assert main(["check", "--data", "--max-memory=1M", "net.prototxt"]) == 1
    assert "the limit is 1 MiB, as set" in capsys.readouterr().out


def test_rows(folder):
    with h5py.File(folder / "rows.h5", "w") as file:
        file["data"], file["label"] = np.zeros((3, 3, 4, 4)), np.array([0, 4, 7])
    (folder / "list.txt").write_text("rows.h5\n")
    net = (
        """layer { name: "in" type: "HDF5Data" top: "data" top: "label"
        hdf5_data_param { source: "list.txt" batch_size: 1 } }
        """
        + CONV
        + SCORE
        + LOSS
    )
    assert found(folder, net, data=True) == [("label-out-of-range", 2)]


def test_every_rule_is_tested():
    tested = {rule for _, expected in NETS.values() for rule, _ in expected} | {rule for _, rule in SOLVERS.values()}
    tested |= {"no-loss", "unreadable-example", "label-out-of-range", "test-iter-coverage"}
    assert tested - {"syntax", "net", "solver"} == set(findings.rule_names())
