"""The code in the pages of docs/ runs, and does what the pages say."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np

import blobnet
from blobnet.data import lmdb
from blobnet.layers import layer_types, registry

DOCS = Path(__file__).parents[1] / "docs"


def python_blocks(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_how_to_write_a_layer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    layer, *uses = python_blocks("how-to-write-a-layer.md")
    for name, text in {"my_layers": layer, "uses_of_my_layers": "\n".join(uses)}.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    page = importlib.import_module("uses_of_my_layers")
    assert capsys.readouterr().out == "[[ 0.5  -0.75]]\n"
    softness = np.array([[0.5], [1], [2]])
    np.testing.assert_allclose(page.y, (page.x / (softness + np.abs(page.x))).reshape(6, 4))
    assert "Softsign" in layer_types()


def test_tutorial(tmp_path, monkeypatch, capsys):
    database, training = python_blocks("tutorial.md")
    shutil.copytree(DOCS.parent / "zoo" / "lenet", tmp_path / "zoo" / "lenet")
    monkeypatch.chdir(tmp_path)
    exec(database, {"images": np.zeros((3, 1, 4, 4), np.uint8), "labels": [0, 1, 2]})
    assert len(list(lmdb.Reader(tmp_path / "my_train_lmdb").records())) == 3
    exec(training, {})
    assert float(capsys.readouterr().out.split()[0]) > 0.8
    blobnet.set_seed(None)


def test_fine_tuning(capsys):
    """From 1,000 images, with one layer learning; the page states the accuracy on 10,000."""
    (example,) = python_blocks("fine-tuning.md")
    names: dict = {}
    exec(example, names)
    assert float(capsys.readouterr().out) >= 0.97
    learnt = {layer for layer, blobs in names["solver"].net.params.items() if any(np.any(blob.diff) for blob in blobs)}
    assert learnt == {"loops"}


def test_text(capsys):
    (example,) = python_blocks("text.md")
    exec(example, {})
    written = capsys.readouterr().out
    assert len(written) == 201
    assert {"the", "and", "you", "my", "to", "I", "of", "that"} & set(written.split())


def test_readme():
    """The three lines of Python; the commands are those of the other tests."""
    page = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (three_lines,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = {"images": np.zeros((2, 28, 28), np.uint8)}
    exec(three_lines, names)
    assert names["probabilities"].shape == (2, 10)
