"""The drop-in for ``import caffe``: pycaffe's names over blobnet.

import blobnet.pycaffe as caffe        # in one program
blobnet.pycaffe.install()              # once; then ``import caffe`` anywhere in the process
blobnet python script.py arguments     # runs a script as it is
"""

from blobnet.proto.blobnet_pb2 import TEST, TRAIN
from blobnet.pycaffe import coord_map, draw, io, proto
from blobnet.pycaffe._caffe import (
    NCCL,
    Layer,
    Timer,
    __version__,
    get_solver,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from blobnet.pycaffe.classifier import Classifier
from blobnet.pycaffe.detector import Detector
from blobnet.pycaffe.installing import install
from blobnet.pycaffe.net_spec import NetSpec, layers, params, to_proto
from blobnet.pycaffe.pycaffe import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
)

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Classifier",
    "Detector",
    "Layer",
    "Net",
    "NesterovSolver",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "__version__",
    "coord_map",
    "draw",
    "get_solver",
    "has_nccl",
    "init_log",
    "install",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
