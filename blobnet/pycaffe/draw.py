"""caffe.draw: pictures of nets, drawn by ``blobnet.tools.draw``; with pydot installed, pycaffe's own graph."""

import importlib
from pathlib import Path
from typing import Any

from blobnet.errors import BlobnetError
from blobnet.io.files import atomic_write
from blobnet.passes import phases, upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.tools import draw

LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": "#6495ED", "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

_LEARNING = ("Convolution", "Deconvolution", "InnerProduct")

_COLORS = {"Convolution": "#FF5050", "Deconvolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}


def draw_net(
    caffe_net: pb.NetParameter, rankdir: str, ext: str = "png", phase: int | None = None, display_lrm: bool = False
) -> bytes:
    """The picture of a net as the bytes of a file.

    rankdir      accepted for pydot's formats; png, svg and dot always flow downwards
    ext          png, svg, dot or raw (dot as well); any other format of Graphviz takes pydot
    phase        draw the layers of TRAIN or of TEST only
    display_lrm  show the lr_mult of each layer (pydot's formats)
    """
    ext = "dot" if ext == "raw" else ext
    if ext in draw.ENDINGS:
        return draw.render(draw.graph(_of_phase(caffe_net, phase), pb.TEST if phase is None else phase), ext)
    return get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm).create(format=ext)


def draw_net_to_file(
    caffe_net: pb.NetParameter,
    filename: str,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Write the picture of a net into a file, in the format of its extension."""
    picture = draw_net(caffe_net, rankdir, Path(filename).suffix[1:], phase, display_lrm)
    with atomic_write(filename) as temporary:
        Path(temporary).write_bytes(picture)


def get_pydot_graph(
    caffe_net: pb.NetParameter,
    rankdir: str,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Any:
    """The graph of layers and blobs as a ``pydot.Dot``; takes pydot, and to make pictures of it also Graphviz."""
    try:
        pydot = importlib.import_module("pydot")
    except ImportError as error:
        raise BlobnetError("pydot is not installed; draw_net draws png, svg and dot without it") from error
    graph = pydot.Dot(caffe_net.name or "Net", graph_type="digraph", rankdir=rankdir)
    layers = _of_phase(caffe_net, phase).layer
    for blob in dict.fromkeys(blob for layer in layers for blob in (*layer.bottom, *layer.top)):
        graph.add_node(pydot.Node(f"{blob}_blob", label=blob, **BLOB_STYLE))
    for layer in layers:
        in_place = len(layer.top) == 1 and list(layer.top) == list(layer.bottom)
        style = NEURON_LAYER_STYLE if in_place else _style(layer.type)
        label = get_layer_label(layer, rankdir, display_lrm)
        node = pydot.Node(f"{layer.name}_{layer.type}", label=label, **style)
        graph.add_node(node)
        for blob in layer.bottom:
            graph.add_edge(pydot.Edge(f"{blob}_blob", node, label='""'))
        for blob in layer.top:
            graph.add_edge(pydot.Edge(node, f"{blob}_blob", label=get_edge_label(layer) if label_edges else '""'))
    return graph


def get_layer_label(layer: pb.LayerParameter, rankdir: str, display_lrm: bool = False) -> str:
    """Name, type, window and, if wanted, learning rates of a layer, on one line where the graph flows downwards.

    In quotes, which colons need in the language of Graphviz.
    """
    parts = [layer.name, f"({layer.type})"]
    if layer.type in ("Convolution", "Deconvolution"):
        window = layer.convolution_param
        for what, values, default in (
            ("kernel size", window.kernel_size, 1),
            ("stride", window.stride, 1),
            ("pad", window.pad, 0),
        ):
            parts.append(f"{what}: {values[0] if values else default}")
    elif layer.type == "Pooling":
        pooling = layer.pooling_param
        parts[1] = f"({layer.type} {get_pooling_types_dict()[pooling.pool]})"
        parts += [f"kernel size: {pooling.kernel_size}", f"stride: {pooling.stride}", f"pad: {pooling.pad}"]
    if display_lrm and layer.type in _LEARNING:
        weights, bias = get_layer_lr_mult(layer)
        parts += [f"lr mult: {weights:.1f}, {bias:.1f}"] if weights or bias else []
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    return f'"{separator.join(parts)}"'


def get_layer_lr_mult(layer: pb.LayerParameter) -> tuple[float, float]:
    """The lr_mult of the weights and of the bias (default 1) of a Convolution, Deconvolution or InnerProduct."""
    if layer.type not in _LEARNING:
        raise ValueError(f"the lr_mult of {' and '.join(_LEARNING)} layers is known; got a layer of type {layer.type}")
    weights, bias = [*(param.lr_mult for param in layer.param), 1.0, 1.0][:2]
    return weights, bias


def get_edge_label(layer: pb.LayerParameter) -> str:
    """What an arrow out of the layer says: the batch size of data, the number of outputs of weights."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return '""'


def get_pooling_types_dict() -> dict[int, str]:
    """{value: name} of the pooling methods."""
    return {value: name for name, value in pb.PoolingParameter.PoolMethod.items()}


def choose_color_by_layertype(layertype: str) -> str:
    return _COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def _style(layer_type: str) -> dict[str, str]:
    return {**LAYER_STYLE_DEFAULT, "fillcolor": choose_color_by_layertype(layer_type)}


def _of_phase(net: pb.NetParameter, phase: int | None) -> pb.NetParameter:
    """The layers of a phase, or all: ``phase`` None leaves out the rules about phases."""
    upgraded = upgrade.upgrade_net(net)
    if phase is not None:
        return phases.filter_net(upgraded, pb.NetState(phase=pb.Phase.Name(phase)))
    unruled = pb.NetParameter()
    unruled.CopyFrom(upgraded)
    for layer in unruled.layer:
        del layer.include[:], layer.exclude[:]
    return unruled
