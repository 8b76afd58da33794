import sys

import pytest

from blobnet.errors import BlobnetError
from blobnet.passes.phases import connected_net, filter_net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def kept(rules: str, state: str) -> bool:
    net = text.parse(f'layer {{ name: "always" }}\nlayer {{ name: "l" {rules} }}', pb.NetParameter(), "a.prototxt")
    names = [layer.name for layer in filter_net(net, text.parse(state, pb.NetState())).layer]
    assert names[0] == "always"
    return "l" in names


@pytest.mark.parametrize(
    ("rules", "state", "expected"),
    [
        ("", "phase: TRAIN", True),
        ("include { phase: TRAIN }", "phase: TRAIN", True),
        ("include { phase: TRAIN }", "phase: TEST", False),
        ("exclude { phase: TRAIN }", "phase: TRAIN", False),
        ("exclude { phase: TRAIN }", "phase: TEST", True),
        ("include { phase: TRAIN } include { phase: TEST }", "phase: TEST", True),
        ("exclude { phase: TRAIN } exclude { phase: TEST }", "phase: TEST", False),
        ("include { min_level: 2 }", "level: 1", False),
        ("include { min_level: 2 }", "level: 2", True),
        ("include { max_level: 2 }", "level: 3", False),
        ("include { min_level: 1 max_level: 1 }", "level: 1", True),
        ('include { stage: "a" stage: "b" }', 'stage: "a"', False),
        ('include { stage: "a" stage: "b" }', 'stage: "b" stage: "a" stage: "c"', True),
        ('include { not_stage: "a" }', 'stage: "a"', False),
        ('include { not_stage: "a" }', 'stage: "b"', True),
        ('include { phase: TEST stage: "a" }', 'phase: TRAIN stage: "a"', False),
        ('exclude { phase: TEST stage: "a" }', 'phase: TEST stage: "b"', True),
        ("include { }", "phase: TRAIN", True),
    ],
)
def test_rules(rules, state, expected):
    assert kept(rules, state) is expected


def test_include_and_exclude_together_are_refused():
    with pytest.raises(BlobnetError, match=r'a.prototxt:2: layer "l".*not both'):
        kept("include { phase: TEST } exclude { phase: TRAIN }", "")


NET = """
layer { name: "d" type: "Data" top: "x" include { phase: TRAIN stage: "a" } include { level_of }
layer { name: "e" type: "Data" top: "x" exclude { phase: TEST } }
layer { name: "l" bottom: "x" top: "y" }"""


def connected(net: str, state: str) -> list[str]:
    net = text.parse(net, pb.NetParameter(), "a.prototxt")
    return [layer.name for layer in connected_net(net, text.parse(state, pb.NetState())).layer]


def test_a_bottom_of_other_states_says_what_they_ask_for():
    net = NET.replace("level_of", "min_level: 2 }")
    assert connected(net, "phase: TRAIN") == ["e", "l"]
    assert connected(net, "phase: TEST level: 2") == ["d", "l"]
    with pytest.raises(BlobnetError) as caught:
        connected(net, "phase: TEST")
    assert str(caught.value) == (
        'a.prototxt:4: layer "l": bottom "x" is made by layers of other states alone; the net is built for '
        'phase: TEST, the layers have include { phase: TRAIN stage: "a" } include { min_level: 2 }, '
        "exclude { phase: TEST }"
    )
    assert connected('layer { name: "l" bottom: "x" }', "") == ["l"]


def lines_run(count: int) -> int:
    """Lines of Python that it takes to connect a net of so many layers, whose bottoms are yet to come, and one more."""
    layers = [pb.LayerParameter(name="l", bottom=[f"{number}"], top=[f"-{number}"]) for number in range(count)]
    layers.append(pb.LayerParameter(name="other", include=[pb.NetStateRule(stage=["other"])]))
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        seen += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        connected = connected_net(pb.NetParameter(layer=layers), pb.NetState())
    finally:
        sys.settrace(before)
    assert len(connected.layer) == count
    return seen


def test_bottoms_that_no_layer_has_made_yet_are_looked_up_once():
    """With a search of all layers for each of them, twice the layers would take four times the lines."""
    assert lines_run(400) < 2.5 * lines_run(200)
