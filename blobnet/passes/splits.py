"""The pass that gives every blob with several readers a Split layer, so that gradients add up in one place."""

from collections import Counter

from blobnet.errors import did_you_mean, error_at
from blobnet.proto import blobnet_pb2 as pb

Top = tuple[int, int]  # layer index, top index


def insert_splits(param: pb.NetParameter) -> pb.NetParameter:
    """A copy of the net in which every top is read once.

    A top with n > 1 readers is followed by a Split layer with n tops. A nonzero loss weight counts as a reader:
    the weight moves to the first top of the split. A bottom that no earlier layer makes is an error.
    """
    readers, sources, loss_weights = _count_readers(param)
    split = pb.NetParameter()
    split.CopyFrom(param)
    del split.layer[:]
    next_reader: Counter[Top] = Counter()
    for index, layer in enumerate(param.layer):
        copy = split.layer.add()
        copy.CopyFrom(layer)
        for bottom_index, bottom in enumerate(layer.bottom):
            source = sources[index, bottom_index]
            if readers[source] > 1:
                producer = param.layer[source[0]].name
                copy.bottom[bottom_index] = split_blob_name(bottom, producer, source[1], next_reader[source])
                next_reader[source] += 1
        for top_index, top in enumerate(layer.top):
            source = (index, top_index)
            if readers[source] > 1:
                weight = loss_weights.get(source, 0.0)
                split.layer.append(_split_layer(layer, top, top_index, readers[source], weight))
                if weight:
                    del copy.loss_weight[:]
                    next_reader[source] += 1
    return split


def missing_bottom(name: str) -> str:
    """What is wrong with a bottom that no earlier layer makes."""
    return f'bottom "{name}" is the top of no earlier layer'


def split_layer_name(blob: str, layer: str, top_index: int) -> str:
    return f"{blob}_{layer}_{top_index}_split"


def split_blob_name(blob: str, layer: str, top_index: int, reader: int) -> str:
    return f"{split_layer_name(blob, layer, top_index)}_{reader}"


def _count_readers(param: pb.NetParameter) -> tuple[Counter[Top], dict[Top, Top], dict[Top, float]]:
    """Readers of each top, the top that each bottom (layer, bottom index) reads, explicit loss weights."""
    newest: dict[str, Top] = {}
    readers: Counter[Top] = Counter()
    sources: dict[Top, Top] = {}
    loss_weights: dict[Top, float] = {}
    for index, layer in enumerate(param.layer):
        for bottom_index, bottom in enumerate(layer.bottom):
            if bottom not in newest:
                raise error_at(layer, missing_bottom(bottom) + did_you_mean(bottom, newest), "bottom")
            sources[index, bottom_index] = newest[bottom]
            readers[newest[bottom]] += 1
        for top_index, top in enumerate(layer.top):
            newest[top] = (index, top_index)
        for top, weight in zip(layer.top, layer.loss_weight, strict=False):
            loss_weights[newest[top]] = weight
            readers[newest[top]] += weight != 0
    return readers, sources, loss_weights


def _split_layer(producer: pb.LayerParameter, blob: str, top_index: int, count: int, weight: float):
    layer = pb.LayerParameter(name=split_layer_name(blob, producer.name, top_index), type="Split", bottom=[blob])
    layer.top.extend(split_blob_name(blob, producer.name, top_index, reader) for reader in range(count))
    if weight:
        layer.loss_weight.extend([weight] + [0.0] * (count - 1))
    layer.source_info.CopyFrom(producer.source_info)
    return layer
