"""The figures of a training run in files, and that a resumed one goes on in them."""

import csv
import json
import struct

import pytest

from blobnet import cli
from blobnet.cli import metrics
from blobnet.io.tensorboard import EventFile
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.solvers.registry import create
from blobnet.tools import parse_log

COLUMNS = "iteration,phase,net,time,seconds,lr,images_per_second,loss,outputs.loss"


def json_records(path="line_metrics.jsonl"):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def rows(path="line_metrics.csv"):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def places(records):
    return [(int(record["iteration"]), record["phase"]) for record in records]


ALL = [(0, "test"), (0, "train"), (2, "test"), (2, "train"), (4, "test"), (4, "train")]


def test_every_display_and_test_is_a_record(run_folder):
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    records = json_records()
    assert places(records) == places(rows()) == ALL
    first_test, first, _, second = records[:4]
    assert list(first) == ["iteration", "phase", "net", "time", "seconds", "lr", "images_per_second", "loss", "outputs"]
    assert (first["lr"], first["net"], first["images_per_second"]) == (0.1, None, None)
    assert first["outputs"] == {"loss": first["loss"]} == {"loss": 0.5}
    assert second["images_per_second"] > 0
    assert 0 <= first["seconds"] <= second["seconds"] < 600
    assert (first_test["net"], first_test["lr"], first_test["loss"], first_test["outputs"]) == (
        0,
        None,
        None,
        {"loss": 0.5},
    )
    with open("line_metrics.csv", encoding="utf-8") as file:
        assert file.readline().strip() == COLUMNS
    assert [float(row["outputs.loss"]) for row in rows()] == [record["outputs"]["loss"] for record in records]
    assert [row["net"] for row in rows()[:2]] == ["0", ""]


def test_a_resumed_run_goes_on_without_doubles(run_folder):
    solver = (run_folder / "solver.prototxt").read_text()
    (run_folder / "solver.prototxt").write_text(solver + "snapshot: 3")
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    before = json_records()
    with open("line_metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"iteration": 1, "pha')
    with open("line_metrics.csv", "a", encoding="utf-8") as file:
        file.write("1,tra")
    assert cli.main(["train", "--solver=solver.prototxt", "--snapshot=line_iter_3.solverstate"]) == 0
    after = json_records()
    assert places(after) == places(rows()) == ALL
    assert after[:4] == before[:4]
    assert [record["outputs"] for record in after] == [record["outputs"] for record in before]
    assert after[4]["seconds"] >= before[3]["seconds"]
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    assert places(json_records()) == ALL


def test_several_values_and_values_that_json_lacks(run_folder):
    with open("net.prototxt", "a", encoding="utf-8") as file:
        for name, bottom in (("large", "y"), ("w", "large")):
            file.write(f"""layer {{ name: "{name}" type: "Power" bottom: "{bottom}" top: "{name}"
                power_param {{ scale: 1e30 }} include {{ phase: TEST }} }}""")
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    test, *_ = json_records()
    assert list(test["outputs"]) == ["loss", "w[0]", "w[1]", "w[2]", "w[3]"]
    assert test["outputs"]["w[3]"] is None
    assert (rows()[0]["outputs.w[3]"], rows()[1]["outputs.w[3]"]) == ("inf", "")


def events(path):
    """Fields of each Event by number, read without the writer's code; checksums by the plain bitwise rule."""
    data, found = path.read_bytes(), []
    while data:
        length = struct.unpack("<Q", data[:8])[0]
        event = data[12 : 12 + length]
        for part, at in ((data[:8], 8), (event, 12 + length)):
            assert struct.unpack("<I", data[at : at + 4])[0] == masked(crc32c(part))
        found.append(fields(event))
        data = data[16 + length :]
    return found


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(message):
    found = []
    while message:
        (key, message), value = number(message), None
        if key & 7 == 0:
            value, message = number(message)
        else:
            length, message = {1: lambda m: (8, m), 5: lambda m: (4, m), 2: number}[key & 7](message)
            value, message = message[:length], message[length:]
        found.append((key >> 3, value))
    return found


def number(data):
    value = shift = 0
    for index, byte in enumerate(data):
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, data[index + 1 :]
    raise ValueError("torn number")


def scalars(event):
    by_number = dict(event)
    values = [dict(fields(value)) for _, value in fields(by_number[5])]
    return by_number.get(2), {value[1].decode(): struct.unpack("<f", value[2])[0] for value in values}


def test_crc32c_is_the_published_one():
    assert crc32c(b"123456789") == 0xE3069283


def test_tensorboard(run_folder):
    assert cli.main(["train", "--solver=solver.prototxt", "--tensorboard", "runs/a"]) == 0
    (path,) = (run_folder / "runs/a").glob("events.out.tfevents.*")
    version, *rest = events(path)
    assert version[1] == (3, b"brain.Event:2")
    assert [scalars(event)[0] for event in rest] == [iteration for iteration, _ in ALL]
    assert scalars(rest[0])[1] == {"test/loss": 0.5}
    assert set(scalars(rest[3])[1]) == {"train/loss", "smoothed_loss", "lr", "images_per_second"}


def test_tensorboard_drops_what_is_run_again(tmp_path):
    file = EventFile(tmp_path, first_step=300)
    file.write(300, {"lr": 0.25})
    _, start, event = events(file.path)
    assert start[1:] == [(2, 300), (7, b"\x08\x01")]
    assert scalars(event) == (300, {"lr": 0.25})


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--tensorboard=net.prototxt"], "net.prototxt: cannot write events here: File exists"),
        (["--log-format=json"], "argument --log-format: invalid choice: 'json'"),
    ],
)
def test_faults(run_folder, argv, said, capsys):
    assert cli.main(["train", "--solver=solver.prototxt", *argv]) == 1
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_log_that_caffes_parse_log_reads(run_folder, capsys):
    assert cli.main(["train", "--solver=solver.prototxt", "--log-format=caffe"]) == 0
    (run_folder / "log").write_text(capsys.readouterr().err)
    train, test = parse_log.parse_log(run_folder / "log")
    assert [row["NumIters"] for row in train] == [row["NumIters"] for row in test] == [0, 2, 4]
    assert [row["loss"] for row in train] == pytest.approx(
        [record["outputs"]["loss"] for record in json_records() if record["phase"] == "train"], rel=1e-5
    )
    assert {row["LearningRate"] for row in train} == {0.1}


def test_a_training_goes_on_without_its_metrics(run_folder, caplog):
    (run_folder / "line_metrics.csv").mkdir()
    assert cli.main(["train", "--solver=solver.prototxt"]) == 0
    assert places(json_records()) == ALL
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["metrics are missed, training goes on: line_metrics.csv: cannot write: Is a directory"]


def test_a_rolled_back_training_writes_its_iterations_once(run_folder):
    solver = create(text.read("solver.prototxt", pb.SolverParameter()))
    solver.callbacks.append(metrics.of(solver, "runs"))
    solver.param.max_iter = 1
    solver.solve()
    solver.step(2)  # a last display at iteration 2
    solver.restore("line_iter_1.solverstate")
    solver.step(2)
    assert places(json_records()) == places(rows()) == ALL[:4]
    assert len(list((run_folder / "runs").iterdir())) == 2
