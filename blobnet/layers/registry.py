"""Layer classes by their prototxt type."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from blobnet.errors import did_you_mean, error_at
from blobnet.proto import forks

if TYPE_CHECKING:
    from blobnet.context import Context
    from blobnet.layers.base import Layer

_classes: dict[str, type["Layer"]] = {}


def register(type_name: str) -> Callable[[type["Layer"]], type["Layer"]]:
    """Class decorator: layers of this prototxt type are made from the class."""

    def add(cls: type["Layer"]) -> type["Layer"]:
        if type_name in _classes and _classes[type_name].__qualname__ != cls.__qualname__:
            raise ValueError(f'layer type "{type_name}" is registered already, by {_classes[type_name]!r}')
        cls.type = type_name
        _classes[type_name] = cls
        return cls

    return add


def layer_types() -> list[str]:
    """Every registered type, sorted."""
    return sorted(_classes)


def is_known(type_name: str) -> bool:
    return type_name in _classes


def layer_class(param) -> type["Layer"]:
    """The class of a LayerParameter's type. An unknown type is an error that names its fork or the nearest."""
    if not param.type:
        raise error_at(param, f'type is missing: give one, as in type: "ReLU"; known types: {", ".join(layer_types())}')
    if param.type not in _classes:
        hint = forks.hint("LayerParameter.type", param.type) or did_you_mean(param.type, _classes)
        hint = hint or (
            f"; known types: {', '.join(layer_types())}; "
            "a type of your own needs its module: --import MODULE, or import it before you build the net"
        )
        raise error_at(param, f'unknown layer type "{param.type}"{hint}', "type")
    return _classes[param.type]


def create_layer(param, context: "Context") -> "Layer":
    return layer_class(param)(param, context)
