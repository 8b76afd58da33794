"""What holds for all tests."""

import os

# The products of NumPy, which answers are compared with: its threads would take turns with those of the kernels.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
