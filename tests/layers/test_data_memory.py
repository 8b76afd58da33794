import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.testing import net_from_text

DATA = np.arange(6 * 2 * 1 * 3, dtype=np.float64).reshape(6, 2, 1, 3)
LABELS = np.arange(6)


def build(fields="batch_size: 2 channels: 2 height: 1 width: 3", **options):
    return net_from_text(
        f'layer {{ name: "d" type: "MemoryData" top: "data" top: "label" memory_data_param {{ {fields} }} }}', **options
    )


def run(net, count):
    found = []
    for _ in range(count):
        net.forward()
        np.testing.assert_array_equal(net.blobs["data"].data, DATA[net.blobs["label"].data.astype(int).ravel()])
        found += net.blobs["label"].data.ravel().tolist()
    return found


@pytest.mark.parametrize("labels", [LABELS, LABELS.reshape(6, 1, 1, 1)])
def test_batches_go_round(labels):
    net = build()
    assert net.blobs["label"].shape == (2,)
    net.layers[0].reset(DATA, labels)
    assert run(net, 5) == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert net.blobs["label"].shape == (2, 1, 1, 1)
    net.layers[0].reset(DATA, labels)
    assert run(net, 1) == [0, 1]


def test_a_restored_layer_goes_on_with_the_next_batch():
    net = build()
    net.layers[0].reset(DATA, LABELS)
    run(net, 2)
    state = net.state()
    other = build()
    other.layers[0].reset(DATA, LABELS)
    other.restore(state)
    assert run(other, 4) == run(net, 4)


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (DATA[:5], LABELS[:5], "must be a multiple of batch_size 2; got 5"),
        (DATA[:0], LABELS[:0], "must be a multiple of batch_size 2; got 0"),
        (DATA, LABELS[:4], r"labels must be one for each of 6 images; got shape \(4,\)"),
        (DATA[:, :1], LABELS, r"data must have shape \(n, 2, 1, 3\); got \(6, 1, 1, 3\)"),
    ],
)
def test_data_that_do_not_fit(data, labels, message):
    with pytest.raises(BlobnetError, match=message):
        build().layers[0].reset(data, labels)


def test_a_missing_field_and_missing_data():
    with pytest.raises(BlobnetError, match=r"must be given and positive; got \(2, 2, 0, 3\)"):
        build("batch_size: 2 channels: 2 width: 3")
    with pytest.raises(BlobnetError, match=r"hand them over with reset\(data, labels\)"):
        build().forward()
