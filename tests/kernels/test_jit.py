"""Compiled kernels: where they are kept, and what a change of a source does to that."""

import os
import subprocess
import sys
from pathlib import Path

from blobnet.kernels import _jit

ROOT = Path(__file__).resolve().parents[2]


def test_a_folder_depends_on_the_sources_it_is_made_from(monkeypatch):
    def folder():
        _jit.cache_folder.cache_clear()
        return _jit.cache_folder("blobnet.kernels.pooling")

    kept, source = folder(), _jit._source
    assert kept == folder()
    for module in sorted(_jit._with_imports("blobnet.kernels.pooling")):
        with monkeypatch.context() as patch:
            patch.setattr(_jit, "_source", lambda name, module=module: source(name) + "#" * (name == module))
            assert folder() != kept
    with monkeypatch.context() as patch:
        patch.setattr(_jit, "_toolchain", lambda: "another processor")
        assert folder() != kept
    _jit.cache_folder.cache_clear()


def test_imports_count_however_deep():
    found = _jit._with_imports("blobnet.kernels.convolution")
    modules = ("convolution", "product", "simd", "_jit")
    assert {f"blobnet.kernels.{module}" for module in modules} <= found


def test_kernels_are_kept_where_the_cache_is(tmp_path):
    script = """
import numpy as np
from blobnet.kernels import update
update.sums_of_squares(0, 1, np.ones(3, np.float32), np.zeros(1))
"""
    environment = {**os.environ, "BLOBNET_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.glob("kernels/blobnet.kernels.update-*/**/update.sums_of_squares-*.nbc"))
