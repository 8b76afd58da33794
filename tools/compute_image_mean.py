"""The mean image of a database, which the Data layer subtracts (``transform_param.mean_file``)."""

import logging
import os
from pathlib import Path

import numpy as np

from blobnet.data.database import open_database
from blobnet.data.records import datum_pixels
from blobnet.errors import BlobnetError
from blobnet.io.files import parse_message
from blobnet.io.mean import write_mean
from blobnet.proto import blobnet_pb2 as pb

log = logging.getLogger("blobnet")

_LOGGED = 10000  # records between two lines of the log


def compute(
    database: str | os.PathLike, output: str | os.PathLike | None = None, *, backend: str = "lmdb"
) -> np.ndarray:
    """The mean over all records, float32 [C, H, W]; written to ``output`` where one is given.

    All images must have one size. ``backend``: "lmdb" or "leveldb".
    """
    source = open_database(Path(database), pb.DataParameter.DB.Value(backend.upper()))
    log.info("Starting iteration")
    total, count = np.zeros(0), 0
    for key, value in source.records():
        place = f'{database}, record {count} "{key.decode(errors="replace")}"'
        datum = pb.Datum()
        parse_message(value, datum, place)
        pixels = datum_pixels(datum, None, place)
        if count == 0:
            total = np.zeros(pixels.shape)
        elif pixels.shape != total.shape:
            raise BlobnetError(f"has shape {pixels.shape}, the records before it {total.shape}", file=place)
        total += pixels
        count += 1
        if count % _LOGGED == 0:
            log.info("Processed %d files.", count)
    if count == 0:
        raise BlobnetError("the database holds no records", file=str(database))
    log.info("Processed %d files.", count)
    mean = (total / count).astype(np.float32)
    if output is not None:
        log.info("Write to %s", output)
        write_mean(output, mean)
    log.info("Number of channels: %d", len(mean))
    for channel, value in enumerate(mean.mean(axis=(1, 2), dtype=np.float64)):
        log.info("mean_value channel [%d]: %g", channel, value)
    return mean
