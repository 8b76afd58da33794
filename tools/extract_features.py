"""What blobs of a trained net hold, image by image, as databases of Datum records."""

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from blobnet.blob import Blob
from blobnet.data.database import new_database
from blobnet.errors import BlobnetError, did_you_mean
from blobnet.layers.base import describe
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

log = logging.getLogger("blobnet")


def extract(
    weights: str | os.PathLike,
    model: str | os.PathLike,
    blobs: Sequence[str],
    databases: Sequence[str | os.PathLike],
    batches: int,
    *,
    backend: str = "lmdb",
) -> int:
    """Run the net over some batches in the TEST phase, write each blob into its database, return how many images.

    A record is one image's part of the blob, float_data of up to three axes; keys are numbers of ten digits.
    ``backend`` is "lmdb" or "leveldb".
    """
    if len(blobs) != len(databases):
        raise BlobnetError(f"each blob needs a database; got {len(blobs)} blobs, {len(databases)} databases")
    net = Net(os.fspath(model), pb.TEST, weights=Path(weights))
    for name in blobs:
        if name not in net.blobs:
            raise BlobnetError(f'there is no blob "{name}"{did_you_mean(name, net.blobs)}', file=str(model))
        if not 1 <= net.blobs[name].num_axes <= 4:
            raise BlobnetError(f"a Datum has at most three axes; got {describe(net.blobs[name])}", file=str(model))
    counts = [0] * len(blobs)
    with ExitStack() as stack:
        writers = [stack.enter_context(new_database(Path(path), backend)) for path in databases]
        log.info("Extracting Features")
        for _ in range(batches):
            net.forward()
            for index, (name, put) in enumerate(zip(blobs, writers, strict=True)):
                for datum in _datums(net.blobs[name]):
                    put(b"%010d" % counts[index], datum.SerializeToString())
                    counts[index] += 1
    for name, count in zip(blobs, counts, strict=True):
        log.info("Extracted features of %d query images for feature blob %s", count, name)
    log.info("Successfully extracted the features!")
    return counts[0]


def _datums(blob: Blob):
    channels, height, width = (*blob.shape[1:], 1, 1, 1)[:3]
    for image in blob.data.astype(np.float32, copy=False):
        yield pb.Datum(channels=channels, height=height, width=width, float_data=image.ravel())
