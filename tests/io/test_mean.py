import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.io import blob_proto, files, mean


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 4)])
def test_three_axes_or_four(tmp_path, shape):
    files.write_message(tmp_path / "mean", blob_proto.from_array(np.ones(shape, np.float64)))
    found = mean.read_mean(tmp_path / "mean")
    assert (found.shape, found.dtype) == ((2, 3, 4), np.float32)


@pytest.mark.parametrize("shape", [(24,), (2, 2, 3, 4), (1, 1, 2, 3, 4)])
def test_other_shapes_are_an_error(tmp_path, shape):
    files.write_message(tmp_path / "mean", blob_proto.from_array(np.ones(shape, np.float32)))
    with pytest.raises(BlobnetError, match="must have shape C x H x W"):
        mean.read_mean(tmp_path / "mean")
