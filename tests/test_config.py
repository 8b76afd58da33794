"""Settings: their defaults, their environment variables, and what they refuse."""

import pytest

from blobnet import config
from blobnet.errors import BlobnetError


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.setattr(config, "_threads", None)
    monkeypatch.delenv("BLOBNET_NUM_THREADS", raising=False)


def test_all_cores_unless_told_otherwise():
    assert config.threads() == config.available_cores() >= 1


def test_threads_from_the_environment(monkeypatch):
    monkeypatch.setenv("BLOBNET_NUM_THREADS", "3")
    assert config.threads() == 3


def test_a_call_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("BLOBNET_NUM_THREADS", "3")
    config.set_threads(2)
    assert config.threads() == 2


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_threads_are_one_or_more(count):
    with pytest.raises(BlobnetError, match=f"threads must be a whole number of 1 or more; got '{count}'"):
        config.set_threads(count)


def test_a_wrong_environment_variable_is_named(monkeypatch):
    monkeypatch.setenv("BLOBNET_NUM_THREADS", "many")
    with pytest.raises(BlobnetError, match="BLOBNET_NUM_THREADS must be .* got 'many'"):
        config.threads()


def test_cache_folder_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("BLOBNET_CACHE_DIR", raising=False)
    assert config.cache_folder().name == "blobnet"
    monkeypatch.setenv("BLOBNET_CACHE_DIR", str(tmp_path))
    assert config.cache_folder() == tmp_path


@pytest.mark.parametrize(
    ("quota", "affinity", "cores"),
    [("max 100000", 3, 3), ("250000 100000", 8, 3), ("50000 100000", 8, 1), ("800000 100000", 2, 2), (None, 5, 5)],
)
def test_cores_are_those_of_the_affinity_and_the_quota(quota, affinity, cores, monkeypatch, tmp_path):
    file = tmp_path / "cpu.max"
    if quota:
        file.write_text(f"{quota}\n")
    monkeypatch.setattr(config, "_CPU_QUOTA", file)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(affinity)), raising=False)
    assert config.available_cores() == config.threads() == cores


@pytest.mark.parametrize("bits", ["64", "1024", "wide"])
def test_vectors_are_of_a_width_that_processors_have(bits, monkeypatch):
    monkeypatch.setenv("BLOBNET_VECTOR_BITS", bits)
    with pytest.raises(BlobnetError, match=f'must be 128, 256 or 512; got "{bits}"'):
        config.vector_bits()
