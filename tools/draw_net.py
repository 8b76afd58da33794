"""Draw the graph of a net, as Caffe's draw_net.py does."""

import os
from pathlib import Path

from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.pycaffe import draw


def draw_net(
    net: str | os.PathLike,
    picture: str | os.PathLike,
    *,
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
) -> None:
    """Draw a prototxt into a .png, .svg or .dot file; with pydot and Graphviz installed, into any of their formats.

    rankdir      the direction in which pydot's graphs flow: TB, LR, ...
    phase        the layers of one phase; those of all phases when left out
    display_lrm  show the layers' lr_mult (pydot's formats)
    """
    param = text.read(os.fspath(net), pb.NetParameter())
    draw.draw_net_to_file(param, str(Path(picture)), rankdir, phase, display_lrm)
