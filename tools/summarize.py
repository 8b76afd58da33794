"""The layers of a prototxt at a glance, without building the net."""

import os
import re
from collections.abc import Sequence

from blobnet.passes.upgrade import upgrade_net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

_COLORS = ("92", "93", "94", "95", "97", "96", "42", "43;30", "100", "44", "103;30", "107;30")
_MISSING = "41"  # a bottom that no layer makes
_UNREAD = "1;4;"  # a top that no layer reads
_PAINT = re.compile(r"\x1b\[[\d;]+m")


def read_net(path: str | os.PathLike) -> pb.NetParameter:
    return upgrade_net(text.read(os.fspath(path), pb.NetParameter()), os.fspath(path))


def table(net: pb.NetParameter, max_width: int = 30, color: bool = False) -> list[str]:
    """A line for each layer: name, type, (learning rates), bottoms -> tops, window.

    Rates are shown where they are not 1: ``x2`` for lr_mult, ``Dx0`` for decay_mult. A window is
    ``kernel/stride+pad outputs/groups``. With color each blob has one, missing bottoms are marked and unread tops
    underlined.
    """
    return _aligned(rows(net, color), max_width)


def rows(net: pb.NetParameter, color: bool = False) -> list[list[str]]:
    """The cells of the table."""
    made = {top: number for number, top in enumerate(dict.fromkeys(top for layer in net.layer for top in layer.top))}
    unread = set(made) - {bottom for layer in net.layer for bottom in layer.bottom}

    def paint(blob: str, shown: str, mark: str = "") -> str:
        code = mark + _COLORS[made[blob] % len(_COLORS)] if blob in made else _MISSING
        return f"\x1b[{code}m{shown}\x1b[0m" if color else shown

    return [
        [
            layer.name,
            f"{layer.python_param.module}.{layer.python_param.layer}" if layer.type == "Python" else layer.type,
            _rates(layer),
            ", ".join(paint(bottom, bottom) for bottom in layer.bottom),
            "->",
            ", ".join(
                paint(top, shown, _UNREAD if top in unread else "")
                for top, shown in zip(layer.top, _weighted_tops(layer), strict=True)
            ),
            _window(layer),
        ]
        for layer in net.layer
    ]


def _rates(layer: pb.LayerParameter) -> str:
    shown = []
    for param in layer.param:
        words = [param.name] if param.name else []
        words += [f"x{param.lr_mult:g}"] if param.lr_mult != 1 else []
        words += [f"Dx{param.decay_mult:g}"] if param.decay_mult != 1 else []
        shown.append(" ".join(words))
    return f"({', '.join(shown)})" if any(shown) else ""


def _weighted_tops(layer: pb.LayerParameter) -> list[str]:
    weights = [f"{weight:g} * " for weight in layer.loss_weight] + [""] * len(layer.top)
    return [weight + top for weight, top in zip(weights, layer.top, strict=False)]


def _window(layer: pb.LayerParameter) -> str:
    if layer.type in ("Convolution", "Deconvolution"):
        param = layer.convolution_param
        group = f"/{param.group}" if param.group != 1 else ""
        return f"{_extents(param)} {param.num_output}{group}"
    if layer.type == "Pooling":
        return "global" if layer.pooling_param.global_pooling else _extents(layer.pooling_param)
    return ""


def _extents(param) -> str:
    kernel, stride, pad = (_axes(param, field) for field in ("kernel_size", "stride", "pad"))
    return kernel + (f"/{stride}" if stride not in ("", "1") else "") + (f"+{pad}" if pad not in ("", "0") else "")


def _axes(param, field: str) -> str:
    """One number, or those of height and width, of a field that has ``_h`` and ``_w`` beside it."""
    short = field.partition("_")[0]
    if param.HasField(f"{short}_h"):
        return f"{getattr(param, f'{short}_h')}x{getattr(param, f'{short}_w')}"
    value = getattr(param, field)
    return str(value) if isinstance(value, int) else "x".join(map(str, value))


def _aligned(cells: Sequence[Sequence[str]], max_width: int) -> list[str]:
    """Lines of columns as wide as their widest cell, at most ``max_width``: a longer one takes from the next."""
    widths = [min(max(map(_shown_width, column)) + 1, max_width) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        line, edge = "", 0
        for cell, width in zip(row, widths, strict=True):
            edge += width
            line += f"{cell} "
            line += " " * (edge - _shown_width(line))
        lines.append(line.rstrip())
    return lines


def _shown_width(cell: str) -> int:
    return len(_PAINT.sub("", cell))
