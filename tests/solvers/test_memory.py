"""What a training takes is counted, and refused by layer, before it is taken."""

import pytest

from blobnet import BlobnetError, config
from blobnet.solvers import memory
from blobnet.testing import net_from_text
from tests.solvers.small import create

FLOATS = 4  # bytes


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setattr(config, "_max_memory", None)
    monkeypatch.delenv("BLOBNET_MAX_MEMORY", raising=False)


@pytest.mark.parametrize(("solver", "copies"), [("SGD", 3), ("Adam", 4)])
def test_data_gradients_weights_and_history_add_up(tmp_path, solver, copies):
    """x 4x3, t 4x2, ip and drop 4x2 with gradients, the loss; the weights 2x3 and 2 with gradient and history."""
    trained = create(tmp_path, f'type: "{solver}" momentum: 0.9')
    elements = 12 + 8 + 2 * (8 + 8) + 1 + copies * (6 + 2)
    assert memory.check(trained.net, [], copies) == elements * FLOATS


def test_a_lean_training_takes_less(tmp_path):
    net = "".join(
        f'layer {{ name: "ip{i}" type: "InnerProduct" bottom: "{bottom}" top: "ip{i}"'
        ' inner_product_param { num_output: 50 weight_filler { type: "xavier" } } }'
        for i, bottom in enumerate(("x", *(f"ip{i}" for i in range(9))))
    )
    net = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1000 dim: 50 }} }} }} {net}
        layer {{ name: "sum" type: "Reduction" bottom: "ip9" top: "sum" loss_weight: 1 }}"""
    lean, whole = (create(tmp_path, net=net, lean=lean) for lean in (True, False))
    saved = memory.check(whole.net, [], 3) - memory.check(lean.net, [], 3)
    assert saved == (10 - 2) * 1000 * 50 * FLOATS  # of the gradients of ten tops, two are there at a time


def test_what_a_layer_keeps_in_lists_counts():
    """6 steps of 5 streams, 7 units: gates with their diffs, cont h, c; and once an offset, and diffs of h and c."""
    net = net_from_text("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 6 dim: 5 dim: 3 } } }
        layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 6 dim: 5 } } }
        layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 7 } }""")
    elements = 6 * 5 * (2 * 4 * 7 + 7) + (6 + 1) * 5 * 7 + 5 * (4 * 7 + 2 * 7)
    assert memory.kept_bytes(net.layers[-1], net.bottoms[-1], net.tops[-1]) == elements * FLOATS


def huge(layer: str) -> str:
    return f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 1000 }} }} }}
        layer {{ name: "huge" bottom: "x" top: "y" {layer} }}
        layer {{ name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }}"""


PRODUCT = 'type: "InnerProduct" inner_product_param { num_output: 100 bias_term: false }'


@pytest.mark.parametrize(("limit", "fits"), [(1_250_000, True), (1_150_000, False)])
def test_weights_count_with_gradient_and_history_when_they_are_made(tmp_path, limit, fits):
    """1000 x 100 weights are 400,000 bytes."""
    config.set_max_memory(limit)
    if fits:
        create(tmp_path, net=huge(PRODUCT))
    else:
        with pytest.raises(
            BlobnetError, match=r'net.prototxt:2: layer "huge" \(InnerProduct\): its blobs need 1.144 MiB'
        ):
            create(tmp_path, net=huge(PRODUCT))


def test_gradients_of_blobs_count(tmp_path):
    net = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1000 dim: 1 } } }
        layer { name: "wide" type: "InnerProduct" bottom: "x" top: "wide" inner_product_param { num_output: 100 } }
        layer { name: "tanh" type: "TanH" bottom: "wide" top: "tanh" }
        layer { name: "sum" type: "Reduction" bottom: "tanh" top: "sum" loss_weight: 1 }"""
    config.set_max_memory(1_000_000)
    with pytest.raises(BlobnetError, match='net.prototxt:3: layer "tanh" .* those of the layers before it 1.1'):
        create(tmp_path, net=net)
