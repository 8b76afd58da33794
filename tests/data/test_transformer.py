import numpy as np
import pytest

from blobnet import BlobnetError
from blobnet.context import Context
from blobnet.data.transformer import Draws, Transformer
from blobnet.io import mean
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

RANDOM = np.random.default_rng(5)
BYTES = RANDOM.integers(0, 256, (3, 9, 11), dtype=np.uint8)
FLOATS = RANDOM.normal(size=(3, 9, 11)).astype(np.float32)
VIEW = RANDOM.integers(0, 256, (9, 11, 3), dtype=np.uint8)[:, :, ::-1].transpose(2, 0, 1)
STILL = 0.9, 0, 0  # mirror, top, left


def transformer(fields: str, phase=pb.TEST, dtype=np.float32, folder=None) -> Transformer:
    layer = text.parse(f'layer {{ name: "d" type: "Data" transform_param {{ {fields} }} }}', pb.NetParameter())
    return Transformer(layer.layer[0], Context(phase, np.dtype(dtype), folder=folder))


def run(fields: str, pixels, draws=STILL, **options) -> np.ndarray:
    transform = transformer(fields, **options)
    out = np.full((1, *transform.shape(*pixels.shape)), np.nan, options.get("dtype", np.float32))
    transform.apply(pixels[np.newaxis], Draws(*np.array([draws]).T), out)
    return out[0]


@pytest.mark.parametrize("pixels", [BYTES, FLOATS, VIEW], ids=["bytes", "floats", "view"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_after_mean_values(pixels, dtype):
    expected = (pixels.astype(dtype) - np.array([1, 2, 3.5], dtype)[:, None, None]) * dtype(0.25)
    found = run("mean_value: 1 mean_value: 2 mean_value: 3.5 scale: 0.25", pixels, dtype=dtype)
    np.testing.assert_array_equal(found, expected)


def test_one_mean_value_serves_all_channels():
    np.testing.assert_array_equal(run("mean_value: 100", BYTES), BYTES.astype(np.float32) - 100)


def test_crop_is_in_the_middle_in_test_and_drawn_in_train():
    np.testing.assert_array_equal(run("crop_size: 6", BYTES), BYTES[:, 1:7, 2:8])
    for draws, top, left in (((0.9, 0, 0), 0, 0), ((0.9, 0.9999, 0.9999), 3, 5), ((0.9, 0.5, 0.3), 2, 1)):
        found = run("crop_size: 6", BYTES, draws, phase=pb.TRAIN)
        np.testing.assert_array_equal(found, BYTES[:, top : top + 6, left : left + 6])


def test_mirror_in_both_phases():
    for phase in (pb.TRAIN, pb.TEST):
        mirrored = run("mirror: true", BYTES, (0.1, 0, 0), phase=phase)
        np.testing.assert_array_equal(mirrored, BYTES[:, :, ::-1])
        np.testing.assert_array_equal(run("mirror: true", BYTES, phase=phase), BYTES)
        np.testing.assert_array_equal(run("", BYTES, (0.1, 0, 0), phase=phase), BYTES)


def test_mean_image_is_cropped_and_mirrored_with_the_image(tmp_path):
    mean.write_mean(tmp_path / "mean", FLOATS)
    expected = (BYTES - FLOATS)[:, 3:9, 5:11][:, :, ::-1]
    found = run(
        'mean_file: "mean" crop_size: 6 mirror: true',
        BYTES,
        (0.1, 0.999, 0.999),
        phase=pb.TRAIN,
        folder=tmp_path,
    )
    np.testing.assert_array_equal(found, expected)


def test_padding_is_zero_after_the_mean_and_moves_with_crop_and_mirror(tmp_path):
    mean.write_mean(tmp_path / "mean", FLOATS)
    mean_file = f'mean_file: "{tmp_path / "mean"}" scale: 0.5'
    padded = np.pad((BYTES - FLOATS) * np.float32(0.5), ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_array_equal(run(f"pad: 2 {mean_file}", BYTES), padded)
    for draws, top, left in (((0.9, 0, 0), 0, 0), ((0.9, 0.9999, 0.9999), 4, 6), ((0.1, 0.5, 0.9999), 2, 6)):
        found = run(f"pad: 2 crop_size: 9 mirror: true {mean_file}", BYTES, draws, phase=pb.TRAIN)
        expected = padded[:, top : top + 9, left : left + 9]
        np.testing.assert_array_equal(found, expected[:, :, ::-1] if draws[0] < 0.5 else expected)
    np.testing.assert_array_equal(run("pad: 2 crop_size: 9", BYTES), BYTES[:, :, 1:10])


def test_a_crop_may_hold_nothing_but_padding():
    found = run("pad: 9 crop_size: 4 mean_value: 7", BYTES, (0.9, 0, 0.9999), phase=pb.TRAIN)
    np.testing.assert_array_equal(found, np.zeros((3, 4, 4)))


def test_draws_cover_all_places_evenly():
    transform = transformer("crop_size: 8 mirror: true", pb.TRAIN)
    draws = transform.draw(np.random.default_rng(1), 6000)
    assert abs(transform.mirrors(draws).mean() - 0.5) < 0.03
    tops = np.bincount((draws.top * 4).astype(int), minlength=4)
    assert tops.min() > 1350


def test_each_image_of_many_has_its_own_draws():
    images = RANDOM.integers(0, 256, (5, 3, 9, 11), dtype=np.uint8)
    draws = RANDOM.random((5, 3))
    draws[:2, 0] = 0.1, 0.9
    transform = transformer("crop_size: 6 mirror: true mean_value: 3", pb.TRAIN)
    out = np.full((5, 3, 6, 6), np.nan, np.float32)
    transform.apply(images, Draws(*draws.T), out)
    for pixels, drawn, found in zip(images, draws, out, strict=True):
        np.testing.assert_array_equal(
            found, run("crop_size: 6 mirror: true mean_value: 3", pixels, drawn, phase=pb.TRAIN)
        )


def test_the_image_is_left_alone():
    before = BYTES.copy()
    run("scale: 2 mirror: true", BYTES, (0.1, 0, 0))
    np.testing.assert_array_equal(BYTES, before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("crop_size: 10", "crop_size must fit into the image; got crop_size 10, image 9 x 11"),
        ("mean_value: 1 mean_value: 2", "mean_value must be given once or once a channel; got 2 for 3 channels"),
        ('mean_file: "mean" mean_value: 1', "mean_file and mean_value exclude each other"),
        ("force_color: true force_gray: true", "force_color and force_gray exclude each other"),
        ('mean_file: "nowhere"', "nowhere: cannot read"),
        ('mean_file: "mean"', r"the mean image has shape \(1, 2, 2\), the image \(3, 9, 11\)"),
    ],
)
def test_what_does_not_fit_is_an_error(fields, message, tmp_path):
    mean.write_mean(tmp_path / "mean", np.zeros((1, 2, 2), np.float32))
    with pytest.raises(BlobnetError, match=message):
        run(fields, BYTES, folder=tmp_path)
