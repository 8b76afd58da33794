"""The command line: from flags to calls, one module per command, parsing and wiring only.

A command is a module of this package with ``add_flags(parser)`` and ``run(args)``; the first line of its docstring
is its help. What is heavy is imported when a command runs, so that ``--help`` is instant.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import PurePath
from types import ModuleType

import blobnet
from blobnet.cli import flags
from blobnet.errors import BlobnetError, did_you_mean

COMMANDS = (
    "train",
    "test",
    "time",
    "check",
    "summary",
    "draw",
    "device_query",
    "classify",
    "convert_cifar_data",
    "convert_imageset",
    "convert_mnist_data",
    "convert_weights",
    "compute_image_mean",
    "detect",
    "draw_net",
    "export-onnx",
    "extract_features",
    "parse_log",
    "plot_training_log",
    "python",
    "resize_and_crop_images",
    "summarize",
    "upgrade_net_proto_text",
    "upgrade_net_proto_binary",
    "upgrade_solver_proto_text",
)

# When NumPy is imported, the threads of its BLAS look for work for a tenth of a second before they sleep. Kernels give
# them none, and take the cores meanwhile.
_IDLE_BLAS = "OPENBLAS_THREAD_TIMEOUT", "4"  # the logarithm of how many cycles they look


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code. A fault of the user's files or flags is one line and a 1."""
    os.environ.setdefault(*_IDLE_BLAS)
    try:
        _run(flags.command_first(_command_line(sys.argv) if argv is None else argv))
        sys.stdout.flush()
    except BlobnetError as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left; so may the rest
        return 1
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except MemoryError as error:
        return _fail(f"out of memory: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _command_line(argv: Sequence[str]) -> list[str]:
    """The arguments, after the command that the program is named after: Caffe's tools are programs of their own."""
    name = PurePath(argv[0]).name.removesuffix(".bin").removesuffix(".py")
    return [name, *argv[1:]] if name in COMMANDS else list(argv[1:])


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1


def _run(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "-help", "--help"):
        print(_usage())
    elif argv[0] in ("-version", "--version"):
        print(f"blobnet {blobnet.__version__}")
    else:
        command = _command(argv[0])
        parser = flags.Parser(prog=f"blobnet {argv[0]}", description=_summary(command))
        command.add_flags(parser)
        args = parser.parse(argv[1:])
        flags.set_max_memory(args)
        command.run(args)


def _command(name: str) -> ModuleType:
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        raise BlobnetError(f'unknown command "{name}"{hint} (commands: {", ".join(COMMANDS)})')
    return importlib.import_module(f"blobnet.cli.{name.replace('-', '_')}")


def _usage() -> str:
    commands = "\n".join(f"  {name:<27}{_summary(_command(name))}" for name in COMMANDS)
    return f"""\
usage: blobnet COMMAND [FLAGS]

{_summary(blobnet)}

commands:
{commands}

blobnet COMMAND --help lists the flags of a command; blobnet --version prints the version."""


def _summary(module: ModuleType) -> str:
    return (module.__doc__ or "").partition("\n")[0]
