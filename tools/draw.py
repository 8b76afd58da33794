"""The graph of a net as SVG or PNG, without any system program, or as dot.

A box is a layer with the layers that work in place on its output; an arrow is a blob.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from blobnet.errors import BlobnetError, did_you_mean, error_at
from blobnet.io.files import atomic_write
from blobnet.passes import phases, splits, upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.tools import layout

ENDINGS = ("svg", "png", "dot")
MARGIN, LINE, PADDING = 12, 16, 10
_GAP, _CHARACTER = layout.Size(24, 36), 7.3

_WEIGHTED = {"Convolution", "Deconvolution", "InnerProduct", "Embed", "LSTM", "RNN"}
_COLORS = {
    "data": "#e8e4d9",
    "weights": "#cfe3f7",
    "pooling": "#f7dfc3",
    "loss": "#f6cfcf",
    "other": "#f2f2f2",
}


class Box(NamedTuple):
    layers: list[pb.LayerParameter]  # the first makes the tops, the others work on them in place

    @property
    def lines(self) -> list[str]:
        return [f"{layer.name}: {_describe(layer)}" for layer in self.layers]

    @property
    def color(self) -> str:
        layer = self.layers[0]
        if not layer.bottom:
            return _COLORS["data"]
        if layer.type in _WEIGHTED:
            return _COLORS["weights"]
        if layer.type in ("Pooling", "SPP"):
            return _COLORS["pooling"]
        return _COLORS["loss" if layer.type.endswith("Loss") or layer.type == "Accuracy" else "other"]


class Arrow(NamedTuple):
    start: int
    stop: int
    blob: str


class Graph(NamedTuple):
    boxes: list[Box]
    arrows: list[Arrow]


def draw(net: str | Path, picture: str | Path, phase: int = pb.TEST, **state) -> None:
    """Draw a prototxt into a file whose name ends in .svg, .png or .dot; the state is that of ``graph``."""
    ending = Path(picture).suffix[1:]
    if ending not in ENDINGS:
        name = Path(picture).name
        raise BlobnetError(f"the name of a picture ends in .svg, .png or .dot; got {name}", file=str(picture))
    drawn = render(graph(text.read(net, pb.NetParameter()), phase, **state), ending)
    with atomic_write(picture) as temporary:
        Path(temporary).write_bytes(drawn)


def render(net: Graph, ending: str) -> bytes:
    """The graph as a file of one of the ENDINGS."""
    from blobnet.tools import raster

    if ending == "png":
        return raster.to_png(net)
    return (to_svg(net) if ending == "svg" else to_dot(net)).encode()


def graph(net: pb.NetParameter, phase: int = pb.TEST, level: int = 0, stages: Sequence[str] = ()) -> Graph:
    """The boxes of a net in the order of its layers, and the arrows between them."""
    state = pb.NetState(phase=pb.Phase.Name(phase), level=level, stage=stages)
    boxes: list[Box] = []
    arrows: list[Arrow] = []
    makers: dict[str, int] = {}
    for layer in phases.connected_net(upgrade.upgrade_net(net), state).layer:
        for bottom in layer.bottom:
            if bottom not in makers:
                raise error_at(layer, splits.missing_bottom(bottom) + did_you_mean(bottom, makers), "bottom")
        if layer.top and list(layer.top) == list(layer.bottom):
            boxes[makers[layer.top[0]]].layers.append(layer)
            continue
        arrows += [Arrow(makers[bottom], len(boxes), bottom) for bottom in layer.bottom]
        makers.update((top, len(boxes)) for top in layer.top)
        boxes.append(Box([layer]))
    return Graph(boxes, arrows)


def to_dot(net: Graph) -> str:
    """The graph in the language of Graphviz."""
    lines = ["digraph net {", '  node [shape=box, style="rounded,filled", fontname="Helvetica"];']
    for number, box in enumerate(net.boxes):
        lines.append(f'  n{number} [label="{_quoted(box.lines)}", fillcolor="{box.color}"];')
    for arrow in net.arrows:
        lines.append(f'  n{arrow.start} -> n{arrow.stop} [tooltip="{_quoted([arrow.blob])}"];')
    return "\n".join([*lines, "}", ""])


def to_svg(net: Graph) -> str:
    """The graph as a picture; resting on an arrow shows the name of its blob."""
    sizes, places = placed(net)
    width, height = (round(extent + 2 * MARGIN) for extent in places.size)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="{-MARGIN} {-MARGIN} {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for arrow, points in zip(net.arrows, arrow_points(net, sizes, places), strict=True):
        lines.append(
            f'<path d="{_curve(points)}" fill="none" stroke="#555" marker-end="url(#tip)">'
            f"<title>{escape(arrow.blob)}</title></path>"
        )
    for box, size, centre in zip(net.boxes, sizes, places.centres, strict=True):
        left, top = centre.x - size.width / 2, centre.y - size.height / 2
        lines.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="5" '
            f'fill="{box.color}" stroke="#555"/>'
        )
        for number, line in enumerate(box.lines, start=1):
            y = top + PADDING / 2 + number * LINE - 4
            lines.append(f'<text x="{centre.x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(line)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def placed(net: Graph) -> tuple[list[layout.Size], layout.Layout]:
    """The sizes of the boxes, and where they stand."""
    sizes = [_size(box) for box in net.boxes]
    return sizes, layout.layered(sizes, [(arrow.start, arrow.stop) for arrow in net.arrows], _GAP)


def arrow_points(net: Graph, sizes: Sequence[layout.Size], places: layout.Layout) -> Iterator[list[layout.Point]]:
    """For each arrow the points it runs through, from the bottom of one box to the top of another."""
    for arrow, bends in zip(net.arrows, places.bends, strict=True):
        start, stop = places.centres[arrow.start], places.centres[arrow.stop]
        yield [
            start._replace(y=start.y + sizes[arrow.start].height / 2),
            *bends,
            stop._replace(y=stop.y - sizes[arrow.stop].height / 2),
        ]


def _size(box: Box) -> layout.Size:
    return layout.Size(
        max(map(len, box.lines)) * _CHARACTER + 2 * PADDING,
        len(box.lines) * LINE + PADDING,
    )


def _curve(points: Sequence[layout.Point]) -> str:
    """A path that leaves and enters every point straight down."""
    path = f"M{points[0].x:.1f} {points[0].y:.1f}"
    for before, after in zip(points, points[1:], strict=False):
        middle = (before.y + after.y) / 2
        path += f"C{before.x:.1f} {middle:.1f} {after.x:.1f} {middle:.1f} {after.x:.1f} {after.y:.1f}"
    return path


def _quoted(lines: Sequence[str]) -> str:
    return "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)


def _describe(layer: pb.LayerParameter) -> str:
    """The type of a layer and what its size follows from: ``Convolution 96, 11 x 11, stride 4``."""
    if layer.type in ("Convolution", "Deconvolution"):
        param = layer.convolution_param
        kernel = list(param.kernel_size) or [param.kernel_h, param.kernel_w]
        parts = [f"{layer.type} {param.num_output}", _by(kernel)]
        parts += [f"stride {_by(param.stride)}"] if any(stride != 1 for stride in param.stride) else []
        parts += [f"group {param.group}"] if param.group != 1 else []
        return ", ".join(parts)
    if layer.type == "Pooling":
        pooling = layer.pooling_param
        method = pb.PoolingParameter.PoolMethod.Name(pooling.pool)
        if pooling.global_pooling:
            return f"Pooling {method}, global"
        kernel = [pooling.kernel_size] if pooling.kernel_size else [pooling.kernel_h, pooling.kernel_w]
        return f"Pooling {method}, {_by(kernel)}, stride {pooling.stride}"
    for field in ("inner_product_param", "recurrent_param", "embed_param"):
        if layer.HasField(field):
            return f"{layer.type} {getattr(layer, field).num_output}"
    return layer.type


def _by(extents: Sequence[int]) -> str:
    """``3 x 3`` for one extent or for two."""
    return " x ".join(map(str, extents if len(extents) > 1 else [*extents] * 2))
