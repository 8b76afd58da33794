import pytest

from blobnet import cli
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.tools import summarize

NET = """
layer { name: "data" type: "Data" top: "x" top: "label" }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" param { name: "w" } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 64 kernel_size: 3 kernel_size: 5 stride: 2 pad: 1 group: 4 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_h: 2 kernel_w: 3 stride: 2 } }
layer { name: "all" type: "Pooling" bottom: "pool" top: "all" pooling_param { global_pooling: true } }
layer { name: "own" type: "Python" bottom: "all" bottom: "lable" top: "own" loss_weight: 0.5
  python_param { module: "losses" layer: "Own" } }
"""

TABLE = """\
data Data                              -> x, label
conv Convolution (w, x2 Dx0) x         -> conv      3x5/2+1 64/4
relu ReLU                    conv      -> conv
pool Pooling                 conv      -> pool      2x3/2
all  Pooling                 pool      -> all       global
own  losses.Own              all, lable -> 0.5 * own"""


@pytest.fixture
def net():
    return text.parse(NET, pb.NetParameter())


def test_the_table(tmp_path, capsys):
    (tmp_path / "net").write_text(NET)
    assert cli.main(["summarize", str(tmp_path / "net"), "-w", "10"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "data Data      " + " " * 20 + "-> x, label"
    assert cli.main(["summarize", str(tmp_path / "net")]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        line.split() for line in TABLE.splitlines()
    ]


def test_long_cells_take_room_from_the_next(net):
    narrow = summarize.table(net, max_width=10)
    assert narrow[2].index("conv") == narrow[3].index("conv")
    assert {line.split("->")[0].strip() == "" for line in narrow} == {False}


def test_colors(net):
    cells = summarize.rows(net, color=True)
    assert cells[-1][3] == "\x1b[97mall\x1b[0m, \x1b[41mlable\x1b[0m"
    assert cells[-1][5] == "\x1b[1;4;96m0.5 * own\x1b[0m"
    plain, colored = (summarize.table(net, color=color) for color in (False, True))
    assert [summarize._PAINT.sub("", line) for line in colored] == plain


def test_an_old_net(tmp_path):
    (tmp_path / "net").write_text('layers { name: "relu" type: RELU bottom: "x" top: "y" }')
    assert summarize.table(summarize.read_net(tmp_path / "net")) == ["relu ReLU  x -> y"]
