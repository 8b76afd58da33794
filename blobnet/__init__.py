"""blobnet: a Caffe-style declarative network engine.

    import blobnet
    net = blobnet.Net("deploy.prototxt", blobnet.TEST, weights="net.caffemodel")
    outputs = net.forward(data=images)
"""

from pathlib import Path

__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if not (_root / "blobnet" / "solvers").is_dir() and (_root / "setup.cfg").is_file():
    __path__.append(str(_root))  # a bare checkout: proto, solvers, tools and zoo stand beside this folder
