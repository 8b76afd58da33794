"""Flags as Caffe's gflags take them: ``--solver x``, ``--solver=x``, ``-solver x`` and ``-solver=x``."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from blobnet import collector, config
from blobnet.errors import BlobnetError, did_you_mean

if TYPE_CHECKING:
    from blobnet.net import Net

log = logging.getLogger("blobnet")

BACKENDS = ("lmdb", "leveldb")

_CAFFE_FLAGS = {"gpu", "iterations", "level", "model", "phase", "sighup_effect", "sigint_effect"}
_CAFFE_FLAGS |= {"snapshot", "solver", "stage", "weights"}
_CAFFE_FLAGS |= {"alsologtostderr", "log_dir", "logtostderr", "minloglevel", "stderrthreshold", "v"}  # glog's
_SWITCHES = {"alsologtostderr", "logtostderr"}
_BOOLEANS = {"true": True, "t": True, "yes": True, "y": True, "1": True}
_BOOLEANS |= {"false": False, "f": False, "no": False, "n": False, "0": False}


def command_first(argv: Sequence[str]) -> list[str]:
    """The arguments with the command in front, since gflags lets flags precede it: ``caffe -gpu 0 train``."""
    index = 0
    while index < len(argv) and _name(argv[index]) in _CAFFE_FLAGS:
        index += 2 if _takes_next(argv[index]) else 1
    return [*argv[index : index + 1], *argv[:index], *argv[index + 1 :]]


class Parser(argparse.ArgumentParser):
    """A parser whose faults are a BlobnetError, and which passes over Caffe's flags that the command does not read."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)
        self._names = ["help"]
        self._needed: list[str] = []
        self._switches: list[str] = []
        self._rest = ""

    def add_flag(self, name: str, *, needed: bool = False, **options: Any) -> None:
        self._names.append(name)
        if needed:
            self._needed.append(name)
        self.add_argument(f"--{name}", **options)

    def add_switch(self, name: str, **options: Any) -> None:
        """A flag that is on or off: ``--name``, ``--name=true``, ``--noname``, ``--name=false``."""
        self._switches.append(name)
        self.add_flag(name, action="store_true", **options)
        self.add_flag(f"no{name}", action="store_false", dest=name, default=False, help=argparse.SUPPRESS)

    def add_rest(self, name: str, help: str) -> None:
        """All arguments as they stand; only a lone --help is the parser's."""
        self._rest = name
        self.add_argument(name, nargs="*", help=help)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        if self._rest and list(argv) not in (["--help"], ["-help"], ["-h"]):
            return argparse.Namespace(**{self._rest: list(argv)})
        args, unread = self.parse_known_intermixed_args([self._plain(argument) for argument in argv])
        while unread:
            argument = unread.pop(0)
            if _name(argument) not in _CAFFE_FLAGS:
                hint = did_you_mean(_name(argument), self._names) if _name(argument) else ""
                self.error(f'unknown argument "{argument}"{hint}')
            if _takes_next(argument):
                del unread[:1]
        for name in self._needed:
            if getattr(args, name) is None:
                self.error(f"--{name} is needed")
        return args

    def _plain(self, argument: str) -> str:
        """The argument with two dashes where it is a flag, and a switch without its value."""
        name, value = _name(argument), argument.partition("=")[2].lower()
        if name not in self._names:
            return argument
        if name not in self._switches or "=" not in argument:
            return f"--{argument.lstrip('-')}"
        if value not in _BOOLEANS:
            self.error(f"argument --{name}: true or false is needed; got {value!r}")
        return f"--{name}" if _BOOLEANS[value] else f"--no{name}"

    def error(self, message: str) -> NoReturn:
        raise BlobnetError(f"{message} ({self.prog} --help lists the flags)")


def _name(argument: str) -> str:
    """The flag's name, or an empty string for an argument that is no flag."""
    return argument.lstrip("-").partition("=")[0] if argument.startswith("-") else ""


def _takes_next(argument: str) -> bool:
    return "=" not in argument and _name(argument) not in _SWITCHES


# Flags of several commands


def add_state(parser: Parser) -> None:
    parser.add_flag("level", type=int, help="level of the net's state, for include and exclude rules")
    parser.add_flag("stage", type=comma_list, default=[], metavar="A,B", help="stages of the net's state")


def add_strict(parser: Parser) -> None:
    parser.add_flag("strict", action="store_true", help="refuse weights that lack layers of the net or hold others")


def add_device(parser: Parser) -> None:
    parser.add_flag("gpu", metavar="IDS", help="accepted for Caffe's sake; the CPU runs")
    parser.add_flag("threads", type=count, help="threads to use (default: BLOBNET_NUM_THREADS, else all cores)")


def add_modules(parser: Parser) -> None:
    parser.add_flag(
        "allow-python",
        type=comma_list,
        default=[],
        metavar="MODULE,...",
        help='modules that layers of type "Python" may run code from; * for any',
    )
    parser.add_flag(
        "import",
        type=comma_list,
        default=[],
        dest="imports",
        metavar="MODULE,...",
        help="modules to import first, such as those that register layers of your own",
    )


def add_backend(parser: Parser) -> None:
    parser.add_flag("backend", choices=BACKENDS, default="lmdb", help="kind of database (default: lmdb)")


def add_images(parser: Parser) -> None:
    """The net and how images become its input, as classify.py and detect.py of Caffe name it."""
    parser.add_flag("model_def", needed=True, metavar="FILE", help="the deploy prototxt")
    parser.add_flag("pretrained_model", needed=True, metavar="FILE", help="the caffemodel")
    parser.add_switch("gpu", help="accepted for Caffe's sake; the CPU runs")
    add_max_memory(parser)
    parser.add_flag("mean_file", default="", metavar="FILE", help="a mean to subtract: .npy or .binaryproto")
    help_text = "factor from the image's [0, 1] to the net's range, before the mean (default: 255)"
    parser.add_flag("raw_scale", type=float, default=255.0, metavar="X", help=help_text)
    parser.add_flag("input_scale", type=float, metavar="X", help="factor at the end")
    help_text = "order of the net's channels among red, green, blue (default: 2,1,0)"
    parser.add_flag("channel_swap", type=whole_numbers, default=[2, 1, 0], metavar="I,J,K", help=help_text)


def image_options(args: argparse.Namespace) -> dict[str, Any]:
    """What ``add_images`` has read, without the net."""
    return {name: getattr(args, name) for name in ("mean_file", "raw_scale", "input_scale", "channel_swap")}


def add_limits(parser: Parser) -> None:
    parser.add_switch("untrusted", help="refuse nets that leave their folder: files outside it, devices, Python layers")
    add_max_memory(parser)


def add_max_memory(parser: Parser) -> None:
    help_text = (
        "memory that the blobs of a net may take, and one image while it is read (default: BLOBNET_MAX_MEMORY, "
        "else 9/10 of the machine's, and for the image 64 MiB and four times its file)"
    )
    parser.add_flag("max-memory", metavar="8G", help=help_text)


def comma_list(text: str) -> list[str]:
    return [item for item in text.split(",") if item]


def count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"a whole number of 1 or more is needed; got {text!r}")
    return int(text)


def extent(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number of 0 or more is needed; got {text!r}")
    return int(text)


def whole_numbers(text: str) -> list[int]:
    if not all(item.isdecimal() for item in comma_list(text)):
        raise argparse.ArgumentTypeError(f"whole numbers with commas between are needed; got {text!r}")
    return [int(item) for item in comma_list(text)]


# What those flags ask for


def set_max_memory(args: argparse.Namespace) -> None:
    """Take --max-memory, where the command has it, out of the arguments and set it."""
    size = vars(args).pop("max_memory", None)
    if size is not None:
        config.set_max_memory(size)


def use_cpu(args: argparse.Namespace, wants_gpu: bool = False) -> None:
    """Set the number of threads, and say what runs."""
    if args.threads is not None:
        config.set_threads(args.threads)
    asked = "; a GPU was asked for, but there is only the CPU" if wants_gpu or args.gpu is not None else ""
    log.info("Use CPU, threads: %d%s", config.threads(), asked)


def import_modules(args: argparse.Namespace) -> None:
    """Import what --import names, from the working folder too."""
    sys.path += [os.getcwd()] if args.imports else []
    for name in args.imports:
        try:
            importlib.import_module(name)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise BlobnetError(f'--import: the module "{name}" cannot be imported: {reason}') from error


def add_net(parser: Parser) -> None:
    """The flags, besides --model and --weights, that ``build_net`` reads."""
    add_strict(parser)
    add_state(parser)
    add_device(parser)
    add_modules(parser)
    add_limits(parser)


def build_net(args: argparse.Namespace, phase: str) -> "Net":
    """The net of --model in the state that the flags describe, with the weights of --weights where they are given."""
    with collector.loading():
        from blobnet.net import Net
        from blobnet.proto import blobnet_pb2 as pb

    use_cpu(args)
    import_modules(args)
    net = Net(
        args.model,
        getattr(pb, phase),
        level=args.level or 0,
        stages=args.stage,
        allowed_modules=args.allow_python,
        untrusted=args.untrusted,
    )
    if args.weights:
        report = net.copy_trained_layers_from(args.weights)
        if args.strict:
            report.require_complete()
    return net
