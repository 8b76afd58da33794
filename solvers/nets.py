"""The nets a SolverParameter asks for: one to train, any number to test, each in its state and with its weights."""

from collections.abc import Collection
from pathlib import Path

from blobnet.budget import Budget
from blobnet.context import Context
from blobnet.errors import error_at
from blobnet.fillers import clear_fillers
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.solvers import epochs

Source = tuple[pb.NetParameter | str, "pb.Phase", pb.NetState]  # a net or its file, phase, what else its state is

MOST_TEST_NETS = 100  # more would take hours to build, and nobody reads their results
TRAIN_NETS = ("net", "net_param", "train_net", "train_net_param")


def train_net(param: pb.SolverParameter, context: Context) -> Net:
    """The train net, as ``train_source`` says."""
    return _build(*train_source(param), param, context, context.budget)


def test_nets(param: pb.SolverParameter, context: Context, trained: Net) -> list[Net]:
    """The test nets, as ``test_sources`` says, with the weights of the train net."""
    nets = [_build(*source, param, context, Budget(), trained) for source in test_sources(param)]
    if whole_passes(param):
        for net in nets:
            epochs.read_whole_passes(net)
    return nets


def train_source(param: pb.SolverParameter) -> Source:
    """The train net. Its state: phase TRAIN, then the net's own ``state``, then ``train_state``."""
    given = [field for field in TRAIN_NETS if param.HasField(field)]
    if len(given) != 1:
        rule = f"exactly one of {', '.join(TRAIN_NETS)} must name the train net"
        raise error_at(param, f"{rule}; got {', '.join(given) or 'none'}", given[-1] if given else "")
    return getattr(param, given[0]), pb.TRAIN, param.train_state


def test_sources(param: pb.SolverParameter) -> list[Source]:
    """The test nets: test_net_param, then test_net, then ``net`` or ``net_param`` for each test_iter that is left.

    Without any test_iter, but with test_interval, a test is one pass over the data: of the named test nets, or, where
    none is named, of ``net`` or ``net_param``.
    The state of each: phase TEST, then the net's own ``state``, then its ``test_state``.
    """
    sources: list[pb.NetParameter | str] = [*param.test_net_param, *param.test_net]
    iterations, named = len(param.test_iter), len(sources)
    shared = [getattr(param, field) for field in ("net_param", "net") if param.HasField(field)]
    if whole_passes(param):
        iterations = named or len(shared)
    if iterations < named or (iterations > named and not shared):
        raise error_at(
            param, f"test_iter must be given once for each of {named} test nets; got {iterations}", "test_iter"
        )
    for index, batches in enumerate(param.test_iter):
        if batches < 1:
            raise error_at(param, f"test_iter must be 1 or more; got {batches}", f"test_iter[{index}]")
    if iterations > MOST_TEST_NETS:
        raise error_at(param, f"a solver has at most {MOST_TEST_NETS} test nets; got {iterations}", "test_iter")
    sources += shared * (iterations - named)
    if param.test_state and len(param.test_state) != len(sources):
        counts = f"{len(sources)} test nets; got {len(param.test_state)}"
        raise error_at(param, f"test_state must be left out or given once for each of {counts}", "test_state")
    if sources and param.test_interval <= 0:
        rule = "test_interval must be above 0 where there are test nets"
        raise error_at(param, f"{rule}; got {param.test_interval}", "test_interval")
    states = param.test_state or [pb.NetState()] * len(sources)
    return [(source, pb.TEST, state) for source, state in zip(sources, states, strict=True)]


def whole_passes(param: pb.SolverParameter) -> bool:
    """Whether tests are passes over the test data, since test_iter is left out."""
    return param.test_interval > 0 and not param.test_iter


def resolve(
    source: pb.NetParameter | str, phase: pb.Phase, asked: pb.NetState, context: Context
) -> tuple[pb.NetParameter, pb.NetState, Path | None]:
    """The net of a source, its state, and the folder of its file."""
    folder = context.folder
    net_param = pb.NetParameter()
    if isinstance(source, str):
        path = context.find(source)
        folder = path.parent
        text.read(path, net_param)
    else:
        net_param.CopyFrom(source)
    state = pb.NetState()
    state.phase = phase
    state.MergeFrom(net_param.state)
    state.MergeFrom(asked)
    return net_param, state, folder


def _build(
    source: pb.NetParameter | str,
    phase: pb.Phase,
    asked: pb.NetState,
    param: pb.SolverParameter,
    context: Context,
    budget: Budget,
    trained: Net | None = None,
) -> Net:
    net_param, state, folder = resolve(source, phase, asked, context)
    if trained:
        _leave_unfilled(net_param, {layer.name for layer in trained.layers if layer.blobs})
    net = Net(
        net_param,
        state.phase,
        level=state.level,
        stages=state.stage,
        seed=context.seed,
        dtype=context.dtype,
        folder=folder,
        allowed_modules=tuple(context.allowed_modules),
        untrusted=context.untrusted,
        budget=budget,
    )
    for weights in ",".join(param.weights).split(",") if param.weights else ():
        net.copy_trained_layers_from(context.find(weights.strip()))
    if trained:
        net.share_trained_layers_with(trained)
    return net


def _leave_unfilled(net_param: pb.NetParameter, names: Collection[str]) -> None:
    """Do not fill the weights of these layers, which are about to be another net's."""
    for layer in net_param.layer:
        if layer.name in names:
            clear_fillers(layer)
