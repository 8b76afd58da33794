"""The table of names in docs/pycaffe.md against the module and the tests."""

import re
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import pytest

import blobnet.pycaffe as caffe
from blobnet.proto import forks
from blobnet.pycaffe.proto import caffe_pb2

PAGE = Path(__file__).parents[2] / "docs" / "pycaffe.md"
ROW = re.compile(r"\| `(.+)` \| \d+ \| (yes|no: .+) \| (.*?) ?\|")
GROUPS = ("The module", "Attributes", "Net specs", "Messages")


class Row(NamedTuple):
    group: str
    name: str
    here: str
    test: str

    def __str__(self) -> str:
        return self.name


def rows() -> list[Row]:
    found, group = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            group = line.removeprefix("### ")
        elif match := ROW.fullmatch(line):
            found.append(Row(group, *match.groups()))
    return found


ROWS = rows()
PRESENT = [row for row in ROWS if row.here == "yes"]
ABSENT = [row for row in ROWS if row.here != "yes"]


def of_group(group, among):
    return pytest.mark.parametrize("row", [row for row in among if row.group == group], ids=str)


def resolve(owner, path):
    return reduce(getattr, path.split("."), owner)


def test_the_table_is_whole():
    assert {row.group for row in ROWS} == set(GROUPS)
    assert (len(PRESENT), len(ABSENT)) == (168, 25)


@of_group("The module", PRESENT)
def test_names_of_the_module(row):
    assert resolve(caffe, row.name.removeprefix("caffe.")) is not None


@of_group("The module", ABSENT)
def test_names_that_forks_add_to_the_module(row):
    with pytest.raises(AttributeError):
        resolve(caffe, row.name.removeprefix("caffe."))


@pytest.fixture
def objects(folder):
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    net.save("net.caffemodel")
    classifier = caffe.Classifier("deploy.prototxt", "net.caffemodel")
    top = caffe.layers.Input()
    return [
        net,
        net.blobs["image"],
        net.layers[0],
        caffe.SGDSolver("solver.prototxt"),
        caffe.Detector("deploy.prototxt", "net.caffemodel"),
        classifier,
        classifier.transformer,
        caffe.io,
        top,
        top.fn,
        caffe.NetSpec(),
    ]


def test_attributes(objects):
    declared = {*caffe.Layer.__annotations__, *(name for owner in objects for name in dir(owner))}
    wanted = {row.name[1:] for row in PRESENT if row.group == "Attributes"}
    assert wanted - declared == set()


@of_group("Net specs", PRESENT)
def test_layers_and_parameters_of_net_specs(row):
    kind, _, path = row.name.partition(".")
    if kind == "L":
        assert path in caffe.layer_type_list()
        assert caffe.to_proto(getattr(caffe.layers, path)()).layer[0].type == path
    elif "." in path:
        assert isinstance(resolve(caffe.params, path), int)
    else:
        assert hasattr(caffe_pb2, f"{path}Parameter")


@of_group("Net specs", ABSENT)
def test_layers_and_parameters_that_forks_add(row):
    kind, _, path = row.name.partition(".")
    if kind == "L":
        assert forks.hint("LayerParameter.type", path)
        assert path not in caffe.layer_type_list()
    else:
        assert not hasattr(caffe_pb2, f"{path.partition('.')[0]}Parameter")


@of_group("Messages", PRESENT)
def test_messages(row):
    found = caffe_pb2 if row.name == "(module)" else resolve(caffe_pb2, row.name)
    if hasattr(found, "DESCRIPTOR") and hasattr(found, "FromString"):
        assert found.FromString(found().SerializeToString()) == found()


@of_group("Messages", ABSENT)
def test_messages_that_forks_add(row):
    with pytest.raises(AttributeError):
        resolve(caffe_pb2, row.name)


def test_each_name_is_in_the_test_that_the_table_states():
    here = Path(__file__).parent
    tests = {row.test: (here / row.test).read_text(encoding="utf-8") for row in PRESENT}
    stated = [row for row in PRESENT if row.test != "test_names.py"]
    assert [row.name for row in stated if row.name.rpartition(".")[2] not in tests[row.test]] == []
    assert len(stated) > 80
