"""What a net amounts to: by layer, its output, weights, multiply-adds, receptive field and activations.

Stands beside the flow: a net is built for its shapes, no pass is run, and weights are neither drawn nor stored.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from blobnet import collector, memory, receptive
from blobnet.context import Context
from blobnet.errors import BlobnetError, error_at
from blobnet.net import Net
from blobnet.passes import phases, upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.zoo import datasets

Shape = tuple[int, ...]

_STATISTICS = {"BatchNorm"}
_TIME_FIRST = {"LSTM", "RNN"}


class Row(NamedTuple):
    """One layer of a summary."""

    name: str
    type: str
    outputs: list[Shape]
    parameters: int  # the solver learns; shared ones count with their owner, BatchNorm's statistics do not
    multiply_adds: int  # of a forward pass, in products with weights
    field: receptive.Field | None  # of a cell of the first output
    activations: int  # bytes of the outputs; none where the layer works in place


class Summary(NamedTuple):
    rows: list[Row]
    notes: list[str]  # what was taken for granted
    training: memory.Memory | None = None  # in the TRAIN phase

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activations(self) -> int:
        return sum(row.activations for row in self.rows)


def summarize(
    param: pb.NetParameter | str | Path,
    phase: pb.Phase = pb.TEST,
    *,
    batch: int | None = None,
    inputs: Mapping[str, Shape] | None = None,
    **options,
) -> Summary:
    """The summary of a prototxt; the arguments are those of ``build``."""
    net, notes = build(param, phase, batch, inputs, **options)
    return Summary(rows(net), notes, memory.of_training(net) if net.phase == pb.TRAIN else None)


@collector.paused()
def build(
    param: pb.NetParameter | str | Path,
    phase: "pb.Phase",
    batch: int | None = None,
    inputs: Mapping[str, Shape] | None = None,
    **options,
) -> tuple[Net, list[str]]:
    """The net of a prototxt, with its shapes but without data and weights, and what had to be assumed.

    batch   the first extent of all inputs; when left out 1, but as written in recurrent nets, whose first axis is
            time, and in nets that hold for their own batch only
    inputs  shapes of tops whose data layers cannot tell: their sources are missing
    options as for Net
    A Data, ImageData or WindowData layer whose source is missing is taken to give 3 channels of its crop_size, or
    of the size that it resizes to.
    """
    if not isinstance(param, pb.NetParameter):
        options.setdefault("folder", Path(param).parent)
        param = text.read(param, pb.NetParameter())
    param = upgrade.upgrade_net(param)
    state = pb.NetState(phase=phase, level=options.get("level", 0), stage=options.get("stages", ()))
    param = phases.connected_net(param, state)
    notes: list[str] = []
    folder = options.get("folder")
    context = Context(
        phase=phase,
        folder=Path(folder) if folder is not None else None,
        allowed_modules=frozenset(options.get("allowed_modules", ())),
        untrusted=options.get("untrusted", False),
    )
    _check_names(inputs or {}, param)
    depths = {layer.name: layer.data_param.prefetch for layer in param.layer if layer.type in _IMAGE_SOURCES}
    for layer in param.layer:
        _give_shape(layer, inputs or {}, context, notes)
        _strip_fillers(layer)
    net = None
    if batch is None and not any(layer.type in _TIME_FIRST for layer in param.layer):
        try:
            net = Net(_with_batch(param, 1), phase, **options)
        except BlobnetError:
            notes.append("the batch is the one written: the net cannot be built for one image")
    net = net or Net(_with_batch(param, batch), phase, **options)
    for built, top in zip(net.layers, net.tops, strict=True):
        if built.type == "Input":
            built.read_ahead = depths.get(built.name, 0) * sum(blob.count for blob in top)
    return net, notes


def rows(net: Net) -> list[Row]:
    """One row for each layer of a net; automatic Split layers, which do nothing, have none."""
    fields = receptive.fields(net)
    learned = [0] * len(net.layers)
    for learnable in net.learnables:
        index = learnable.owner.layer_index
        if net.layers[index].type not in _STATISTICS:
            learned[index] += net.layers[index].blobs[learnable.owner.param_index].count
    found = []
    for layer, parameters, bottoms, tops in zip(net.layers, learned, net.bottoms, net.tops, strict=True):
        if layer.type == "Split":
            continue
        new = [top for top in tops if not any(top is bottom for bottom in bottoms)]
        found.append(
            Row(
                layer.name,
                layer.type,
                [top.shape for top in tops],
                parameters,
                layer.flops(bottoms, tops) // 2,
                fields.get(tops[0].name) if tops and tops[0].num_axes else None,
                sum(top.count for top in new) * layer.dtype.itemsize,
            )
        )
    return found


# Shapes without data

_IMAGE_SOURCES = {"Data": "data_param", "ImageData": "image_data_param", "WindowData": "window_data_param"}
_SOURCES = {**_IMAGE_SOURCES, "HDF5Data": "hdf5_data_param"}


def _give_shape(layer: pb.LayerParameter, inputs: Mapping[str, Shape], context: Context, notes: list[str]) -> None:
    """Let an Input layer stand for a data layer whose shape is given, or whose source is missing."""
    if layer.bottom:
        return
    if any(top in inputs for top in layer.top):
        shape = next(inputs[top] for top in layer.top if top in inputs)
    elif layer.type in _SOURCES and not _is_there(layer, context):
        shape = _image_shape(layer, notes)
    elif layer.type == "Python" and not context.allows(layer.python_param.module):
        module = layer.python_param.module
        rule = f'the module "{module}" is not allowed to run (--allow-python {module}) and tell the shape of its data'
        raise _unknown_shape(layer, rule, "python_param.module")
    else:
        return
    shapes = [inputs.get(top, shape if index == 0 else shape[:1]) for index, top in enumerate(layer.top)]
    stand_in = pb.LayerParameter(name=layer.name, type="Input", top=layer.top)
    stand_in.input_param.shape.extend(pb.BlobShape(dim=extents) for extents in shapes)
    layer.CopyFrom(stand_in)


def _unknown_shape(layer: pb.LayerParameter, rule: str, field: str) -> BlobnetError:
    remedy = " ".join(f"--input {top}={shape}" for top, shape in zip(layer.top, ("1x3x32x32", "1"), strict=False))
    return error_at(layer, f"{rule}; state it ({remedy})", field)


def _is_there(layer: pb.LayerParameter, context: Context) -> bool:
    """Whether the source can be read; the zoo's databases are not made for their shape, which is known."""
    source = getattr(layer, _SOURCES[layer.type]).source
    return bool(source) and Path(source).name not in datasets.names() and context.place(source).exists()


def _image_shape(layer: pb.LayerParameter, notes: list[str]) -> Shape:
    """What the layer itself says of its images: of the zoo's databases all, of others the size at most."""
    field = _SOURCES[layer.type]
    param = getattr(layer, field)
    crop = layer.transform_param.crop_size
    name = Path(param.source).name
    if name in datasets.names():
        channels, *size = datasets.shape(name)
        return (param.batch_size, channels, *((crop, crop) if crop else size))
    height, width = (crop, crop) if crop or layer.type != "ImageData" else (param.new_height, param.new_width)
    if not height or not width or layer.type not in _IMAGE_SOURCES:
        rule = f'there is no "{param.source}"' if param.source else "no source is given"
        raise _unknown_shape(layer, f"{rule} to tell the shape of the data", f"{field}.source")
    notes.append(f'{layer.name}: there is no "{param.source}" here; images of 3 channels are assumed')
    return (param.batch_size, 3, height, width)


def _check_names(inputs: Mapping[str, Shape], net: pb.NetParameter) -> None:
    tops = [top for layer in net.layer if not layer.bottom for top in layer.top]
    for name in inputs:
        if name not in tops:
            rule = f"shapes may be given for the blobs that come from outside: {', '.join(tops) or 'none'}"
            raise error_at(net, f'{rule}; got "{name}"')


def _with_batch(param: pb.NetParameter, batch: int | None) -> pb.NetParameter:
    """A copy of the net with this first extent of its inputs; None: as written."""
    copy = pb.NetParameter()
    copy.CopyFrom(param)
    if batch is None:
        return copy
    for layer in copy.layer:
        for field, value in layer.ListFields():
            if field.message_type is not None and "batch_size" in field.message_type.fields_by_name:
                value.batch_size = batch
        for shape in layer.input_param.shape:
            if len(shape.dim) > 0:
                shape.dim[0] = batch
    return copy


def _strip_fillers(layer: pb.LayerParameter) -> None:
    """Leave the weights at zero: memory that nobody has written to takes none."""
    for field, value in layer.ListFields():
        if field.message_type is not None and field.name.endswith("_param") and field.name != "dummy_data_param":
            for name in field.message_type.fields_by_name:
                if name.endswith("filler"):
                    value.ClearField(name)


# Text

_HEADINGS = ("layer", "type", "output", "parameters", "multiply-adds", "field", "stride", "offset", "bytes")
_LEFT = 3  # columns that are flush left


def table(summary: Summary) -> list[str]:
    """The summary as lines of text: headings, a line for each layer, totals."""
    cells = [_HEADINGS, *(_cells(row) for row in summary.rows)]
    totals = map(_number, (summary.parameters, summary.multiply_adds))
    cells.append(("total", "", "", *totals, "", "", "", _number(summary.activations)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(_padded(line, widths)).rstrip() for line in cells]
    return lines + (_memory(summary.training) if summary.training else [])


def _memory(training: memory.Memory) -> list[str]:
    parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in training._asdict().items())
    return [
        "",
        f"Training with momentum takes about {training.peak / 1e6:.0f} MB, with batches like this one ({parts})",
    ]


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    pairs = zip(line, widths, strict=True)
    return [cell.ljust(width) if place < _LEFT else cell.rjust(width) for place, (cell, width) in enumerate(pairs)]


def _cells(row: Row) -> tuple[str, ...]:
    outputs = ", ".join(" x ".join(map(str, shape)) or "scalar" for shape in row.outputs)
    seen = [_per_axis([axis[part] for axis in row.field]) if row.field else "" for part in range(3)]
    return (
        row.name,
        row.type,
        outputs,
        *map(_number, (row.parameters, row.multiply_adds)),
        *seen,
        _number(row.activations),
    )


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _per_axis(values: Sequence) -> str:
    """One number where the axes agree."""
    return str(values[0]) if len(set(values)) == 1 else " x ".join(map(str, values))
