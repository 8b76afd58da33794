"""classify: the predictions of the Classifier for files, folders and arrays."""

import numpy as np
import pytest

from blobnet import cli
from blobnet.pycaffe import Classifier
from blobnet.pycaffe import io as caffe_io
from blobnet.tools import classify
from tests.recorded import ROOT

FILES = ROOT / "files"
MODEL, WEIGHTS = str(FILES / "tiny_deploy.prototxt"), str(FILES / "tiny_iter_10.caffemodel")
FLAGS = [f"--model_def={MODEL}", f"--pretrained_model={WEIGHTS}"]
IMAGE = str(FILES / "images/photo0.jpg")


def expected(image=IMAGE, oversample=True, dims=(256, 256), **options):
    options = {"raw_scale": 255, "channel_swap": (2, 1, 0)} | options
    net = Classifier(MODEL, WEIGHTS, dims, **options)
    images = [caffe_io.load_image(image)] if isinstance(image, str) else image
    return net.predict(images, oversample)


def test_an_image(tmp_path):
    assert cli.main(["classify", *FLAGS, IMAGE, str(tmp_path / "out")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected(), rtol=1e-6)


def test_flags(tmp_path):
    mean = np.array([104, 117, 123.0])
    np.save(tmp_path / "mean.npy", mean)
    own = ["--center_only", "--images_dim=20,30", "--input_scale=0.5", "--raw_scale", "128", "--channel_swap=0,1,2"]
    argv = ["classify", *FLAGS, *own, "--gpu", f"--mean_file={tmp_path / 'mean.npy'}", IMAGE, str(tmp_path / "out.npy")]
    assert cli.main(argv) == 0
    options = {"mean": mean, "input_scale": 0.5, "raw_scale": 128, "channel_swap": (0, 1, 2)}
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected(IMAGE, False, (20, 30), **options), rtol=1e-6)


def test_a_folder_and_an_array(tmp_path):
    found = classify.classify(FILES / "images", MODEL, WEIGHTS, image_dims=(9, 9), center_only=True)
    images = [caffe_io.load_image(str(FILES / f"images/photo{number}.jpg")) for number in range(3)]
    np.testing.assert_allclose(found, expected(images, False, (9, 9)), rtol=1e-6)
    array = np.random.default_rng(0).random((2, 9, 9, 3), np.float32)
    np.save(tmp_path / "images.npy", array)
    found = classify.classify(tmp_path / "images.npy", MODEL, WEIGHTS, image_dims=(9, 9), center_only=True)
    np.testing.assert_allclose(found, expected(array, False, (9, 9)), rtol=1e-6)


def test_mean_images_are_resized_as_pycaffe_does(tmp_path):
    mean = np.random.default_rng(0).random((3, 20, 22)) * 100
    np.save(tmp_path / "mean.npy", mean)
    for file, array in ((tmp_path / "mean.npy", mean), (FILES / "mean.binaryproto", None)):
        array = classify.load_mean(file) if array is None else array
        found = classify.classify(IMAGE, MODEL, WEIGHTS, mean_file=file)
        np.testing.assert_allclose(found, expected(mean=array, raw_scale=255, channel_swap=(2, 1, 0)), rtol=1e-6)


def test_a_net_for_grey_images(tmp_path):
    (tmp_path / "net").write_text("""layer { name: "x" type: "Input" top: "x"
        input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
        layer { name: "y" type: "Flatten" bottom: "x" top: "y" }""")
    found = classify.classify(
        FILES / "images/grey0.png", tmp_path / "net", WEIGHTS, image_dims=(4, 4), center_only=True
    )
    assert found.shape == (1, 16)
    assert 1 < found.max() <= 255


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([*FLAGS, "none.jpg", "out"], "none.jpg: "),
        ([*FLAGS, ".", "out"], ".: the folder holds no .jpg file"),
        ([*FLAGS, MODEL, "out"], f"{MODEL}: "),
        ([*FLAGS, "--images_dim=4,4", IMAGE, "out"], f"{IMAGE}: cannot be classified: "),
        ([*FLAGS, "--channel_swap=0,1", IMAGE, "out"], "the order must name each of the 3 channels"),
        ([*FLAGS, "--images_dim=a", IMAGE, "out"], "argument --images_dim: whole numbers"),
        ([*FLAGS, "bad.npy", "out"], "bad.npy: cannot be classified: "),
        ([*FLAGS, f"--mean_file={IMAGE}", IMAGE, "out"], f"{IMAGE}: is no binary BlobProto"),
        ([FLAGS[0], "a", "b"], "--pretrained_model is needed"),
    ],
)
def test_faults(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY no array")
    assert cli.main(["classify", *argv]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {said}")
