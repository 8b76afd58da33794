"""Rules for nets."""

from collections import Counter
from collections.abc import Iterator

from blobnet.check.findings import ERROR, WARNING, Place, rule
from blobnet.check.subjects import NetSubject
from blobnet.errors import BlobnetError, did_you_mean, element
from blobnet.layers import registry
from blobnet.passes import splits
from blobnet.proto import blobnet_pb2 as pb

_LEARNING = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
}
_MOST_HINTS = 20  # each looks at every top
_MEASURES = {"Accuracy", "ArgMax"}
_FILES = {
    "Data": ("data_param", "source"),
    "ImageData": ("image_data_param", "source"),
    "WindowData": ("window_data_param", "source"),
    "HDF5Data": ("hdf5_data_param", "source"),
    "InfogainLoss": ("infogain_loss_param", "source"),
}
_TWICE = {"SoftmaxWithLoss": "Softmax", "SigmoidCrossEntropyLoss": "Sigmoid"}


def _learns(layer: pb.LayerParameter) -> bool:
    rates = [param.lr_mult if param.HasField("lr_mult") else 1.0 for param in layer.param]
    return not rates or any(rates)


@rule(NetSubject, ERROR)
def unknown_type(net: NetSubject) -> Iterator[Place]:
    """A layer of a type that does not exist."""
    for layer in net.layers:
        try:
            registry.layer_class(layer)
        except BlobnetError as error:
            yield layer, error.message, "type"


@rule(NetSubject, ERROR)
def missing_bottom(net: NetSubject) -> Iterator[Place]:
    """A bottom that no earlier layer makes."""
    made: set[str] = set()
    missing = 0
    for layer, sources in zip(net.layers, net.sources, strict=True):
        for index, (name, source) in enumerate(zip(layer.bottom, sources, strict=True)):
            if source is None:
                missing += 1
                hint = did_you_mean(name, made) if missing <= _MOST_HINTS else ""
                yield layer, splits.missing_bottom(name) + hint, element("bottom", index)
        made.update(layer.top)


@rule(NetSubject, ERROR)
def in_place_shared(net: NetSubject) -> Iterator[Place]:
    """A layer that works in place on a blob that another layer reads, too."""
    for index, (layer, sources) in enumerate(zip(net.layers, net.sources, strict=True)):
        for name, source in zip(layer.bottom, sources, strict=True):
            if name not in layer.top or source is None:
                continue
            others = [net.layers[reader] for reader in net.readers[source] if reader != index]
            other = next((other for other in others if name in other.bottom), None)
            if other is not None:
                text = f'works in place on "{name}", which {_named(other)} reads, too; give its top another name'
                yield layer, text, "top"


def _named(layer: pb.LayerParameter) -> str:
    return f'layer "{layer.name}"'


@rule(NetSubject, WARNING)
def duplicate_name(net: NetSubject) -> Iterator[Place]:
    """Two layers that learn and have one name: weights files could hold those of only one."""
    seen: Counter[str] = Counter()
    for layer in net.layers:
        if layer.type not in _LEARNING:
            continue
        seen[layer.name] += 1
        if seen[layer.name] == 2:
            yield layer, "another layer has this name; weights are saved by name, so give each its own", "name"


@rule(NetSubject, WARNING)
def unused_top(net: NetSubject) -> Iterator[Place]:
    """A top that no layer reads, in a net with a loss, where only losses and metrics are of use; and unread inputs."""
    trained = bool(net.losses)
    for index, layer in enumerate(net.layers if net.is_whole else ()):
        if layer.bottom and (not trained or registry.layer_class(layer).loss or layer.type in _MEASURES):
            continue
        for position, name in enumerate(layer.top):
            if (index, name) not in net.read_tops:
                text = f'no layer reads its top "{name}"; remove it, or end it in a Silence layer'
                yield layer, text, element("top", position)


@rule(NetSubject, WARNING)
def dead_layer(net: NetSubject) -> Iterator[Place]:
    """A layer that learns, from which no path leads to a loss."""
    alive = net.leading_to(net.losses)
    for index, layer in enumerate(net.layers if net.losses and net.is_whole and net.phase == pb.TRAIN else ()):
        if index not in alive and layer.type in _LEARNING and _learns(layer):
            yield layer, "no path leads from it to a loss, so that it never learns; connect it, or remove it", ""


@rule(NetSubject, WARNING)
def unlearnt_net(net: NetSubject) -> Iterator[Place]:
    """A loss, but no layer that learns."""
    learning = [layer for layer in net.layers if layer.type in _LEARNING]
    if net.losses and net.phase == pb.TRAIN and learning and not any(map(_learns, learning)):
        yield learning[0], "lr_mult is 0 here and in every other layer, so that nothing learns", "param.lr_mult"


@rule(NetSubject, WARNING)
def zero_weights(net: NetSubject) -> Iterator[Place]:
    """Weights that begin at zero, and so with the same gradient for every output."""
    for index, layer in enumerate(net.layers):
        field = _LEARNING.get(layer.type)
        if field is None or not _learns(layer) or not net.losses or not net.losses.isdisjoint(net.readers[index]):
            continue
        filler = getattr(layer, field).weight_filler
        if filler.type == "constant" and filler.value == 0:
            text = 'its weights begin at 0, all with the same gradient; give weight_filler { type: "xavier" } or "msra"'
            yield layer, f"{text}, unless it is finetuned", f"{field}.weight_filler"


@rule(NetSubject, WARNING)
def batchnorm_without_scale(net: NetSubject) -> Iterator[Place]:
    """BatchNorm alone has no scale and bias to learn."""
    for index, layer in enumerate(net.layers):
        if layer.type == "BatchNorm" and not any(net.layers[reader].type == "Scale" for reader in net.readers[index]):
            text = "no Scale follows it, which would learn the scale and bias that it takes away; add one"
            yield layer, f"{text} with scale_param {{ bias_term: true }}", ""


@rule(NetSubject, WARNING)
def bias_before_batchnorm(net: NetSubject) -> Iterator[Place]:
    """A bias that BatchNorm subtracts again."""
    for index, layer in enumerate(net.layers):
        field = _LEARNING.get(layer.type)
        behind = [net.layers[reader].type for reader in net.readers[index]]
        if field and getattr(layer, field).bias_term and behind and set(behind) == {"BatchNorm"}:
            text = "BatchNorm, which follows it, subtracts its bias again; set bias_term: false"
            yield layer, text, f"{field}.bias_term"


@rule(NetSubject, WARNING)
def activation_twice(net: NetSubject) -> Iterator[Place]:
    """A loss that applies its own softmax or sigmoid to the output of one."""
    for layer, sources in zip(net.layers, net.sources, strict=True):
        own = _TWICE.get(layer.type)
        if own and sources and sources[0] is not None and net.layers[sources[0]].type == own:
            text = f'{layer.type} applies {own} itself; give it what goes into "{net.layers[sources[0]].name}"'
            yield layer, text, "bottom"


@rule(NetSubject, WARNING)
def missing_file(net: NetSubject) -> Iterator[Place]:
    """A file that the net names and that is not there."""
    for layer in net.layers:
        named = [_FILES[layer.type]] if layer.type in _FILES else []
        if layer.transform_param.mean_file:
            named.append(("transform_param", "mean_file"))
        for message, field in named:
            path = getattr(getattr(layer, message), field)
            try:
                fault = "" if not path or net.context.place(path).exists() else f'there is no "{path}"'
            except BlobnetError as error:
                fault = str(error)
            if fault:
                yield (
                    layer,
                    f"{fault}; {field} is looked up in the working folder and beside the net",
                    f"{message}.{field}",
                )
