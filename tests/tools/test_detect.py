import csv

import h5py
import numpy as np
import pytest

from blobnet import cli
from blobnet.pycaffe import Detector
from tests.recorded import ROOT

FILES = ROOT / "files"
MODEL, WEIGHTS = str(FILES / "tiny_deploy.prototxt"), str(FILES / "tiny_iter_10.caffemodel")
FLAGS = [f"--model_def={MODEL}", f"--pretrained_model={WEIGHTS}"]
PHOTOS = [str(FILES / f"images/photo{number}.jpg") for number in range(2)]
WINDOWS = [(PHOTOS[0], 1, 2, 9, 10), (PHOTOS[1], 0, 0, 5, 6), (PHOTOS[0], 2, 2, 8, 7)]


@pytest.fixture
def windows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("windows.csv", "w", encoding="utf-8") as file:
        file.write("filename, ymin, xmin, ymax, xmax\n")
        file.writelines(",".join(map(str, window)) + "\n" for window in WINDOWS)
    return "windows.csv"


def expected(mean=None):
    net = Detector(MODEL, WEIGHTS, mean, raw_scale=255, channel_swap=(2, 1, 0), context_pad=1)
    by_image = [(PHOTOS[0], [WINDOWS[0][1:], WINDOWS[2][1:]]), (PHOTOS[1], [WINDOWS[1][1:]])]
    return net.detect_windows(by_image)


def test_a_table(windows):
    assert cli.main(["detect", *FLAGS, "--context_pad=1", windows, "out.csv"]) == 0
    with open("out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classes = [name for name in rows[0] if name.startswith("class")]
    for row, one in zip(rows, expected(), strict=True):
        assert row["filename"] == one["filename"]
        assert tuple(int(row[name]) for name in ("ymin", "xmin", "ymax", "xmax")) == one["window"]
        np.testing.assert_allclose([float(row[name]) for name in classes], one["prediction"], rtol=1e-6)


def test_a_mean_image_counts_by_its_channels(windows):
    mean = np.random.default_rng(0).random((3, 9, 9)) * 100
    np.save("mean.npy", mean)
    assert cli.main(["detect", *FLAGS, "--context_pad=1", "--mean_file=mean.npy", windows, "out.h5"]) == 0
    with h5py.File("out.h5") as file:
        predictions = [one["prediction"] for one in expected(mean.mean(axis=(1, 2)))]
        np.testing.assert_allclose(file["prediction"][()], predictions, rtol=1e-6)


def test_hdf5(windows):
    assert cli.main(["detect", *FLAGS, "--context_pad=1", "--crop_mode=list", windows, "out.h5"]) == 0
    with h5py.File("out.h5") as file:
        predictions = [one["prediction"] for one in expected()]
        np.testing.assert_allclose(file["prediction"][()], predictions, rtol=1e-6)
        assert file["window"].shape == (3, 4)
        assert file["filename"].asstr()[0] == PHOTOS[0]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("filename,ymin,xmin\n", "windows.csv: the first line must name the columns; xmax, ymax missing"),
        ("filename,ymin,xmin,ymax,xmax\n", "windows.csv: lists no windows"),
        ("filename,ymin,xmin,ymax,xmax\na,1,2,3\n", "windows.csv:2: a window must be four whole numbers"),
        (
            "filename,ymin,xmin,ymax,xmax\na,1,2,1,5\n",
            "windows.csv:2: a window must begin before it ends; got 1, 2 to 1, 5",
        ),
        ("filename,ymin,xmin,ymax,xmax\nnone.jpg,1,2,3,4\n", "windows.csv: "),
    ],
)
def test_tables_that_make_no_sense(windows, table, said, capsys):
    with open(windows, "w", encoding="utf-8") as file:
        file.write(table)
    assert cli.main(["detect", *FLAGS, windows, "out.csv"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")


def test_selective_search_is_refused(windows, capsys):
    assert cli.main(["detect", *FLAGS, "--crop_mode=selective_search", windows, "out.csv"]) == 1
    assert "selective search needs MATLAB" in capsys.readouterr().err


@pytest.mark.parametrize("tool", ["classify", "detect"])
@pytest.mark.parametrize(
    "net",
    [
        'layer { name: "y" type: "DummyData" top: "y" dummy_data_param { shape { dim: 1 } } }',
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "y" type: "ReLU" bottom: "x" top: "y" }',
    ],
)
def test_nets_that_take_no_images(windows, tool, net, capsys):
    with open("net", "w", encoding="utf-8") as file:
        file.write(net)
    source = windows if tool == "detect" else PHOTOS[0]
    assert cli.main([tool, "--model_def=net", FLAGS[1], source, "out.npy"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_a_table_that_is_none(windows, capsys):
    with open(windows, "w", encoding="utf-8") as file:
        file.write("filename,ymin,xmin,ymax,xmax\n" + "a" * 200000)
    assert cli.main(["detect", *FLAGS, windows, "out.csv"]) == 1
    assert "windows.csv:1: is no CSV: field larger than field limit" in capsys.readouterr().err
