"""Every broken (or surprisingly valid) solver recorded from Caffe."""

import pytest

from blobnet import solvers
from blobnet.errors import BlobnetError
from tests.recorded import ROOT, load_json

CASES = {case["name"]: case for case in load_json(ROOT / "errors.json") if case["kind"] == "solver"}
POLY_PAST_THE_END = 0.0  # Caffe: nan


def create(case, folder):
    (folder / "net.prototxt").write_text(case["net"])
    (folder / "solver.prototxt").write_text(case["text"])
    return solvers.create(folder / "solver.prototxt")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["dies"]])
def test_fault_is_an_error_that_names_the_file(name, tmp_path):
    with pytest.raises(BlobnetError) as caught:
        create(CASES[name], tmp_path)
    assert str(tmp_path) in str(caught.value) or "nope.prototxt" in str(caught.value)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["dies"]])
def test_valid_solver_trains_at_the_recorded_rates(name, tmp_path):
    case = CASES[name]
    recorded = eval(case["result"][0], {"nan": POLY_PAST_THE_END})
    rates = recorded if isinstance(recorded, list) else [recorded]
    solver = create(case, tmp_path)
    found = []
    for _ in rates:
        solver.step(1)
        found.append(solver.lr)
    assert found == pytest.approx(rates, rel=1e-6)
