"""Every spelling that gflags takes, and what is said about the others."""

import pytest

from blobnet import cli
from blobnet.cli import flags
from blobnet.errors import BlobnetError


@pytest.fixture
def parser():
    parser = flags.Parser(prog="blobnet train")
    parser.add_flag("solver", needed=True)
    parser.add_flag("sigint_effect", choices=["stop", "none"], default="stop")
    flags.add_state(parser)
    flags.add_device(parser)
    flags.add_modules(parser)
    return parser


@pytest.mark.parametrize("spelling", [["--solver", "x"], ["--solver=x"], ["-solver", "x"], ["-solver=x"]])
def test_spellings(parser, spelling):
    assert parser.parse(spelling).solver == "x"


def test_values(parser):
    args = parser.parse(["-solver=a=b", "-level", "-2", "--stage", "a,b,", "-threads=3", "--allow-python", "m,n"])
    assert (args.solver, args.level, args.stage, args.threads) == ("a=b", -2, ["a", "b"], 3)
    assert args.allow_python == ["m", "n"]


def test_defaults(parser):
    args = parser.parse(["--solver=x"])
    assert (args.level, args.stage, args.gpu, args.threads, args.allow_python) == (None, [], None, None, [])


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], False),
        (["--gray"], True),
        (["-gray"], True),
        (["--nogray"], False),
        (["--gray=false"], False),
        (["-gray=T"], True),
        (["--gray", "--nogray"], False),
    ],
)
def test_switches(parser, argv, expected):
    parser.add_switch("gray")
    parser.add_argument("file")
    args = parser.parse(["--solver=x", *argv, "name"])
    assert (args.gray, args.file) == (expected, "name")
    assert "--gray\n" in parser.format_help() and "--nogray" not in parser.format_help()
    with pytest.raises(BlobnetError, match="argument --gray: true or false is needed; got 'perhaps'"):
        parser.parse(["--solver=x", "--gray=perhaps", "name"])


@pytest.mark.parametrize(
    "extra", [["-iterations", "5"], ["--model=m"], ["-logtostderr"], ["--log_dir", "logs", "-v=1"], ["-gpu", "0,1"]]
)
def test_flags_of_caffe_that_the_command_does_not_read_are_passed_over(parser, extra):
    assert parser.parse([*extra, "--solver", "x"]).solver == "x"
    assert parser.parse(["--solver", "x", *extra]).solver == "x"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--solver is needed (blobnet train --help lists the flags)"),
        (["--sovler", "x"], 'unknown argument "--sovler"; did you mean "solver"?'),
        (["--solver", "x", "stray"], 'unknown argument "stray"'),
        (["--solver"], "argument --solver: expected one argument"),
        (["--solver=x", "--level=high"], "argument --level: invalid int value: 'high'"),
        (["--solver=x", "--threads=0"], "argument --threads: a whole number of 1 or more is needed; got '0'"),
        (["--solver=x", "-sigint_effect", "pause"], "argument --sigint_effect: invalid choice: 'pause'"),
    ],
)
def test_faults(parser, argv, said):
    with pytest.raises(BlobnetError) as caught:
        parser.parse(argv)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    "command",
    """train test time check classify detect convert_imageset compute_image_mean extract_features
    resize_and_crop_images""".split(),  # noqa: SIM905
)
def test_commands_that_read_images_take_a_limit_of_memory(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert "--max-memory 8G" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["train", "--solver", "x"], ["train", "--solver", "x"]),
        (["-gpu", "0", "train", "--solver=x"], ["train", "-gpu", "0", "--solver=x"]),
        (["--solver=x", "-logtostderr", "train"], ["train", "--solver=x", "-logtostderr"]),
        (["--help"], ["--help"]),
        ([], []),
        (["--solver"], ["--solver"]),
    ],
)
def test_command_first(argv, expected):
    assert flags.command_first(argv) == expected
