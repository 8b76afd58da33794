"""Compiled kernels: where they are kept, and what a change of a source does to that."""

import os
import subprocess
import sys
import threading
import time
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


SUM = """
import sys
import numpy as np
from blobnet.kernels import update
sums = np.zeros(1)
update.sums_of_squares(0, 1, np.full(3, 2, np.float32), sums)
print(*sums, "numba.np.arrayobj" in sys.modules)
"""


def test_kernels_are_kept_where_the_cache_is(tmp_path):
    folder = tmp_path / "cache"
    said = [_sum(folder) for _ in range(2)]
    assert said == ["12.0 True", "12.0 False"]  # the second process has not filled the compiler's registries
    assert list(folder.glob("kernels/blobnet.kernels.update-*/update.sums_of_squares-*.nbc"))


def test_kernels_work_where_none_can_be_kept(tmp_path):
    (tmp_path / "file").touch()
    assert _sum(tmp_path / "file" / "cache") == "12.0 True"


def _sum(folder: Path) -> str:
    environment = {**os.environ, "BLOBNET_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", SUM]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


KERNELS = """
from blobnet.kernels._jit import jit


@jit
def inner(x):
    return x + 1


@jit
def outer(x):
    return inner(x) * 2


@jit
def another(x):
    return inner(x) * 3
"""
CALLS = """
import sys, time
from pathlib import Path
import numpy as np
from numba.core import event
import shared_kernels
numbers = [getattr(np, name)(1) for name in sys.argv[2:]]
Path(f"ready{sys.argv[1]}").touch()
while not Path("go").exists():
    time.sleep(0.001)
with event.install_recorder("numba:compile") as compiled:
    for number in numbers:
        shared_kernels.outer(number)
own = [about for _, about in compiled.buffer if about.is_start and "shared" in about.data["dispatcher"].__module__]
print(*(f"{about.data['dispatcher'].__name__}{about.data['args']}" for about in own), sep=";")
"""
NUMBERS = ["float32", "float64", "int64"]


def test_processes_that_start_together_share_the_work(tmp_path):
    (tmp_path / "shared_kernels.py").write_text(KERNELS)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "BLOBNET_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}

    def begin(name: str, numbers: list[str]) -> subprocess.Popen:
        command = [sys.executable, "-c", CALLS, name, *numbers]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)

    orders = {"0": NUMBERS, "1": NUMBERS[::-1]}
    processes = [begin(name, order) for name, order in orders.items()]
    while not all((tmp_path / f"ready{name}").exists() for name in orders):
        time.sleep(0.001)
    (tmp_path / "go").touch()
    said = [process.communicate(timeout=120)[0].strip() for process in processes]
    compiled = ";".join(filter(None, said)).split(";")
    assert len(compiled) == len(set(compiled)) == 2 * len(NUMBERS)
    assert begin("2", NUMBERS).communicate(timeout=120)[0].strip() == ""


CALL = """
import sys
from numba.core import event
import shared_kernels
with event.install_recorder("numba:compile") as compiled:
    number = getattr(shared_kernels, sys.argv[1])(1)
own = [about.data["dispatcher"] for _, about in compiled.buffer if about.is_start]
print(number, *(kernel.__name__ for kernel in own if kernel.__module__ == "shared_kernels"))
"""


def test_what_others_call_is_kept_as_a_part_of_them_and_machine_code_only_where_python_calls_it(tmp_path):
    (tmp_path / "shared_kernels.py").write_text(KERNELS)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "BLOBNET_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}

    def call(name: str) -> str:
        command = [sys.executable, "-c", CALL, name]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    assert call("outer") == "4 outer inner"
    assert call("another") == "6 another"
    assert [call("inner") for _ in range(2)] == ["2 inner", "2"]


def test_a_lock_ends_with_its_process(tmp_path):
    program = """
import sys, time
from pathlib import Path
from blobnet.kernels import _jit
with _jit._locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    waiter = threading.Thread(target=_hold_for_a_moment, args=(tmp_path / "lock",))
    waiter.start()
    waiter.join(timeout=0.2)
    assert waiter.is_alive()
    holder.kill()
    holder.communicate()
    waiter.join(timeout=60)
    assert not waiter.is_alive()


def _hold_for_a_moment(path: Path) -> None:
    with _jit._locked(path):
        pass
