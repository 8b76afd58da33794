"""What the rules look at: a net in one state with the paths of its blobs, a solver, the data that a layer read."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from blobnet.context import Context
from blobnet.layers import registry
from blobnet.proto import blobnet_pb2 as pb


@dataclass
class NetSubject:
    """A net with the layers of one state.

    sources  for each layer, the layers that make its bottoms; None where none does
    readers  for each layer, the layers that read its tops
    shapes   of each top, by its name; empty where the net cannot be built
    """

    param: pb.NetParameter
    phase: pb.Phase
    context: Context
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def layers(self) -> list[pb.LayerParameter]:
        return list(self.param.layer)

    @cached_property
    def sources(self) -> list[list[int | None]]:
        found: list[list[int | None]] = []
        newest: dict[str, int] = {}
        for index, layer in enumerate(self.param.layer):
            found.append([newest.get(bottom) for bottom in layer.bottom])
            newest.update(dict.fromkeys(layer.top, index))
        return found

    @cached_property
    def readers(self) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.sources]
        for index, sources in enumerate(self.sources):
            for source in dict.fromkeys(sources):
                if source is not None:
                    found[source].append(index)
        return found

    @cached_property
    def is_whole(self) -> bool:
        """Whether every bottom has a source and every type is known, so that paths can be followed."""
        return all(None not in sources for sources in self.sources) and all(
            registry.is_known(layer.type) for layer in self.layers
        )

    @cached_property
    def losses(self) -> set[int]:
        """The layers whose tops the net is trained to lower."""
        return {index for index, layer in enumerate(self.layers) if _is_loss(layer)}

    @cached_property
    def read_tops(self) -> set[tuple[int, str]]:
        """Layer and name of each top that a later layer reads."""
        return {
            (source, name)
            for layer, sources in zip(self.param.layer, self.sources, strict=True)
            for name, source in zip(layer.bottom, sources, strict=True)
            if source is not None
        }

    def leading_to(self, ends: set[int]) -> set[int]:
        """These layers and all from which a path leads to one of them."""
        found = set(ends)
        for index in reversed(range(len(self.sources))):
            if index in found:
                found.update(source for source in self.sources[index] if source is not None)
        return found


def _is_loss(layer: pb.LayerParameter) -> bool:
    if layer.loss_weight:
        return any(layer.loss_weight)
    return registry.is_known(layer.type) and registry.layer_class(layer).loss


@dataclass
class SolverSubject:
    """A solver, with its train net where that can be read."""

    param: pb.SolverParameter
    train_net: NetSubject | None = None


class Survey(NamedTuple):
    """What reading the whole source of a data layer has shown. ``faults``: the first ones of the examples."""

    examples: int
    labels: list[float]
    faults: list[str]


@dataclass
class DataSubject:
    """A data layer of a net, with what its source holds; ``test_iter`` of a solver's test net, 0 elsewhere."""

    layer: pb.LayerParameter
    net: NetSubject
    survey: Survey
    solver: pb.SolverParameter | None = None
    test_iter: int = 0
    test_index: int = 0
