"""Filler statistics against those recorded from Caffe: the streams differ, the distributions must not."""

import math

import numpy as np
import pytest

from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.fillers import fill
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.streams import Stream
from blobnet.testing import net_from_text
from tests.recorded import ROOT, load_json

CASES = load_json(ROOT / "fillers.json")


def filled(filler: str, shape: list[int]) -> np.ndarray:
    blob = Blob(tuple(shape))
    fill(blob, text.parse(filler, pb.FillerParameter()), Stream(1701, "test"), pb.LayerParameter(name="l", type="T"))
    return blob.data


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['text']}-{case['kind']}".replace(" ", ""))
def test_statistics(case):
    values = filled(case["text"], case["shape"])
    samples = 6 / math.sqrt(values.size)  # six standard errors of either estimate
    spread = case["std"]
    assert abs(values.mean() - case["mean"]) <= samples * spread + 1e-6
    assert abs(values.std() - spread) <= samples * spread + 1e-6
    kept = case["nonzero_fraction"]
    assert abs((values != 0).mean() - kept) <= samples * math.sqrt(kept * (1 - kept)) + 1e-4
    if case["filler"] in ("constant", "uniform", "xavier", "bilinear"):
        assert values.min() == pytest.approx(case["min"], abs=0.02 * spread + 1e-6)
        assert values.max() == pytest.approx(case["max"], abs=0.02 * spread + 1e-6)
    if case["filler"] in ("constant", "positive_unitball", "bilinear"):
        rows = values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)
        assert rows.min() == pytest.approx(case["row_sum_min"], rel=1e-5)
        assert rows.max() == pytest.approx(case["row_sum_max"], rel=1e-5)


def test_the_same_stream_draws_the_same_values_and_the_next_draw_others():
    stream, again = Stream(7, "conv1"), Stream(7, "conv1")
    first = stream.generator().random(4)
    assert np.array_equal(first, again.generator().random(4))
    assert not np.array_equal(first, stream.generator().random(4))
    assert not np.array_equal(first, Stream(7, "conv2").generator().random(4))
    assert not np.array_equal(first, Stream(8, "conv1").generator().random(4))


@pytest.mark.parametrize(
    ("filler", "shape", "rule"),
    [
        ('type: "gausian"', [2], 'did you mean "gaussian"'),
        ('type: "uniform" min: 2 max: 1', [2], "min must not exceed max"),
        ('type: "gaussian" std: -1', [2], "std must not be negative"),
        ('type: "bilinear"', [2, 2], "four axes"),
        ('type: "bilinear"', [2, 2, 3, 4], "square"),
    ],
)
def test_bad_fillers_are_named(filler, shape, rule):
    with pytest.raises(BlobnetError, match=rule) as caught:
        filled(filler, shape)
    assert caught.value.layer == 'layer "l" (T)'


@pytest.mark.parametrize("filler", ["xavier", "msra", "positive_unitball", "gaussian"])
def test_an_empty_blob_has_nothing_to_fill(filler):
    assert filled(f'type: "{filler}"', [4, 0, 3]).shape == (4, 0, 3)


def test_a_range_beyond_doubles_is_an_error():
    with pytest.raises(BlobnetError, match='filler "uniform": high - low range exceeds valid bounds'):
        net_from_text(
            'layer { name: "p" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 }'
            ' data_filler { type: "uniform" min: -inf max: inf } } }'
        ).forward()
