"""Nets that are not trusted stay in their folder and run no code."""

import ast
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from blobnet import TEST, BlobnetError, Net
from blobnet.data.lmdb import write_database
from blobnet.io import images
from blobnet.io.mean import write_mean
from blobnet.proto import blobnet_pb2 as pb

ROOT = Path(__file__).resolve().parent.parent
DATUM = pb.Datum(channels=1, height=2, width=2, data=bytes(4)).SerializeToString()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The net's folder, with an outside beside it that has the same files."""
    for name in ("net", "outside"):
        path = tmp_path / name
        path.mkdir()
        write_database(path / "db", [(b"0", DATUM)])
        write_mean(path / "mean", np.zeros((1, 2, 2), np.float32))
        (path / "image.png").write_bytes(images.encode(np.zeros((2, 2, 3), np.uint8), "png"))
        (path / "list").write_text("image.png 0\n")
        with h5py.File(path / "rows.h5", "w") as file:
            file["data"] = np.zeros((2, 3))
        (path / "rows").write_text("rows.h5\n")
    (tmp_path / "net/linked").symlink_to("../outside/db")
    (tmp_path / "net/half").mkdir()
    (tmp_path / "net/half/data.mdb").symlink_to("../../outside/db/data.mdb")
    (tmp_path / "net/inside").symlink_to("db")
    (tmp_path / "net/bad_list").write_text("../outside/image.png 0\n")
    (tmp_path / "net/bad_rows").write_text(f"{tmp_path}/outside/rows.h5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "net"


def build(folder, layer, **options):
    (folder / "net.prototxt").write_text(layer)
    return Net(folder / "net.prototxt", TEST, **options)


DATA = 'layer {{ name: "d" type: "Data" top: "data" data_param {{ source: "{}" backend: LMDB batch_size: 1 }} {} }}'
IMAGES = 'layer {{ name: "d" type: "ImageData" top: "data" top: "label" image_data_param {{ source: "{}" {} }} }}'
ROWS = 'layer {{ name: "d" type: "HDF5Data" top: "data" hdf5_data_param {{ source: "{}" batch_size: 1 }} }}'
OUTPUT = """layer {{ name: "in" type: "Input" top: "x" top: "y" input_param {{ shape {{ dim: 1 }} }} }}
layer {{ name: "d" type: "HDF5Output" bottom: "x" bottom: "y" hdf5_output_param {{ file_name: "{}" }} }}"""
MEAN = 'transform_param {{ mean_file: "{}" }}'

INSIDE = {
    "database": DATA.format("db", ""),
    "link within": DATA.format("inside", ""),
    "mean": DATA.format("db", MEAN.format("mean")),
    "images": IMAGES.format("list", ""),
    "rows": ROWS.format("rows"),
    "output": OUTPUT.format("net/out.h5"),
}
OUTSIDE = {
    "database": DATA.format("../outside/db", ""),
    "working folder": DATA.format("outside/db", ""),
    "link": DATA.format("linked", ""),
    "linked file": DATA.format("half", ""),
    "mean": DATA.format("db", MEAN.format("../outside/mean")),
    "list": IMAGES.format("../outside/list", ""),
    "image": IMAGES.format("bad_list", ""),
    "root folder": IMAGES.format("list", 'root_folder: "../outside/"'),
    "rows": ROWS.format("bad_rows"),
    "output": OUTPUT.format("outside/out.h5"),
    "absolute output": OUTPUT.format("/somewhere/out.h5"),
    "missing": DATA.format("/somewhere/db", ""),
}


@pytest.mark.parametrize("layer", INSIDE.values(), ids=INSIDE)
def test_files_in_the_folder_are_found(folder, layer):
    assert build(folder, layer, untrusted=True).layer_names[-1] == "d"


@pytest.mark.parametrize("layer", OUTSIDE.values(), ids=OUTSIDE)
def test_files_outside_are_refused(folder, layer):
    with pytest.raises(BlobnetError, match=r'layer "d" .* lies outside the folder of the net'):
        build(folder, layer, untrusted=True)


def test_a_trusted_net_may_go_anywhere(folder):
    for name in ("database", "link", "linked file", "image", "rows"):
        build(folder, OUTSIDE[name])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["fifo", "device"])
def test_what_is_no_file_is_refused(folder, make):
    make(folder / "special")
    with pytest.raises(BlobnetError, match="neither a file nor a folder|outside the folder"):
        build(folder, IMAGES.format("special", ""), untrusted=True)


def test_python_layers_are_refused_though_allowed(folder):
    layer = 'layer { name: "p" type: "Python" top: "x" python_param { module: "os" layer: "x" } }'
    with pytest.raises(BlobnetError, match="an untrusted net must not run code"):
        build(folder, layer, untrusted=True, allowed_modules=["os", "*"])


@pytest.mark.parametrize("name", [r"\000", "a" * 300, "a/" * 3000])
def test_names_that_are_none(folder, name):
    with pytest.raises(BlobnetError, match='layer "d"'):
        build(folder, IMAGES.format(name, ""))


def test_nothing_is_ever_unpickled():
    refused = []
    for path in (
        path for room in ("blobnet", "proto", "solvers", "tools", "zoo") for path in (ROOT / room).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] in ("pickle", "cPickle", "dill", "marshal", "shelve") for name in names):
                refused.append(f"{path}:{node.lineno}: {names}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", True):
                refused.append(f"{path}:{node.lineno}: allow_pickle")
    assert refused == []
