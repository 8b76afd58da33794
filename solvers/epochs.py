"""Epochs: whole passes over the data of a net, as tests without test_iter and max_epoch ask for."""

from blobnet.data import passes
from blobnet.errors import error_at
from blobnet.layers.data import DataLayer
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb


def with_end(param: pb.SolverParameter, net: Net) -> pb.SolverParameter:
    """The solver with a max_iter that ends the training where max_epoch does, unless it ended before."""
    if not param.max_epoch:
        return param
    size, examples = data_size(net, param, "max_epoch")
    end = -(-param.max_epoch * examples // (size * param.iter_size))
    ended = pb.SolverParameter()
    ended.CopyFrom(param)
    ended.max_iter = min(end, param.max_iter) if param.HasField("max_iter") else end
    return ended


def read_whole_passes(net: Net) -> None:
    """From now on no batch of the net runs over the end of its data."""
    for layer in _data_layers(net):
        layer.read_whole_passes()


def pass_weights(net: Net, param: pb.SolverParameter, field: str) -> list[int]:
    """How many examples each batch of one pass over the net's data holds; ``field``: for whose sake, in errors."""
    size, examples = data_size(net, param, field)
    return [passes.rows_of_batch(number, size, examples).length for number in range(passes.batches(size, examples))]


def data_size(net: Net, param: pb.SolverParameter, field: str) -> tuple[int, int]:
    """Batch size and number of examples of the net's data, which all of its data layers must agree on."""
    sizes = {(layer.batch_size, layer.examples) for layer in _data_layers(net)}
    if len(sizes) != 1:
        found = ", ".join(f"{examples} in batches of {size}" for size, examples in sorted(sizes, key=str)) or "none"
        text = f'{field} asks for whole passes: the data layers of net "{net.name}" must be of one size; got {found}'
        raise error_at(param, text, field)
    [(size, examples)] = sizes
    if examples is None:
        text = f'{field} asks for whole passes: nothing says how many examples the data of net "{net.name}" hold'
        raise error_at(param, text, field)
    return size, examples


def _data_layers(net: Net) -> list[DataLayer]:
    return [layer for layer in net.layers if isinstance(layer, DataLayer)]
