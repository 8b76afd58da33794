"""The layers that read images: Data, ImageData, WindowData. Their values are held in tests/test_golden_files.py."""

import gc
import io
import threading

import numpy as np
import pytest
from PIL import Image

from blobnet import BlobnetError
from blobnet.data.lmdb import write_database
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text
from tests.naive import leveldb as naive

RANDOM = np.random.default_rng(9)
PIXELS = RANDOM.integers(0, 256, (10, 3, 8, 9), dtype=np.uint8)


def datum(pixels, label=0):
    channels, height, width = pixels.shape
    return pb.Datum(channels=channels, height=height, width=width, data=pixels.tobytes(), label=label)


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)[:, :, ::-1])).save(file, "PNG")
    return file.getvalue()


def records(datums):
    return [(b"%08d" % number, each.SerializeToString()) for number, each in enumerate(datums)]


@pytest.fixture
def folder(tmp_path):
    """A database and an image list of the same ten images."""
    write_database(tmp_path / "db", records(datum(image, label) for label, image in enumerate(PIXELS)))
    for number, image in enumerate(PIXELS):
        (tmp_path / f"{number}.png").write_bytes(png(image))
    (tmp_path / "list.txt").write_text("".join(f"{number}.png {number}\n" for number in range(10)))
    return tmp_path


def merged(fields: str, **defaults: str) -> str:
    """The fields, and those of the defaults that they leave out."""
    return fields + "".join(f" {name}: {value}" for name, value in defaults.items() if f"{name}:" not in fields)


def data_net(folder, fields="", transform="", phase=pb.TRAIN, tops='top: "data" top: "label"', **options):
    fields = merged(fields, source='"db"', backend="LMDB", batch_size="4")
    layer = f"""layer {{
      name: "d" type: "Data" {tops} transform_param {{ {transform} }} data_param {{ {fields} }} }}"""
    return net_from_text(layer, phase, **{"folder": folder, "seed": 3, **options})


def image_net(folder, fields="", transform="", phase=pb.TRAIN, **options):
    fields = merged(fields, source='"list.txt"', root_folder=f'"{folder}/"', batch_size="4")
    layer = f"""layer {{ name: "d" type: "ImageData" top: "data" top: "label"
      transform_param {{ {transform} }} image_data_param {{ {fields} }} }}"""
    return net_from_text(layer, phase, **{"folder": folder, "seed": 3, **options})


def run(net, count):
    """Labels and data of the next batches."""
    batches = []
    for _ in range(count):
        net.forward()
        batches.append((net.blobs["label"].data.astype(int).tolist(), net.blobs["data"].data.copy()))
    return batches


def labels(net, count):
    return [batch for batch, _ in run(net, count)]


def assert_equal_batches(found, expected):
    for (labels, data), (other_labels, other_data) in zip(found, expected, strict=True):
        assert labels == other_labels
        np.testing.assert_array_equal(data, other_data)


MAKERS = {
    "Data": lambda folder: data_net(folder, "", "mirror: true crop_size: 5"),
    "ImageData": lambda folder: image_net(folder, "shuffle: true rand_skip: 3", "mirror: true crop_size: 5"),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_records_wrap_around(folder, dtype):
    batches = run(data_net(folder, dtype=dtype), 4)
    order = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5]]
    assert [batch for batch, _ in batches] == order
    for numbers, data in batches:
        assert data.dtype == dtype
        np.testing.assert_array_equal(data, PIXELS[numbers])


@pytest.mark.parametrize("kind", MAKERS)
def test_a_restored_layer_goes_on_with_the_next_batch_to_the_bit(folder, kind):
    net = MAKERS[kind](folder)
    run(net, 3)
    state = net.state()
    expected = run(net, 9)
    net.restore(state)
    assert_equal_batches(run(net, 9), expected)
    fresh = MAKERS[kind](folder)
    run(fresh, 1)
    fresh.restore(state)
    assert_equal_batches(run(fresh, 9), expected)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_seed_and_nothing_else_decides(folder, kind):
    expected = run(MAKERS[kind](folder), 6)
    assert_equal_batches(run(MAKERS[kind](folder), 6), expected)


def test_batches_do_not_depend_on_the_prefetch_depth(folder):
    nets = [data_net(folder, f"prefetch: {depth}", "crop_size: 4 mirror: true") for depth in (1, 7)]
    first, second = (run(net, 8) for net in nets)
    assert_equal_batches(first, second)


def test_shuffling_gives_each_epoch_an_order_of_its_own(folder):
    epochs = np.array(labels(image_net(folder, "shuffle: true"), 10)).reshape(4, 10)
    for epoch in epochs:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    other = np.array(labels(image_net(folder, "shuffle: true", seed=4), 10)).reshape(4, 10)
    assert (other != epochs).any()


@pytest.mark.parametrize("make", [data_net, image_net])
def test_rand_skip_starts_at_one_of_the_first(folder, make):
    starts = {labels(make(folder, "rand_skip: 4", seed=seed), 1)[0][0] for seed in range(60)}
    assert starts == {0, 1, 2, 3}


def test_random_crops_differ_within_and_between_batches(folder):
    write_database(folder / "same", records(datum(PIXELS[0]) for _ in range(4)))
    net = net_from_text(
        """layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 3 mirror: true }
        data_param { source: "same" backend: LMDB batch_size: 4 } }""",
        pb.TRAIN,
        folder=folder,
        seed=1,
    )
    crops = set()
    for _ in range(100):
        net.forward()
        crops.update(image.tobytes() for image in net.blobs["data"].data)
    assert len(crops) > 75  # of 6 x 7 places, twice


def test_encoded_float_and_raw_records(folder):
    write_database(
        folder / "mixed",
        records(
            [
                datum(PIXELS[0]),
                pb.Datum(data=png(PIXELS[1]), encoded=True),
                pb.Datum(channels=3, height=8, width=9, float_data=PIXELS[2].ravel()),
            ]
        ),
    )
    net = net_from_text(
        'layer { name: "d" type: "Data" top: "x" data_param { source: "mixed" backend: LMDB batch_size: 3 } }',
        folder=folder,
    )
    net.forward()
    np.testing.assert_array_equal(net.blobs["x"].data, PIXELS[:3])


def test_leveldb_is_the_default_backend(folder):
    entries = [(naive.VALUE, key, value) for key, value in records(datum(image) for image in PIXELS)]
    path = folder / "level"
    path.mkdir()
    (path / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    (path / "MANIFEST-000001").write_bytes(naive.manifest({}, 2))
    (path / "000002.log").write_bytes(naive.log([naive.batch(1, entries)]))
    net = net_from_text(
        'layer { name: "d" type: "Data" top: "x" data_param { source: "level" batch_size: 10 } }', folder=folder
    )
    net.forward()
    np.testing.assert_array_equal(net.blobs["x"].data, PIXELS)


def test_two_layers_may_read_one_database(folder):
    first, second = data_net(folder), data_net(folder, phase=pb.TEST)
    assert labels(first, 3) == labels(second, 3)


def test_the_thread_ends_with_the_net(folder):
    net = data_net(folder)
    run(net, 1)
    assert any(thread.name == "blobnet-prefetch" for thread in threading.enumerate())
    del net
    gc.collect()
    alive = [thread for thread in threading.enumerate() if thread.name == "blobnet-prefetch"]
    for thread in alive:
        thread.join(10)
        assert not thread.is_alive()


def test_old_fields_work_as_transform_param(folder):
    net = net_from_text(
        """layers { name: "d" type: DATA top: "data"
        data_param { source: "db" backend: LMDB batch_size: 2 scale: 0.5 crop_size: 4 } }""",
        folder=folder,
    )
    net.forward()
    np.testing.assert_array_equal(net.blobs["data"].data, PIXELS[:2, :, 2:6, 2:6] / 2)


@pytest.mark.parametrize(
    ("make", "fields", "transform", "message"),
    [
        (data_net, 'source: "nowhere"', "", "nowhere: cannot read: No such file or directory"),
        (data_net, "prefetch: 2000000000", "", "its blobs need .* the limit is"),
        (data_net, "batch_size: 2000000000", "", "its blobs need .* the limit is"),
        (data_net, 'source: ""', "", "source must name a database folder"),
        (data_net, "batch_size: 0", "", "batch_size must be given and positive"),
        (data_net, "backend: LEVELDB", "", "holds no LEVELDB database; it is LMDB"),
        (data_net, "prefetch: 0", "", "prefetch must be positive"),
        (data_net, "", "crop_size: 9", "crop_size must fit into the image; got crop_size 9, image 8 x 9"),
        (data_net, "", 'mean_file: "nowhere"', "nowhere: cannot read"),
        (data_net, "", 'mean_file: "db/data.mdb"', "BlobProto"),
        (image_net, 'source: "nowhere"', "", "nowhere: cannot read"),
        (image_net, "batch_size: 0", "", "batch_size must be positive"),
        (image_net, "new_height: 3", "", "new_height and new_width must be given together; got 3 and 0"),
        (image_net, "rand_skip: 10", "", "rand_skip must be less than the images listed; got 10 of 10"),
        (image_net, 'root_folder: "x/"', "", r"list.txt:1: x/0.png: cannot read: No such file"),
    ],
)
def test_what_is_wrong_when_the_net_is_built(folder, make, fields, transform, message):
    with pytest.raises(BlobnetError, match=message) as caught:
        make(folder, fields, transform)
    assert caught.value.layer.startswith('layer "d"')
    assert caught.value.line


def bad_list(folder):
    (folder / "list.txt").write_text("0.png 0\ndog.png dog\n")
    return image_net(folder)


def test_a_label_that_is_no_number(folder):
    with pytest.raises(BlobnetError, match='list.txt:2: .*got "dog.png dog"'):
        bad_list(folder)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"\x0a\xff", 'record 5 "00000005": is no binary Datum'),
        (datum(PIXELS[0][:, :, :4]).SerializeToString(), r"record 5 .*has shape \(3, 8, 4\); the first one"),
        (pb.Datum(channels=3, height=8, width=9, data=b"123").SerializeToString(), "must hold as many values; got 3"),
        (pb.Datum(data=b"no image", encoded=True).SerializeToString(), "record 5 .*cannot decode the image"),
    ],
)
def test_a_bad_record_is_an_error_in_the_forward_pass(folder, record, message):
    entries = records(datum(image) for image in PIXELS)
    entries[5] = (entries[5][0], record)
    write_database(folder / "bad", entries)
    net = data_net(folder, 'source: "bad"')
    net.forward()
    for _ in range(2):
        with pytest.raises(BlobnetError, match=message) as caught:
            net.forward()
        assert caught.value.layer == 'layer "d" (Data)'
        assert str(folder / "bad") in str(caught.value)


def test_images_of_several_shapes_need_batches_of_one(folder):
    (folder / "1.png").write_bytes(png(PIXELS[1][:, :5]))
    net = image_net(folder, "batch_size: 1")
    shapes = []
    for _ in range(3):
        net.forward()
        shapes.append(net.blobs["data"].shape)
    assert shapes == [(1, 3, 8, 9), (1, 3, 5, 9), (1, 3, 8, 9)]
    with pytest.raises(BlobnetError, match=r"list.txt:2: 1.png: has shape \(3, 5, 9\)"):
        image_net(folder).forward()


def test_a_truncated_image_is_an_error_that_names_the_line(folder):
    whole = png(PIXELS[6])
    (folder / "6.png").write_bytes(whole[: len(whole) // 2])
    net = image_net(folder)
    net.forward()
    with pytest.raises(BlobnetError, match="list.txt:7: .*6.png: cannot decode"):
        net.forward()


WINDOWS = """\
# 0
0.png
3
8
9
4
2 0.9 1 1 6 6
5 0.5 0 0 3 3
0 0.4 2 2 8 7
3 0.1 4 0 8 3
# 1
1.png
3
8
9
1
7 1 0 0 8 7
"""


def window_net(folder, fields="", transform="crop_size: 6", phase=pb.TRAIN, text=WINDOWS, **options):
    (folder / "windows.txt").write_text(text)
    fields = merged(fields, source='"windows.txt"', root_folder=f'"{folder}/"', batch_size="8")
    layer = f"""layer {{ name: "d" type: "WindowData" top: "data" top: "label"
      transform_param {{ {transform} }} window_data_param {{ {fields} }} }}"""
    return net_from_text(layer, phase, **{"folder": folder, "seed": 3, **options})


def test_windows_are_drawn_from_background_and_foreground(folder):
    batches = run(window_net(folder, "fg_fraction: 0.375"), 30)
    assert all(batch[:5] == [0] * 5 for batch, _ in batches)
    assert {label for batch, _ in batches for label in batch[5:]} == {2, 5, 7}
    middle = window_net(folder, "fg_fraction: 0.5 fg_threshold: 0.95 bg_threshold: 0.2")
    assert {label for batch in labels(middle, 10) for label in batch[4:]} == {7}


def test_a_window_of_the_crops_size_is_the_image_itself(folder):
    net = window_net(folder, "fg_fraction: 1 fg_threshold: 0.9", "crop_size: 6 mean_value: 7 scale: 0.5 mirror: true")
    window = (PIXELS[0][:, 1:7, 1:7].astype(np.float32) - 7) / 2
    seen = set()
    for batch, data in run(net, 6):
        for label, found in zip(batch, data, strict=True):
            if label == 2:
                mirrored = (found == window[:, :, ::-1]).all()
                assert mirrored or (found == window).all()
                seen.add(mirrored)
    assert seen == {True, False}


def test_context_beyond_the_image_is_zero(folder):
    text = WINDOWS.replace("2 0.9 1 1 6 6", "2 0.9 0 0 7 7").replace("7 1 0 0 8 7", "7 0.8 0 0 8 7")
    transform = "crop_size: 12 mean_value: 300"  # what is shown is negative
    net = window_net(folder, "fg_fraction: 1 fg_threshold: 0.9 context_pad: 2", transform, text=text)
    _, data = run(net, 1)[0]
    assert (data[:, :, :2] == 0).all()
    assert (data[:, :, :, :2] == 0).all()
    assert (data[:, :, 2:9, 2:9] < 0).all()


@pytest.mark.parametrize("fields", ["", "cache_images: true"])
def test_windows_resume_to_the_bit(folder, fields):
    net = window_net(folder, fields + " context_pad: 1", "crop_size: 6 mirror: true")
    run(net, 2)
    state = net.state()
    expected = run(net, 5)
    other = window_net(folder, fields + " context_pad: 1", "crop_size: 6 mirror: true", seed=99)
    other.restore(state)
    assert_equal_batches(run(other, 5), expected)


@pytest.mark.parametrize(
    ("fields", "transform", "message"),
    [
        ("", "", "crop_size must be given and positive"),
        ("context_pad: 3", "crop_size: 6", "context_pad must be less than half of crop_size; got 3, crop_size 6"),
        ('crop_mode: "round"', "crop_size: 6", 'crop_mode must be "warp" or "square"; got "round"'),
        ("fg_threshold: 2", "crop_size: 6", "a batch needs 2 foreground windows; the file holds none"),
        ("fg_fraction: 1.5", "crop_size: 6", "fg_fraction must be between 0 and 1; got 1.5"),
        ("batch_size: 0", "crop_size: 6", "batch_size must be given and positive"),
        ("fg_threshold: 0.4", "crop_size: 6", "a foreground window must be of class 1 or more"),
    ],
)
def test_what_is_wrong_with_windows(folder, fields, transform, message):
    with pytest.raises(BlobnetError, match=message):
        window_net(folder, fields, transform)


def test_a_window_outside_of_the_image(folder):
    net = window_net(folder, "fg_fraction: 1 fg_threshold: 0.9", text=WINDOWS.replace("2 0.9 1 1 6 6", "2 1 1 1 20 6"))
    with pytest.raises(BlobnetError, match=r"0.png: window \[1, 1, 20, 6\] lies outside of the image, 8 x 9"):
        run(net, 5)
