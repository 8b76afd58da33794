"""The layers of a net one by one, each as a net of its own, with how often the net has such a layer."""

from typing import NamedTuple

from benchmarks import nets
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

_WEIGHTED = ("Convolution", "InnerProduct")


class Unit(NamedTuple):
    """A layer, or several that blobnet runs as one."""

    name: str  # of its first occurrence
    type: str
    shapes: str  # of the first bottom and of the top
    param: pb.NetParameter
    propagate: bool  # whether the net asks for the gradient of its bottom
    count: int  # occurrences in the net

    @property
    def tasks(self) -> list[str]:
        if self.type not in _WEIGHTED:
            return ["forward", "backward"]
        return ["forward", "to data", "to weights"] if self.propagate else ["forward", "to weights"]


def units(param: pb.NetParameter) -> list[Unit]:
    """The different layers of a train net, in order, but for the Splits, of which a prototxt says nothing."""
    net = Net(param, pb.TRAIN, seed=1)
    found: dict[bytes, Unit] = {}
    for step in net.steps:
        group = [net.layers[index].param for index in step]
        if group[0].type in ("Input", "Split"):
            continue
        unit = _unit(group, net)
        known = found.setdefault(_key(unit.param), unit)
        found[_key(unit.param)] = known._replace(count=known.count + 1)
    return list(found.values())


def _unit(group: list[pb.LayerParameter], net: Net) -> Unit:
    bottoms = list(dict.fromkeys(group[0].bottom))
    param = pb.NetParameter(force_backward=True)
    param.layer.extend(nets.input_layer(f"bottom{i}", net.blobs[name].shape) for i, name in enumerate(bottoms))
    names = {name: f"bottom{i}" for i, name in enumerate(bottoms)}
    for i, layer in enumerate(group):
        own = param.layer.add()
        own.CopyFrom(layer)
        own.name = f"layer{i}"
        own.bottom[:] = [names[name] for name in layer.bottom]
        own.top[:] = ["top"]
        names[layer.top[0]] = "top"
    first, top = (net.blobs[name].shape for name in (bottoms[0], group[-1].top[0]))
    shapes = " -> ".join("x".join(map(str, shape)) or "1" for shape in dict.fromkeys((first, top)))
    type_name = "+".join(layer.type for layer in group)
    return Unit(group[0].name, type_name, shapes, param, bottoms[0] not in net.inputs, count=0)


def _key(param: pb.NetParameter) -> bytes:
    """Equal for equal layers, whatever they start from."""
    plain = pb.NetParameter()
    plain.CopyFrom(param)
    for layer in plain.layer:
        del layer.param[:]
        for weighted in (layer.convolution_param, layer.inner_product_param):
            weighted.ClearField("weight_filler")
            weighted.ClearField("bias_filler")
    return plain.SerializeToString(deterministic=True)
