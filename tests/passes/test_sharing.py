import pytest

from blobnet.errors import BlobnetError
from blobnet.passes.sharing import ParamUse, plan_sharing
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text


def uses(*layers: tuple[str, list[tuple[int, ...]]]) -> list[ParamUse]:
    made = []
    for index, (params, shapes) in enumerate(layers):
        net = text.parse(f'layer {{ name: "l{index}"\n{params} }}', pb.NetParameter(), "a.prototxt")
        made += [ParamUse(index, position, net.layer[0], shape) for position, shape in enumerate(shapes)]
    return made


def test_unnamed_blobs_are_learned_each_for_itself():
    plan = plan_sharing(uses(("", [(2, 3), (2,)]), ("param { lr_mult: 2 }", [(2, 3), (2,)])))
    assert [(entry.owner.layer_index, entry.owner.param_index) for entry in plan] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [entry.lr_mult for entry in plan] == [None, None, 2, None]


def test_equal_names_share_and_multipliers_come_from_whoever_states_them():
    plan = plan_sharing(
        uses(('param { name: "w" }', [(2, 3)]), ('param { name: "w" lr_mult: 3 decay_mult: 0 }', [(2, 3)]))
    )
    [entry] = plan
    assert (entry.lr_mult, entry.decay_mult) == (3, 0)
    assert [sharer.layer_index for sharer in entry.sharers] == [1]


def test_names_are_shared_within_a_layer_too():
    [entry] = plan_sharing(uses(('param { name: "w" } param { name: "w" }', [(2,), (2,)])))
    assert entry.sharers[0].param_index == 1


def test_strict_needs_equal_shapes_and_permissive_equal_counts():
    with pytest.raises(BlobnetError, match=r"a.prototxt:2: .*same shape.*got 6, there 2 x 3"):
        plan_sharing(uses(('param { name: "w" }', [(2, 3)]), ('param { name: "w" }', [(6,)])))
    plan_sharing(uses(('param { name: "w" }', [(2, 3)]), ('param { name: "w" share_mode: PERMISSIVE }', [(6,)])))
    with pytest.raises(BlobnetError, match="same count"):
        plan_sharing(uses(('param { name: "w" }', [(2, 3)]), ('param { name: "w" share_mode: PERMISSIVE }', [(5,)])))


def test_contradicting_multipliers_are_refused():
    with pytest.raises(BlobnetError, match=r"lr_mult must be the same or left out; got 2, there 1"):
        plan_sharing(uses(('param { name: "w" lr_mult: 1 }', [(2,)]), ('param { name: "w" lr_mult: 2 }', [(2,)])))
