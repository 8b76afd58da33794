"""Old messages lifted to the current format, as the first pass on everything that is read.

Each step is a pair: ``needs_x(message)`` says whether it applies, ``upgrade_x(message)`` returns a new message and
leaves its argument alone. The lines of the old file stay with what was made of them.
"""

import logging

from blobnet.errors import element, error_at, field_lines, locate, set_field_lines
from blobnet.passes.fields import carry_lines
from blobnet.passes.upgrade_v0 import needs_v0, upgrade_v0
from blobnet.passes.upgrade_v1 import needs_transform, needs_v1, upgrade_transform, upgrade_v1
from blobnet.proto import blobnet_pb2 as pb

_logger = logging.getLogger("blobnet")


def upgrade_net(param: pb.NetParameter, source: str = "") -> pb.NetParameter:
    """The net in the current format; ``param`` itself where it already is.

    ``source`` names the net in the log. Raises BlobnetError for a net of mixed formats.
    """
    for needs, upgrade, what in _NET_STEPS:
        if needs(param):
            _logger.info("%s: upgraded %s", source or param.source_info.file or "net", what)
            param = upgrade(param)
    return param


def upgrade_solver(param: pb.SolverParameter, source: str = "") -> pb.SolverParameter:
    """The solver in the current format; ``param`` itself where it already is. ``source`` names it in the log."""
    if needs_solver_type(param):
        _logger.info("%s: upgraded solver_type to type", source or param.source_info.file or "solver")
        param = upgrade_solver_type(param)
    return param


def needs_input(net: pb.NetParameter) -> bool:
    return len(net.input) > 0


def upgrade_input(net: pb.NetParameter) -> pb.NetParameter:
    """``input`` with ``input_shape``, or four ``input_dim`` each, as an Input layer before all others.

    Inputs without any shape, as old weight files have them, are dropped.
    """
    if net.input_shape and net.input_dim:
        raise error_at(net, "give input_shape or input_dim, not both", "input_dim")
    lifted = pb.NetParameter()
    lifted.CopyFrom(net)
    for name in ("input", "input_shape", "input_dim"):
        lifted.ClearField(name)
    if not (net.input_shape or net.input_dim):
        return lifted
    del lifted.layer[:]
    lifted.layer.append(_input_layer(net))
    lifted.layer.extend(net.layer)
    return lifted


def _input_layer(net: pb.NetParameter) -> pb.LayerParameter:
    count = len(net.input)
    renamed = {element("input", i): element("top", i) for i in range(count)}
    if net.input_shape:
        if len(net.input_shape) != count:
            text = f"every input needs one input_shape; got {count} input, {len(net.input_shape)} input_shape"
            raise error_at(net, text, "input_shape")
        shapes = list(net.input_shape)
        renamed |= {element("input_shape", i): element("input_param.shape", i) for i in range(count)}
    else:
        if len(net.input_dim) != 4 * count:
            text = f"every input needs four input_dim; got {count} input, {len(net.input_dim)} input_dim"
            raise error_at(net, text, "input_dim")
        shapes = [pb.BlobShape(dim=net.input_dim[4 * i : 4 * i + 4]) for i in range(count)]
        for i in range(4 * count):
            shape = element("input_param.shape", i // 4)
            renamed[element("input_dim", i)] = element(f"{shape}.dim", i % 4)
    layer = pb.LayerParameter(name="input", type="Input", top=net.input, input_param={"shape": shapes})
    carry_lines(net, layer, renamed)
    if layer.HasField("source_info"):
        layer.source_info.line = locate(net, "input")[1] or layer.source_info.line
    return layer


def needs_batch_norm(net: pb.NetParameter) -> bool:
    return any(_learns_statistics(layer) for layer in net.layer)


def upgrade_batch_norm(net: pb.NetParameter) -> pb.NetParameter:
    """The ``param`` of a BatchNorm's three statistics set to what they need: no learning rate, no decay."""
    lifted = pb.NetParameter()
    lifted.CopyFrom(net)
    for layer in filter(_learns_statistics, lifted.layer):
        for param in layer.param:
            param.lr_mult = 0
            param.decay_mult = 0
    return lifted


def _learns_statistics(layer: pb.LayerParameter) -> bool:
    if layer.type != "BatchNorm" or len(layer.param) != 3:
        return False
    return any(param.lr_mult or param.decay_mult for param in layer.param)


def needs_solver_type(solver: pb.SolverParameter) -> bool:
    return solver.HasField("solver_type")


def upgrade_solver_type(solver: pb.SolverParameter) -> pb.SolverParameter:
    """The enum ``solver_type`` as the string ``type``. Raises BlobnetError where both are given."""
    old = pb.SolverParameter.SolverType.Name(solver.solver_type)
    new = _SOLVER_TYPES[old]
    if solver.HasField("type"):
        text = f'give type or solver_type (old), not both; got type "{solver.type}", solver_type {old}'
        raise error_at(solver, text, "solver_type")
    lifted = pb.SolverParameter()
    lifted.CopyFrom(solver)
    lifted.ClearField("solver_type")
    lifted.type = new
    lines = field_lines(lifted.source_info.fields)
    if "solver_type" in lines:
        set_field_lines(lifted.source_info, lines | {"type": lines.pop("solver_type")})
    return lifted


_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}

_NET_STEPS = (
    (needs_v0, upgrade_v0, "layers of 2013 to those of 2014"),
    (needs_transform, upgrade_transform, "the transformations of data layers to transform_param"),
    (needs_v1, upgrade_v1, "layers of 2014 to the current ones"),
    (needs_input, upgrade_input, "input fields to an Input layer"),
    (needs_batch_norm, upgrade_batch_norm, "the params of BatchNorm layers to lr_mult 0"),
)
