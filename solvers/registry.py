"""Solver classes by their prototxt type."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from blobnet.errors import did_you_mean, error_at
from blobnet.passes import upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

if TYPE_CHECKING:
    from blobnet.solvers.solver import Solver

_classes: dict[str, type["Solver"]] = {}


def register(type_name: str) -> Callable[[type["Solver"]], type["Solver"]]:
    """Class decorator: a SolverParameter of this ``type`` makes a solver of the class."""

    def add(cls: type["Solver"]) -> type["Solver"]:
        cls.type = type_name
        _classes[type_name] = cls
        return cls

    return add


def solver_types() -> list[str]:
    """Every registered type, sorted."""
    return sorted(_classes)


def create(param: pb.SolverParameter | str | Path, **options) -> "Solver":
    """The solver of a SolverParameter or of a solver prototxt, by its ``type`` (default SGD).

    options  as for ``Solver``: callbacks, dtype, allowed_modules, untrusted, lean
    """
    if isinstance(param, pb.SolverParameter):
        param = upgrade.upgrade_solver(param)
    else:
        param = upgrade.upgrade_solver(text.read(param, pb.SolverParameter()), str(param))
    if param.type not in _classes:
        hint = did_you_mean(param.type, _classes)
        known = ", ".join(solver_types())
        raise error_at(param, f'unknown solver type "{param.type}"{hint}; known types: {known}', "type")
    return _classes[param.type](param, **options)
