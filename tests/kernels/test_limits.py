"""The measured limits of the machine."""

import numpy as np

from blobnet.kernels import limits


def test_chains_converge_to_one():
    sums = np.zeros((3, limits.simd.VECTOR_BYTES // 4), np.float32)
    limits.multiply_and_add(1, 3, 100, sums)
    assert not sums[0].any()
    np.testing.assert_allclose(sums[1:], limits.CHAINS, rtol=1e-6)


def test_copy():
    source, target = np.arange(5000, dtype=np.float32), np.zeros(5000, np.float32)
    limits.copy(1000, 3000, source, target)
    assert np.array_equal(target[1000:3000], source[1000:3000])
    assert not target[:1000].any() and not target[3000:].any()


def test_measured_once(monkeypatch):
    monkeypatch.setattr(limits, "STEPS", 1000)
    monkeypatch.setattr(limits, "COPIED_BYTES", 1 << 16)
    limits.measured.cache_clear()
    first = limits.measured()
    assert min(first) > 0
    assert limits.measured() is first
    limits.measured.cache_clear()
