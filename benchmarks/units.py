"""The layers of a net one by one, each as a net of its own, with how often the net has such a layer.

Layers that leave work to each other are not torn apart: what runs as one, and a Concat with what reads the gradients of
its bottoms in its top.
"""

import itertools
from typing import NamedTuple

from benchmarks import nets
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

_WEIGHTED = ("Convolution", "InnerProduct")


class Unit(NamedTuple):
    """A layer, or several."""

    name: str  # of its first occurrence; a Concat gives its own to the layers before it
    type: str
    shapes: str  # of the first bottom and of the top
    param: pb.NetParameter
    propagate: bool  # whether the net asks for the gradients of its bottoms
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
    for steps in _torn_nowhere(net):
        groups = [[net.layers[index].param for index in step] for step in steps]
        if groups[0][0].type in ("Input", "Split"):
            continue
        unit = _unit(groups, net)
        known = found.setdefault(_key(unit.param), unit)
        found[_key(unit.param)] = known._replace(count=known.count + 1)
    return list(found.values())


def _torn_nowhere(net: Net) -> list[list[range]]:
    """The steps of a net, those of a unit together."""
    steps = net.steps
    net.fuse(lean=True)
    maker_of = {blob: step for step in reversed(steps) for blob in net.tops[step[-1]]}
    makers = {index: [maker_of[part] for part in parts] for index, parts in net.joined.items()}
    taken = {step for own in makers.values() for step in own}
    return [[*makers.get(step[0], ()), step] for step in steps if step not in taken]


def _unit(groups: list[list[pb.LayerParameter]], net: Net) -> Unit:
    bottoms, made = {}, set()
    for layer in itertools.chain(*groups):
        bottoms |= dict.fromkeys(name for name in layer.bottom if name not in made)
        made.update(layer.top)
    param = pb.NetParameter(force_backward=True)
    names = {name: f"bottom{i}" for i, name in enumerate(bottoms)}
    param.layer.extend(nets.input_layer(own, net.blobs[name].shape) for name, own in names.items())
    for number, group in enumerate(groups):
        for layer in group:
            own = param.layer.add()
            own.CopyFrom(layer)
            own.name = f"layer{len(param.layer) - len(bottoms) - 1}"
            own.bottom[:] = [names[name] for name in layer.bottom]
            own.top[:] = [f"top{number}"]
            names[layer.top[0]] = own.top[0]
    source, target = next(iter(bottoms)), groups[-1][-1].top[0]
    first, top = net.blobs[source].shape, net.blobs[target].shape
    shapes = " -> ".join("x".join(map(str, shape)) or "1" for shape in dict.fromkeys((first, top)))
    types = ["+".join(layer.type for layer in group) for group in groups]
    return Unit(groups[-1][0].name, ", ".join(types), shapes, param, source not in net.inputs, count=0)


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
