"""What the first ``import caffe`` runs; blobnet then has its name, and logs as Caffe does."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("blobnet") is None:  # a bare checkout that was found through the working folder
    sys.path.append(str(Path(__file__).parents[3]))

from blobnet import pycaffe

del sys.modules["caffe"]
pycaffe.install()
pycaffe.init_log()
