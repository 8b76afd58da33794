"""Reading all examples of a data layer, in a process of its own: a damaged file may take it down."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from blobnet import config
from blobnet.check.subjects import Survey
from blobnet.context import Context
from blobnet.data import database, image_list
from blobnet.data.records import datum_pixels
from blobnet.errors import BlobnetError
from blobnet.io import files, hdf5, images
from blobnet.proto import blobnet_pb2 as pb

_MOST_FAULTS = 20

Example = Callable[[], float]  # reads the example and returns its label

_readers: dict[str, Callable[[pb.LayerParameter, Context], Iterator[Example]]] = {}


def can_survey(layer: pb.LayerParameter) -> bool:
    return layer.type in _readers


def survey(layer: pb.LayerParameter, context: Context) -> Survey:
    """Read every example of the layer's source; a source that cannot be opened is a fault, too."""
    spawning = multiprocessing.get_context("spawn")
    options = {"phase": context.phase, "folder": context.folder, "untrusted": context.untrusted}
    memory = (config.given_max_memory(),)
    with concurrent.futures.ProcessPoolExecutor(1, spawning, config.set_max_memory, memory) as pool:
        try:
            return pool.submit(_survey, layer.SerializeToString(), options).result()
        except BrokenProcessPool:
            return Survey(0, [], ["reading it ended the process: the files are damaged"])


def _survey(content: bytes, options: dict) -> Survey:
    layer = pb.LayerParameter.FromString(content)
    count, labels, faults = 0, set(), []
    try:
        for read in _readers[layer.type](layer, Context(**options)):
            count += 1
            try:
                labels.add(read())
            except BlobnetError as error:
                faults.append(str(error))
    except BlobnetError as error:
        faults.append(str(error))
    if len(faults) > _MOST_FAULTS:
        faults[_MOST_FAULTS:] = [f"... and {len(faults) - _MOST_FAULTS} more"]
    return Survey(count, sorted(labels), faults)


def _reader(layer_type: str):
    def add(function):
        _readers[layer_type] = function
        return function

    return add


@_reader("Data")
def _records(layer: pb.LayerParameter, context: Context) -> Iterator[Example]:
    source = database.open_database(context.find(layer.data_param.source), layer.data_param.backend)
    for number, (key, value) in enumerate(source.records()):
        place = f'{source.path}, record {number} "{key.decode(errors="replace")}"'

        def read(value: bytes = value, place: str = place) -> float:
            datum = pb.Datum()
            files.parse_message(value, datum, place)
            datum_pixels(datum, None, place)
            return datum.label

        yield read


@_reader("ImageData")
def _images(layer: pb.LayerParameter, context: Context) -> Iterator[Example]:
    param = layer.image_data_param
    for entry in image_list.read_list(context.find(param.source)):

        def read(entry: image_list.Entry = entry) -> float:
            images.read_image(context.find(param.root_folder + entry.name), param.is_color)
            return entry.label

        yield read


@_reader("HDF5Data")
def _rows(layer: pb.LayerParameter, context: Context) -> Iterator[Example]:
    listing = files.read_bytes(context.find(layer.hdf5_data_param.source)).decode(errors="surrogateescape")
    for name in filter(None, map(str.strip, listing.splitlines())):
        with hdf5.Reader(context.find(name), config.given_max_memory()) as reader:
            arrays = [reader.array(top) for top in layer.top]
        labels = (
            np.ravel(arrays[1]) if len(arrays) > 1 and arrays[1].size == len(arrays[0]) else np.zeros(len(arrays[0]))
        )
        yield from (lambda label=float(label): label for label in labels)
