"""The formats that are fuzzed: for each, files to begin with and what reads them.

A case is a folder of files, ``{name: content}``, of which one is mutated; ``read`` gets the folder.
"""

import contextlib
import functools
import io
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from PIL import ExifTags, Image

from blobnet import config, snapshot
from blobnet.data import database, image_list
from blobnet.data.hdf5 import RowSource
from blobnet.data.lmdb import write_database
from blobnet.data.records import datum_pixels
from blobnet.errors import BlobnetError
from blobnet.io import blob_proto, files, hdf5, images, mean, weights
from blobnet.io import safetensors as safetensors_io
from blobnet.kernels import checksum
from blobnet.net import Net
from blobnet.passes import upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.streams import Stream
from tests.naive import leveldb as naive_leveldb

ROOT = Path(__file__).resolve().parents[2]
FILE = "file"
Case = dict[str, bytes]
MB = 1 << 20


@dataclass(frozen=True)
class Target:
    """``allowance``: bytes that reading may take besides four times those of the files."""

    seeds: Callable[[], list[Case]]
    read: Callable[[Path, random.Random], object]
    text: bool
    allowance: int


TARGETS: dict[str, Target] = {}


def target(seeds: Callable[[], list[Case]], text: bool = False, allowance: int = 64 * MB):
    """Decorator of a reader: it becomes the format of its name."""

    def add(read: Callable[[Path, random.Random], object]):
        TARGETS[read.__name__.removeprefix("read_")] = Target(seeds, read, text, allowance)
        return read

    return add


# Files to begin with


_SMALL = 4096


def single(*contents: bytes) -> list[Case]:
    return [{FILE: content} for content in contents]


def built(build: Callable[[Path], object]) -> bytes:
    """The content of the file that a function writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "built"
        build(path)
        return path.read_bytes()


def folder_of(build: Callable[[Path], object]) -> Case:
    """The files of the folder that a function makes."""
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent) / "db"
        build(path)
        return {child.name: child.read_bytes() for child in sorted(path.iterdir()) if child.name != "lock.mdb"}


def prototxts() -> list[Case]:
    found = sorted((ROOT / "tests/fuzz/seeds").glob("*.prototxt")) + sorted((ROOT / "zoo").glob("*/*.prototxt"))
    contents = [path.read_bytes() for path in found if path.stat().st_size < 1 << 15]
    small = [content for content in contents if len(content) <= _SMALL]
    return single(*small, *small, *contents)


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


LAYERS = [("conv", [values(4, 3, 3, 3), values(4)]), ("block/ip", [values(5, 12)]), ("none", [])]


def legacy_net() -> pb.NetParameter:
    """Layers of both older generations, with blobs in the legacy shape and in doubles."""
    net = pb.NetParameter(name="old", layers=[pb.V1LayerParameter(name="ip", type=pb.V1LayerParameter.INNER_PRODUCT)])
    blob = net.layers[0].blobs.add(num=1, channels=1, height=2, width=3)
    blob.data.extend(range(6))
    old = net.layers.add().layer
    old.name, old.type = "conv", "conv"
    old.blobs.add(num=1, channels=1, height=1, width=2).double_data.extend([1, 2])
    return net


def caffemodels() -> list[Case]:
    return single(built(lambda path: weights.write_weights(path, "net", LAYERS)), legacy_net().SerializeToString())


def solverstates() -> list[Case]:
    histories = [blob_proto.from_array(array) for _, blobs in LAYERS for array in blobs]
    resume = '{"streams": [{"array": "AAAA", "dtype": "|u1", "shape": [3]}], "losses": [1.5], "model_sha256": "0"}'
    state = pb.SolverState(iter=7, learned_net="m.caffemodel", history=histories, current_step=1)
    with_resume = pb.SolverState(resume=resume)
    with_resume.MergeFrom(state)
    return single(state.SerializeToString(), with_resume.SerializeToString(), built(_write_hdf5_state))


def _write_hdf5_state(path: Path) -> None:
    with hdf5.writer(path) as file:
        for name, value in (("iter", 7), ("current_step", 1)):
            file.create_dataset(name, data=np.array([value], np.int32))
        hdf5.write_text(file, "learned_net", "m.caffemodel")
        for index in range(2):
            file.create_dataset(f"history/{index}", data=values(3, 4))


def hdf5_weights() -> list[Case]:
    def packed(path: Path) -> None:
        with h5py.File(path, "w", libver="latest") as file:
            file.create_dataset("data/conv/0", data=values(8, 8), chunks=(4, 4), compression="gzip", shuffle=True)
            file.create_dataset("data/conv/1", data=np.arange(8.0), fletcher32=True, chunks=(4,))
            file["data/soft"] = h5py.SoftLink("/data/conv")
            file["data/outside"] = h5py.ExternalLink("other.h5", "/x")

    return single(built(lambda path: weights.write_hdf5(path, LAYERS, LAYERS)), built(packed))


def hdf5_rows() -> list[Case]:
    def rows(**options) -> bytes:
        def build(path: Path) -> None:
            with h5py.File(path, "w", **options.pop("file", {})) as file:
                file.create_dataset("data", data=values(6, 2, 3), **options)
                file.create_dataset("label", data=np.arange(6), **options)

        return built(build)

    return [
        {FILE: content, "list": b"file\n"}
        for content in (rows(), rows(chunks=True, compression="gzip", file={"libver": "latest"}))
    ]


def pictures() -> list[bytes]:
    pixels = (np.arange(20 * 24 * 3) % 251).astype(np.uint8).reshape(20, 24, 3)
    grey = pixels[:, :, :1]
    kinds = [(pixels, kind) for kind in ("jpg", "png", "bmp", "ppm", "tiff", "webp")] + [(grey, "jpg"), (grey, "png")]
    return [images.encode(image, kind) for image, kind in kinds]


def packed_pictures() -> list[bytes]:
    """As other programs write them: in several scans, turned, with a palette or an alpha, compressed."""
    image, exif = Image.open(io.BytesIO(pictures()[1])), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return [
        saved(image, "JPEG", progressive=True, exif=exif),
        saved(image.convert("CMYK"), "JPEG"),
        saved(image.convert("P"), "PNG", exif=exif),
        saved(image.convert("RGBA"), "WEBP", lossless=True),
        saved(image, "TIFF", compression="tiff_lzw", tiffinfo=exif),
        saved(image, "TIFF", compression="jpeg"),
    ]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def data_of(shape: tuple[int, int, int]) -> list[bytes]:
    count = int(np.prod(shape))
    sizes = dict(zip(("channels", "height", "width"), shape, strict=True))
    raw = pb.Datum(**sizes, data=bytes(i % 256 for i in range(count)), label=3)
    floats = pb.Datum(**sizes, float_data=[0.5] * count, label=1)
    encoded = [pb.Datum(data=picture, encoded=True, label=2) for picture in pictures()[:2]]
    return [datum.SerializeToString() for datum in (raw, floats, *encoded)]


def records(count: int) -> list[tuple[bytes, bytes]]:
    """Small records and, in the middle, one that needs pages of its own."""
    small, large = data_of((1, 4, 4))[0], data_of((3, 60, 60))[0]
    return [(f"{index:08d}".encode(), large if index == count // 2 else small) for index in range(count)]


def lmdbs() -> list[Case]:
    return [folder_of(functools.partial(write_database, records=records(count))) for count in (3, 150)]


def leveldbs() -> list[Case]:
    """A table and a log, with and without compression."""
    stored = [(key, number, naive_leveldb.VALUE, value) for number, (key, value) in enumerate(records(9), 1)]
    written = [naive_leveldb.batch(number, [(kind, key, value)]) for key, number, kind, value in stored[6:]]
    return [
        {
            "CURRENT": b"MANIFEST-000007\n",
            "MANIFEST-000007": naive_leveldb.manifest({4: 1}, log_number=8),
            "000004.ldb": naive_leveldb.table(stored[:6], snappy=snappy),
            "000008.log": naive_leveldb.log(written),
        }
        for snappy in (True, False)
    ]


def image_lists() -> list[Case]:
    pixels = pictures()[1]
    return [{FILE: b"a.png 0\nb c.png 1\n\n a.png -3 \n", "a.png": pixels, "b c.png": pixels}]


def means() -> list[Case]:
    return single(built(lambda path: mean.write_mean(path, values(3, 5, 5))))


def safetensors() -> list[Case]:
    return single(built(lambda path: safetensors_io.write(path, "net", LAYERS)))


# What reads them


@target(prototxts, text=True)
def read_prototxt(folder: Path, dice: random.Random):
    path = folder / FILE
    with _refused():
        upgrade.upgrade_solver(text.read(path, pb.SolverParameter()), str(path))
    text.dump(upgrade.upgrade_net(text.read(path, pb.NetParameter()), str(path)))


@target(prototxts, text=True, allowance=256 * MB)
def read_net(folder: Path, dice: random.Random):
    config.set_max_memory("16M")
    Net(folder / FILE, dice.choice((pb.TRAIN, pb.TEST)), seed=1, untrusted=True)


@target(caffemodels)
def read_caffemodel(folder: Path, dice: random.Random):
    weights.read_net_name(folder / FILE)
    weights.read_weights(folder / FILE)


@target(solverstates)
def read_solverstate(folder: Path, dice: random.Random):
    snapshot.read(folder / FILE)


@target(hdf5_weights)
def read_hdf5(folder: Path, dice: random.Random):
    weights.read_weights(folder / FILE)


@target(hdf5_rows)
def read_hdf5_rows(folder: Path, dice: random.Random):
    source = RowSource(folder / "list", lambda name: folder / name, ["data", "label"], True, Stream(1, "rows"))
    outs = [np.empty((min(2, len(source)), *shape), np.float32) for shape in source.row_shapes]
    source.read(0, outs)


@target(lambda: single(*data_of((3, 4, 4))))
def read_datum(folder: Path, dice: random.Random):
    datum = files.read_message(folder / FILE, pb.Datum())
    datum_pixels(datum, dice.choice((True, False, None)), "record 0")


@target(lmdbs)
def read_lmdb(folder: Path, dice: random.Random):
    _read_all(folder, pb.DataParameter.LMDB)


@target(leveldbs)
def read_leveldb(folder: Path, dice: random.Random):
    """Half of the times with every checksum taken for right, so that damage goes deeper."""
    kept = checksum.masked
    try:
        if dice.random() < 0.5:
            checksum.masked = lambda data: _Equal()
        _read_all(folder, pb.DataParameter.LEVELDB)
    finally:
        checksum.masked = kept


class _Equal:
    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False


def _read_all(folder: Path, backend: int) -> None:
    source = database.open_database(folder, backend)
    len(source)
    for _, (_, value) in zip(range(1000), source.records(), strict=False):
        with _refused():
            files.parse_message(value, pb.Datum(), "record")


@target(lambda: single(*pictures(), *packed_pictures()))
def read_image(folder: Path, dice: random.Random):
    images.read_image(folder / FILE, dice.choice((True, False, None)))


@target(image_lists, text=True)
def read_image_list(folder: Path, dice: random.Random):
    for entry in image_list.read_list(folder / FILE)[:20]:
        with _refused():
            images.read_image(folder / entry.name, True)


@target(means)
def read_mean(folder: Path, dice: random.Random):
    mean.read_mean(folder / FILE)


@target(safetensors)
def read_safetensors(folder: Path, dice: random.Random):
    weights.read_net_name(folder / FILE)
    weights.read_weights(folder / FILE)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    with contextlib.suppress(BlobnetError):
        yield
