"""Train or finetune a model."""

import argparse
import sys
from contextlib import ExitStack

from blobnet import collector
from blobnet.cli import flags
from blobnet.errors import BlobnetError

_EFFECTS = ("stop", "snapshot", "none")


def add_flags(parser: flags.Parser) -> None:
    parser.add_flag("solver", needed=True, metavar="FILE", help="the solver prototxt")
    parser.add_flag("snapshot", metavar="FILE", help="the .solverstate to resume from")
    help_text = "the .solverstate to resume from; auto: the newest whole one of snapshot_prefix, if there is one"
    parser.add_flag("resume", metavar="FILE|auto", help=help_text)
    help_text = "the caffemodels to finetune from; with --resume FILE: instead of the snapshot's weights"
    parser.add_flag("weights", metavar="FILE,...", help=help_text)
    flags.add_strict(parser)
    flags.add_state(parser)
    parser.add_flag("sigint_effect", choices=_EFFECTS, default="stop", help="what Ctrl-C does (default: stop)")
    parser.add_flag("sighup_effect", choices=_EFFECTS, default="snapshot", help="what SIGHUP does (default: snapshot)")
    help_text = "caffe: the log that Caffe's parse_log reads, on a terminal too (default: auto)"
    parser.add_flag("log-format", choices=["auto", "caffe"], default="auto", help=help_text)
    parser.add_flag("tensorboard", metavar="DIR", help="write events for TensorBoard into this folder too")
    flags.add_device(parser)
    flags.add_modules(parser)
    flags.add_limits(parser)


def run(args: argparse.Namespace) -> None:
    with collector.loading():
        from blobnet import solvers
        from blobnet.cli import events, log, metrics, progress, signals
        from blobnet.cli.compiling import announced, helped
        from blobnet.proto import blobnet_pb2 as pb
        from blobnet.proto import text

    if args.snapshot and args.weights:
        raise BlobnetError("--snapshot resumes a training, --weights starts one: give one of them, not both")
    if args.snapshot and args.resume:
        raise BlobnetError("--snapshot and --resume both resume a training: give one of them, not both")
    restarts = args.resume == "auto"
    state = None if restarts else args.resume or args.snapshot
    with ExitStack() as stack:
        as_caffe = args.log_format == "caffe"
        stack.enter_context(log.shown(as_caffe))
        stack.enter_context(announced())
        param = text.read(args.solver, pb.SolverParameter())
        if args.level is not None:
            param.train_state.level = args.level
        param.train_state.stage.extend(args.stage)
        if state or args.weights:
            del param.weights[:]
        if args.weights and not state:
            param.weights.append(args.weights)
        flags.use_cpu(args, param.HasField("solver_mode") and param.solver_mode == pb.SolverParameter.GPU)
        flags.import_modules(args)
        solver = solvers.create(param, allowed_modules=args.allow_python, untrusted=args.untrusted, lean=True)
        if args.strict and args.weights:
            solver.net.copy_trained_layers_from(args.weights).require_complete()
        handler = stack.enter_context(signals.Signals(args.sigint_effect, args.sighup_effect))
        solver.callbacks += [handler, events.EventLog(), metrics.of(solver, args.tensorboard)]
        live = sys.stderr.isatty() and not as_caffe
        solver.callbacks.append(progress.LiveLine(sys.stderr) if live else events.DisplayLog())
        if restarts:
            state = solver.newest_snapshot()
        if state:
            solver.restore(state, None if restarts else args.weights)
        stack.enter_context(helped(solver))
        solver.solve()
