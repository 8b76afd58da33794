"""Nets written as Python expressions: ``n.conv = L.Convolution(n.data, num_output=20, kernel_size=5)``.

Every call of ``L.Type(...)`` makes a Function with its Tops; a NetSpec gives tops names; ``to_proto`` walks from the
tops back to all that they need, and writes each layer after those it reads.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

from blobnet.errors import did_you_mean
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import forks


def param_name_dict() -> dict[str, str]:
    """{layer type: the field of LayerParameter with its parameters, without ``_param``}, by the messages' names."""
    return {
        field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param")
        for field in pb.LayerParameter.DESCRIPTOR.fields
        if field.message_type is not None and field.name.endswith("_param")
    }


_param_names = param_name_dict()


def assign_proto(proto, name: str, value: Any) -> None:
    """Fill a field from plain values: a dict fills a message, a list (or one value) a repeated field."""
    field = getattr(proto, name)
    if hasattr(field, "extend"):
        for item in value if isinstance(value, (list, tuple)) else [value]:
            _append(field, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            assign_proto(field, key, item)
    else:
        setattr(proto, name, value)


def _append(repeated, value: Any) -> None:
    if isinstance(value, dict):
        message = repeated.add()
        for key, item in value.items():
            assign_proto(message, key, item)
    else:
        repeated.append(value)


class Top:
    """The n-th output of a Function."""

    def __init__(self, fn: "Function", n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> pb.NetParameter:
        """The net that computes this top, with names made up from the layer types."""
        return to_proto(self)


class Function:
    """One layer: its type, the tops it reads, its parameters.

    ntop      number of tops (default 1)
    in_place  the tops are the bottoms
    """

    def __init__(self, type_name: str, inputs: Sequence[Top], params: dict[str, Any]):
        for index, top in enumerate(inputs):
            if not isinstance(top, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(top)})")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))


class _Writer:
    """Writes layers, each after those it reads; ``names`` of tops and of functions without tops are given or made."""

    def __init__(self, names: dict[Any, str]):
        self.net = pb.NetParameter()
        self._names = dict(names)
        self._made = Counter[str]()
        self._layers: dict[Function, pb.LayerParameter] = {}

    def write(self, fn: Function) -> None:
        unwritten = [fn]
        while unwritten:
            fn = unwritten[-1]
            needed = [top.fn for top in fn.inputs if top.fn not in self._layers]
            if needed:
                unwritten += reversed(needed)
            else:
                unwritten.pop()
                if fn not in self._layers:
                    self._layers[fn] = self._add_layer(fn)

    def _add_layer(self, fn: Function) -> pb.LayerParameter:
        layer = self.net.layer.add(type=fn.type_name)
        layer.bottom.extend(self._layers[top.fn].top[top.n] for top in fn.inputs)
        layer.top.extend(layer.bottom if fn.in_place else [self._name(top, fn) for top in fn.tops])
        layer.name = self._name(fn.tops[0] if fn.tops else fn, fn)
        for name, value in fn.params.items():
            assign_proto(_owner(layer, name), name, value)
        return layer

    def _name(self, item: Top | Function, fn: Function) -> str:
        if item not in self._names:
            self._made[fn.type_name] += 1
            self._names[item] = f"{fn.type_name}{self._made[fn.type_name]}"
        return self._names[item]


def _owner(layer: pb.LayerParameter, name: str) -> Any:
    """The message that a keyword belongs to: ``*param`` names a message of the layer, others go into its own one."""
    own = _param_names.get(layer.type, "") + "_param"
    if not name.endswith("param") and own in layer.DESCRIPTOR.fields_by_name:
        message = getattr(layer, own)
        if name in message.DESCRIPTOR.fields_by_name:
            return message
    if name not in layer.DESCRIPTOR.fields_by_name:
        raise AttributeError(f'{layer.type} has no parameter "{name}"{_hint(layer, own, name)}')
    return layer


def _hint(layer: pb.LayerParameter, own: str, name: str) -> str:
    fork = forks.hint("LayerParameter", name) or forks.hint("LayerParameter.type", layer.type)
    if fork or own not in layer.DESCRIPTOR.fields_by_name:
        return fork or f"; write {layer.type}(..., <message>_param=dict({name}=...))"
    return did_you_mean(name, getattr(layer, own).DESCRIPTOR.fields_by_name)


def to_proto(*tops: Top) -> pb.NetParameter:
    """The net that computes the tops, with names made up from the layer types."""
    writer = _Writer({})
    for top in tops:
        writer.write(top.fn)
    return writer.net


class NetSpec:
    """Names for tops: ``n.conv1 = L.Convolution(...)`` or ``n["conv1"] = ...`` names the top and its layer."""

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.tops[name]

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    __setitem__ = __setattr__
    __getitem__ = __getattr__
    __delitem__ = __delattr__

    def to_proto(self) -> pb.NetParameter:
        """The net of all tops, in the order in which they were named."""
        writer = _Writer({item: name for name, item in self.tops.items()})
        for item in self.tops.values():
            writer.write(item.fn if isinstance(item, Top) else item)
        return writer.net


class Layers:
    """``layers.Type(*bottoms, **params)`` makes a layer; returns its top, a tuple of tops, or itself without any."""

    def __getattr__(self, name: str):
        def layer(*inputs: Top, **params: Any) -> Any:
            fn = Function(name, inputs, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer


class Parameters:
    """``params.Pooling.MAX``: the value of an enum in the PoolingParameter."""

    def __getattr__(self, name: str) -> "_Parameter":
        return _Parameter(name)


class _Parameter:
    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, value: str) -> int:
        message = f"{self._name}Parameter"
        if not hasattr(pb, message):
            raise AttributeError(f"there is no {message}{did_you_mean(message, pb.DESCRIPTOR.message_types_by_name)}")
        return getattr(getattr(pb, message), value)


layers = Layers()
params = Parameters()
