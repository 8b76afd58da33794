"""clip_gradients: the bound on the norm of all gradients together."""

import math
from collections.abc import Sequence

import numpy as np

from blobnet.blob import Blob
from blobnet.kernels import update
from blobnet.kernels.parallel import parallel_for
from blobnet.proto import blobnet_pb2 as pb


def clip_factor(param: pb.SolverParameter, blobs: Sequence[Blob]) -> float:
    """What brings the norm of the gradients, summed over iter_size batches, down to clip_gradients.

    Caffe bounds that sum; with ``clip_after_mean`` it is the mean over the batches that is bounded.
    """
    limit = param.clip_gradients
    if limit < 0:
        return 1.0
    norm = gradient_norm(blobs) / (param.iter_size if param.clip_after_mean else 1)
    return limit / norm if norm > limit else 1.0


def gradient_norm(blobs: Sequence[Blob]) -> float:
    """L2 norm over all blobs, summed block by block in a fixed order."""
    total = 0.0
    for blob in blobs:
        sums = np.empty(-(-blob.count // update.GRAIN))
        parallel_for(update.sums_of_squares, len(sums), blob.gradient.reshape(-1), sums)
        total += float(sums.sum())
    return math.sqrt(total)
