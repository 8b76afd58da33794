"""Vectors narrower than the processor's, as on other processors, give the same kernels: their tests pass again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blobnet.kernels import simd

TESTS = (
    "test_simd.py",
    "test_lanes.py",
    "test_unpacked.py",
    "test_pooling.py::test_any_number_of_planes",
    "test_gemm.py::test_chosen_shapes",
    "test_convolution.py::test_edge_shapes",
    "test_convolution.py::test_infinity_and_nan_reach_what_the_sum_says",
)


@pytest.mark.parametrize("bits", [bits for bits in (128, 256) if bits < 8 * simd.VECTOR_BYTES])
def test_kernels_of_a_narrower_vector(bits):
    folder = Path(__file__).parent
    environment = os.environ | {"BLOBNET_VECTOR_BITS": str(bits), "PYTHONPATH": os.pathsep.join(sys.path)}
    check = f"from blobnet.kernels import simd; assert simd.VECTOR_BYTES == {bits // 8}"
    subprocess.run([sys.executable, "-c", check], env=environment, check=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(folder / name) for name in TESTS)]
    done = subprocess.run(command, env=environment, cwd=folder.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
