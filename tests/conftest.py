"""What holds for all tests."""

import os

from hypothesis import settings

# The products of NumPy, which answers are compared with: its threads would take turns with those of the kernels.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# However slow the machine is at the moment, no test fails for its time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
