"""Memory is counted before it is taken."""

import pytest

from blobnet import TEST, BlobnetError, config
from blobnet.budget import Budget, shown
from blobnet.testing import net_from_text


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setattr(config, "_max_memory", None)
    monkeypatch.delenv("BLOBNET_MAX_MEMORY", raising=False)


def test_most_of_the_machine_unless_told_otherwise():
    assert 0.5 * config.machine_memory() < config.max_memory() < config.machine_memory()


@pytest.mark.parametrize(("text", "size"), [("4096", 4096), ("8K", 8192), ("1.5g", 3 << 29), ("2TiB", 2 << 40)])
def test_from_the_environment(monkeypatch, text, size):
    monkeypatch.setenv("BLOBNET_MAX_MEMORY", text)
    assert config.max_memory() == size


@pytest.mark.parametrize("text", ["0", "-1", "much", "8X", "", "nan", "0.1"])
def test_a_wrong_size_is_named(text):
    with pytest.raises(BlobnetError, match=f"max-memory must be a number of bytes, .* got '{text}'"):
        config.set_max_memory(text)


def test_what_is_given_is_told_from_the_default(monkeypatch):
    assert config.given_max_memory() is None
    monkeypatch.setenv("BLOBNET_MAX_MEMORY", "2K")
    assert config.given_max_memory() == 2048
    config.set_max_memory("1K")
    assert config.given_max_memory() == config.max_memory() == 1024
    config.set_max_memory(None)
    assert config.given_max_memory() == 2048


def test_a_key_is_charged_once():
    config.set_max_memory(100)
    budget = Budget()
    assert (budget.charge("a", 60), budget.charge("a", 80), budget.total) == ("", "", 80)
    assert "need 30 bytes, with those of the layers before it 110 bytes; the limit is 100 bytes" in budget.charge(
        "b", 30
    )
    assert (budget.charge("b", 20), budget.total) == ("", 100)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1536, "1.5 KiB"), (5 << 40, "5 TiB"), (1 << 80, "1.049e+06 EiB")]
)
def test_shown(size, text):
    assert shown(size) == text


HUGE_LAYERS = {
    "input": 'type: "Input" top: "y" input_param { shape { dim: 4294967296 dim: 65536 } }',
    "beyond numpy": 'type: "Input" top: "y" input_param { shape { dim: 4294967296 dim: 4294967296 dim: 99999999 } }',
    "dummy": 'type: "DummyData" top: "y" dummy_data_param { shape { dim: 9999999 dim: 99999 } }',
    "parameter": 'type: "Parameter" top: "y" parameter_param { shape { dim: 999999 dim: 999999 } }',
    "weights": 'type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2000000000 '
    'weight_filler { type: "xavier" } }',
    "tops": 'type: "Tile" bottom: "x" top: "y" tile_param { tiles: 2000000000 }',
}


@pytest.mark.parametrize("layer", HUGE_LAYERS.values(), ids=HUGE_LAYERS)
def test_what_asks_for_terabytes_is_refused_by_name(layer):
    text = f"""layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }} }} }}
        layer {{ name: "huge" {layer} }}"""
    with pytest.raises(BlobnetError, match=r'^line 2: layer "huge" .*its blobs need .* the limit is .* --max-memory'):
        net_from_text(text)


def test_many_small_layers_add_up():
    config.set_max_memory("1M")
    layer = 'layer {{ name: "l{0}" type: "Input" top: "x{0}" input_param {{ shape {{ dim: 100000 }} }} }}\n'
    with pytest.raises(BlobnetError, match='line 3: layer "l2" .* need 390.6 KiB, .* 1.144 MiB; the limit is 1 MiB'):
        net_from_text("".join(map(layer.format, range(9))))


def test_tops_in_place_and_shapes_that_change_count_once():
    config.set_max_memory(1000)
    net = net_from_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 100 } } }'
        'layer { name: "power" type: "Power" bottom: "x" top: "y" }'
        'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }',
        TEST,
    )
    assert net.context.budget.total == 800
    net.blobs["x"].reshape(120)
    net.reshape()
    net.blobs["x"].reshape(140)
    with pytest.raises(BlobnetError, match='layer "in" .* need 560 bytes, with those of the layers before it 1.016'):
        net.reshape()


def test_work_arrays_beyond_the_address_space_are_refused():
    text = """layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
        layer { name: "pool" type: "Pooling" bottom: "x" top: "y"
          pooling_param { kernel_size: 4000000000 pad: 3000000000 stride: 1 } }"""
    with pytest.raises(BlobnetError, match='line 2: layer "pool" .* do not fit into memory'):
        net_from_text(text)
