import numpy as np
import pytest
from PIL import Image

import blobnet.pycaffe as caffe
from blobnet import BlobnetError, config
from blobnet.pycaffe.proto import caffe_pb2
from tests.recorded import ROOT, assert_close, load

FILES = ROOT / "files"
GOLDEN = load(FILES / "expected" / "pycaffe_io.npz")
PHOTO = str(FILES / "images" / "photo0.jpg")


@pytest.fixture
def image():
    return GOLDEN["load_image_color"]


def transformer():
    made = caffe.io.Transformer({"data": (1, 3, 12, 10)})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 1, 0))
    made.set_raw_scale("data", 255)
    made.set_mean("data", np.array([104.0, 117.0, 123.0]))
    made.set_input_scale("data", 0.017)
    return made


# What real Caffe gave, with scikit-image 0.19


def test_load_image():
    for name, color in (("color", True), ("gray", False)):
        loaded = caffe.io.load_image(PHOTO, color)
        assert loaded.dtype == np.float32
        assert_close(loaded, GOLDEN[f"load_image_{name}"], name, 1e-6)


def test_resize_image(image):
    for name, source in (("resize_image", image), ("resize_image_2ch", image[:, :, :2])):
        resized = caffe.io.resize_image(source, (12, 10))
        assert resized.dtype == np.float32
        assert_close(resized, GOLDEN[name], name, 1e-6)


def test_oversample(image):
    crops = caffe.io.oversample([image], (12, 10))
    assert crops.dtype == np.float32
    np.testing.assert_array_equal(crops, GOLDEN["oversample"])


def test_preprocess_and_deprocess(image):
    made = transformer()
    found = made.preprocess("data", image)
    assert found.dtype == np.float32
    assert_close(found, GOLDEN["preprocess"], "preprocess", 1e-5)
    assert_close(made.deprocess("data", GOLDEN["preprocess"]), GOLDEN["deprocess"], "deprocess", 1e-5)


def test_serialised_messages():
    bytes_of = {name: GOLDEN[f"{name}_bytes"].tobytes() for name in ("blobproto", "datum")}
    blob = caffe.io.blobproto_to_array(caffe_pb2.BlobProto.FromString(bytes_of["blobproto"]))
    assert caffe.io.array_to_blobproto(blob).SerializeToString() == bytes_of["blobproto"]
    datum = caffe_pb2.Datum.FromString(bytes_of["datum"])
    array = caffe.io.datum_to_array(datum)
    assert array.dtype == np.uint8
    assert caffe.io.array_to_datum(array, datum.label).SerializeToString() == bytes_of["datum"]


# Images


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "LA", "1", "I;16"])
def test_images_of_every_kind_have_three_channels_or_one(tmp_path, mode):
    size = (4, 6)
    made = Image.new(mode, size, 1) if mode == "I;16" else Image.new("RGB", size, (255, 255, 255)).convert(mode)
    made.save(tmp_path / "image.png")
    for color, channels in ((True, 3), (False, 1)):
        loaded = caffe.io.load_image(str(tmp_path / "image.png"), color)
        assert loaded.shape == (6, 4, channels)
        np.testing.assert_allclose(loaded, 1 / 65535 if mode == "I;16" else 1, rtol=1e-5)


def test_a_missing_image_is_an_os_error():
    with pytest.raises(FileNotFoundError):
        caffe.io.load_image("nowhere.jpg")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"none", "it is none of JPEG, PNG"), (None, r"its 4 x 6 pixels take 5\.001 MiB; the limit is 1 MiB, as set")],
)
def test_an_image_that_is_damaged_or_too_large_is_named(tmp_path, monkeypatch, content, said):
    monkeypatch.setattr(config, "_max_memory", 1 << 20)
    path = tmp_path / "image.png"
    Image.new("RGB", (4, 6)).save(path)
    path.write_bytes(content or path.read_bytes())
    with pytest.raises(BlobnetError, match=f"image.png: cannot decode the image: {said}"):
        caffe.io.load_image(str(path))


def test_resizing_keeps_constants_and_range():
    flat = np.full((4, 4, 3), 0.3, np.float32)
    np.testing.assert_array_equal(caffe.io.resize_image(flat, (7, 2)), np.full((7, 2, 3), 0.3, np.float32))
    image = np.random.default_rng(1).uniform(-3, 5, (8, 9, 1))
    larger = caffe.io.resize_image(image, (16, 27))
    assert image.min() <= larger.min() and larger.max() <= image.max() + 1e-6


def test_nearest_pixels():
    image = np.arange(4).reshape(2, 2, 1) / 3
    np.testing.assert_allclose(caffe.io.resize_image(image, (4, 4), 0), image.repeat(2, 0).repeat(2, 1), atol=1e-7)
    with pytest.raises(RuntimeError, match="interp_order must be 0"):
        caffe.io.resize_image(image, (4, 4), 6)


def test_splines_stay_in_the_range_of_the_image():
    image = np.random.default_rng(2).uniform(-3, 5, (6, 9, 3))
    for order in range(2, 6):
        larger = caffe.io.resize_image(image, (16, 27), order)
        assert image.min() - 1e-6 <= larger.min() and larger.max() <= image.max() + 1e-6


def test_resize_takes_bytes_as_fractions():
    np.testing.assert_allclose(caffe.io.resize(np.full((2, 2, 3), 51, np.uint8), (4, 4)), 0.2)


def test_ten_crops_of_several_images():
    images = [np.random.default_rng(seed).random((7, 8, 3)) for seed in (1, 2)]
    crops = caffe.io.oversample(images, (3, 4))
    assert crops.shape == (20, 3, 4, 3)
    for image, ten in zip(images, (crops[:10], crops[10:]), strict=True):
        np.testing.assert_allclose(ten[0], image[:3, :4], rtol=1e-6)
        np.testing.assert_allclose(ten[3], image[-3:, -4:], rtol=1e-6)
        np.testing.assert_allclose(ten[4], image[2:5, 2:6], rtol=1e-6)
        np.testing.assert_array_equal(ten[5:], ten[:5, :, ::-1])


# Transformer


def test_steps_are_optional():
    plain = caffe.io.Transformer({"data": (1, 2, 3, 4)})
    image = np.random.default_rng(1).random((3, 4, 2))
    np.testing.assert_allclose(plain.preprocess("data", image), image, rtol=1e-6)
    plain.set_mean("data", np.ones((3, 4)))
    plain.mean["data"] = np.float32(1)
    np.testing.assert_allclose(plain.preprocess("data", image), image - 1, rtol=1e-5)


def test_preprocessing_leaves_the_image_alone(image):
    kept = image.copy()
    transformer().preprocess("data", image)
    np.testing.assert_array_equal(image, kept)


def test_a_mean_image_is_resized():
    made = caffe.io.Transformer({"data": (1, 3, 4, 5)})
    mean = np.random.default_rng(1).random((3, 8, 10)) * 255
    made.set_mean("data", mean)
    expected = caffe.io.resize_image(mean.transpose(1, 2, 0), (4, 5)).transpose(2, 0, 1)
    np.testing.assert_allclose(made.mean["data"], expected)
    made.set_mean("data", mean[:, :4, :5])
    np.testing.assert_array_equal(made.mean["data"], mean[:, :4, :5])


@pytest.mark.parametrize("mean", [np.zeros(4), np.zeros((2, 3, 4, 5)), np.float32(3)])
def test_a_mean_that_does_not_fit_is_a_value_error(mean):
    with pytest.raises(ValueError, match="mean"):
        transformer().set_mean("data", mean)


def test_unknown_inputs_and_wrong_orders():
    made = transformer()
    image = np.zeros((12, 10, 3))
    for call in (
        lambda: made.preprocess("date", image),
        lambda: made.deprocess("date", image),
        lambda: made.set_mean("date", np.zeros(3)),
        lambda: made.set_transpose("date", (2, 0, 1)),
        lambda: made.set_channel_swap("date", (2, 1, 0)),
        lambda: made.set_raw_scale("date", 1),
        lambda: made.set_input_scale("date", 1),
    ):
        with pytest.raises(Exception, match='"date" is not one of the net inputs'):
            call()
    with pytest.raises(Exception, match="order must name each of the 3 axes"):
        made.set_transpose("data", (1, 0))
    with pytest.raises(Exception, match="order must name each of the 3 channels"):
        made.set_channel_swap("data", (1, 0))


# Messages


def test_blobproto_in_both_formats():
    array = np.arange(24.0).reshape(2, 3, 4)
    blob = caffe.io.array_to_blobproto(array, diff=-array)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), array)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob, return_diff=True), -array)
    old = caffe_pb2.BlobProto(data=array.flat, num=1, channels=2, height=3, width=4)
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(old), array[np.newaxis])


def test_blobproto_without_a_shape_is_a_scalar():
    assert caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[5])) == 5
    with pytest.raises(ValueError, match="reshape"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[5, 6]))


def test_vectors_of_arrays():
    arrays = [np.arange(6.0).reshape(2, 3), np.ones(4)]
    packed = caffe.io.arraylist_to_blobprotovector_str(arrays)
    assert isinstance(packed, bytes)
    for found, array in zip(caffe.io.blobprotovector_str_to_arraylist(packed), arrays, strict=True):
        np.testing.assert_array_equal(found, array)


def test_datum_of_floats():
    array = np.random.default_rng(1).random((3, 2, 2)).astype(np.float32)
    datum = caffe.io.array_to_datum(array)
    assert not datum.HasField("label")
    assert len(caffe.io.array_to_datum(array, label=1).SerializeToString()) > len(datum.SerializeToString())
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), array)
    with pytest.raises(ValueError, match="three axes"):
        caffe.io.array_to_datum(array[0])
