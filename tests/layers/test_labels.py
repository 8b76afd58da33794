"""The one place where labels are checked."""

import numpy as np
import pytest

from blobnet.blob import Blob
from blobnet.context import Context
from blobnet.errors import BlobnetError
from blobnet.layers import labels
from blobnet.layers.base import Layer
from blobnet.proto import blobnet_pb2 as pb

LAYER = Layer(pb.LayerParameter(name="l", type="T"), Context(pb.TEST))


def blob(values):
    made = Blob(np.shape(values), name="label")
    made.data[...] = values
    return made


def test_numbers():
    found = labels.class_numbers(LAYER, blob([[0, 2.9], [-0.5, 1]]), 3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, [0, 2, 0, 1])


@pytest.mark.parametrize("ignore", [-1, 1, 255])
def test_ignored_labels_are_minus_1(ignore):
    np.testing.assert_array_equal(labels.class_numbers(LAYER, blob([0, ignore, 2]), 3, ignore), [0, -1, 2])


@pytest.mark.parametrize("label", [3, -1, np.nan, np.inf, -np.inf, 1e30])
def test_out_of_range(label):
    with pytest.raises(BlobnetError) as caught:
        labels.class_numbers(LAYER, blob([[0, 1], [2, label]]), 3, 255)
    assert str(caught.value) == (
        f'layer "l" (T): the label {label:g} at [1, 1] of blob "label" (2 x 2) is out of range: labels must be 0 to 2, '
        "one for each of 3 classes, or the ignore_label 255"
    )
