"""Reads a net or a solver without training, and lists all that is wrong or doubtful at once.

The parser collects its faults, then the rules of ``net_rules``, ``solver_rules`` and ``data_rules`` look at the nets
in each of their states, then each net is built as far as its shapes.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from blobnet.check import data_rules, net_rules, solver_rules  # noqa: F401  (register the rules)
from blobnet.check.findings import ERROR, Finding, apply
from blobnet.check.subjects import DataSubject, NetSubject, SolverSubject
from blobnet.check.survey import can_survey, survey
from blobnet.context import Context
from blobnet.errors import BlobnetError
from blobnet.passes import phases, upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.solvers import nets
from blobnet.summary import build

_MOST_LAYERS = 100_000  # that are looked at for a phase, those of all stages together


def check(
    path: str | Path, data: bool = False, untrusted: bool = False, allowed_modules: Sequence[str] = ()
) -> list[Finding]:
    """What is wrong with a prototxt of a net or a solver, by file and line.

    data                       also read every example of the sources
    untrusted, allowed_modules as for Net
    """
    context = Context(
        phase=pb.TRAIN, folder=Path(path).parent, untrusted=untrusted, allowed_modules=frozenset(allowed_modules)
    )
    unique: dict[tuple, Finding] = {}
    for finding in _findings(path, data, context):
        unique.setdefault((finding.fault.file, finding.fault.line, finding.fault.message), finding)
    return sorted(unique.values(), key=lambda finding: (finding.fault.file != str(path), finding.fault.line or 0))


def _findings(path: str | Path, data: bool, context: Context) -> Iterator[Finding]:
    reading = _read(path, pb.NetParameter())
    if reading.faults:
        as_solver = _read(path, pb.SolverParameter(), len(reading.faults))
        reading = min(reading, as_solver, key=lambda reading: len(reading.faults))
    yield from (Finding(ERROR, "syntax", fault) for fault in reading.faults)
    if not reading.whole:
        return
    find = _net_findings if isinstance(reading.message, pb.NetParameter) else _solver_findings
    yield from find(reading.message, data, context)


def _net_findings(net: pb.NetParameter, data: bool, context: Context) -> Iterator[Finding]:
    for phase in _phases(net):
        of_states = [list(_Checked(net, state, context).findings(data)) for state in _states(net, phase)]
        right = [found for found in of_states if all(finding.severity != ERROR for finding in found)]
        for found in right or of_states[:1]:
            yield from found


def _phases(net: pb.NetParameter) -> Sequence["pb.Phase"]:
    """Both phases, where rules of the layers tell them apart."""
    layers: list[Any] = [*net.layer, *net.layers]  # of either age
    apart = any(layer.include or layer.exclude for layer in layers)
    return (pb.TRAIN, pb.TEST) if apart else (pb.TRAIN,)


def _states(net: pb.NetParameter, phase: pb.Phase) -> list[pb.NetState]:
    """No stage, and those that the rules of the layers name; a net need be right in one of these only.

    Of a huge net, not all of them.
    """
    stages = {tuple(rule.stage): None for layer in net.layer for rule in layer.include if rule.stage}
    most = max(1, _MOST_LAYERS // max(1, len(net.layer)))
    return [pb.NetState(phase=phase, stage=names) for names in itertools.islice(((), *stages), most)]


class _Reading(NamedTuple):
    """The message of a file, the faults in it, and whether it could be read to its end."""

    message: Any
    faults: list[BlobnetError]
    whole: bool


def _read(path: str | Path, message: Any, most_faults: int = text.MAX_FAULTS) -> _Reading:
    faults: list[BlobnetError] = []
    try:
        return _Reading(text.read(path, message, faults, most_faults), faults, True)
    except BlobnetError as fault:
        return _Reading(message, [*faults, fault], False)


class _Checked:
    """A net in one state: the faults that keep the rules from looking at it, else the subject for them."""

    def __init__(self, param: pb.NetParameter, state: pb.NetState, context: Context):
        self.subject: NetSubject | None = None
        self._state = state
        self._context = dataclasses.replace(context, phase=state.phase)
        self._faults: list[BlobnetError] = []
        try:
            self.subject = NetSubject(
                phases.connected_net(upgrade.upgrade_net(param), state), state.phase, self._context
            )
        except BlobnetError as fault:
            self._faults.append(fault)

    def findings(self, data: bool, **of_test: Any) -> Iterator[Finding]:
        """``of_test``: attributes of DataSubject for the test net of a solver."""
        yield from (Finding(ERROR, "net", fault) for fault in self._faults)
        if self.subject is None:
            return
        found = list(apply(self.subject))
        yield from found
        if not any(finding.severity == ERROR for finding in found):
            yield from self._build(self.subject)
        for layer in self.subject.layers:
            if data and can_survey(layer):
                yield from apply(DataSubject(layer, self.subject, survey(layer, self._context), **of_test))

    def _build(self, subject: NetSubject) -> Iterator[Finding]:
        """Find the shapes of the blobs, or what keeps them from being found."""
        context = self._context
        try:
            net, _ = build(
                subject.param,
                subject.phase,
                level=self._state.level,
                stages=self._state.stage,
                folder=context.folder,
                untrusted=context.untrusted,
                allowed_modules=tuple(context.allowed_modules),
            )
        except BlobnetError as fault:
            yield Finding(ERROR, "net", fault)
            return
        subject.shapes.update({name: blob.shape for name, blob in net.blobs.items()})


def _solver_findings(param: pb.SolverParameter, data: bool, context: Context) -> Iterator[Finding]:
    try:
        param = upgrade.upgrade_solver(param)
        train = _of_solver(nets.train_source(param), context)
        tests = [_of_solver(source, context) for source in nets.test_sources(param)]
    except BlobnetError as fault:
        yield Finding(ERROR, "solver", fault)
        yield from apply(SolverSubject(param))
        return
    yield from apply(SolverSubject(param, train.subject))
    yield from train.findings(data)
    iterations = [*param.test_iter, *[0] * len(tests)]
    for index, (test, test_iter) in enumerate(zip(tests, iterations, strict=False)):
        yield from test.findings(data, solver=param, test_iter=test_iter, test_index=index)


def _of_solver(source: nets.Source, context: Context) -> _Checked:
    param, state, folder = nets.resolve(*source, context)
    return _Checked(param, state, dataclasses.replace(context, folder=folder))
