"""Real weights on real prototxts against what Caffe computed with them, where both are present: see ``tests.zoo.real``.

Of the detectors, the layers that Caffe knows run. The outputs recorded for the two small classifiers come from other
snapshots than the weights beside them: these are held against the accuracy that Caffe measured.
"""

import re

import numpy as np
import pytest

from blobnet import TEST, Net, zoo
from blobnet.layers.registry import layer_types
from blobnet.passes import upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.zoo import datasets
from tests.recorded import assert_close
from tests.zoo.real import OUTPUTS, WEIGHTS

# case: prototxt and weights
FILES = {
    "mobilenet_ssd_old": ("mobilenet_ssd_voc_old/deploy.prototxt", "SSD_MobileNet.caffemodel"),
    "mtcnn_det1": ("mtcnn_kpzhang/det1.prototxt", "det1.caffemodel"),
    "mtcnn_det1_120x160": ("mtcnn_kpzhang/det1.prototxt", "det1.caffemodel"),
    "mtcnn_det2": ("mtcnn_kpzhang/det2.prototxt", "det2.caffemodel"),
    "mtcnn_det3": ("mtcnn_kpzhang/det3.prototxt", "det3.caffemodel"),
    "rfb320": ("ultralight_face/RFB-320.prototxt", "RFB-320.caffemodel"),
    "squeezenet_v1.1": ("squeezenet_v1.1/deploy.prototxt", "squeezenet_v1.1.caffemodel"),
    "waifu2x_anime_y_noise1": ("waifu2x/anime_style_art.prototxt", "anime_style_art__noise1_model.caffemodel"),
    "waifu2x_anime_y_scale": ("waifu2x/anime_style_art.prototxt", "anime_style_art__scale2.0x_model.caffemodel"),
    "wechat_sr": ("wechat_qrcode/sr.prototxt", "sr.caffemodel"),
}


DETECTORS = {"mobilenet_ssd_old", "rfb320"}
CASES = [path for path in sorted(OUTPUTS.glob("*.caffe.npz")) if path.name.split("__")[0] in FILES]


def known_part(prototxt: str) -> pb.NetParameter:
    """The layers whose types are known and whose bottoms are made by such layers."""
    blocks = re.split(r"^(?=layer)", prototxt, flags=re.MULTILINE)
    types = [re.search(r'type: *"(\w+)"', block) for block in blocks]
    texts = [block for block, found in zip(blocks, types, strict=True) if not found or found[1] in layer_types()]
    param = upgrade.upgrade_net(text.parse("".join(texts), pb.NetParameter()))
    made: set[str] = set()
    known = []
    for layer in param.layer:
        if made.issuperset(layer.bottom):
            known.append(layer)
            made.update(layer.top)
    return pb.NetParameter(name=param.name, layer=known)


def recorded(archive) -> dict[str, tuple[np.ndarray, bool]]:
    """Blob name to its values, and whether they are a sample."""
    kinds = [(key.split("__", 1), key) for key in archive.files if "__" in key]
    return {name.replace("|", "/"): (archive[key], kind == "samp") for (kind, name), key in kinds}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.split(".caffe")[0])
def test_every_blob(path):
    case = path.name.split("__")[0]
    prototxt, weights = FILES[case]
    prototxt = WEIGHTS / prototxt
    net = Net(known_part(prototxt.read_text()), TEST, weights=prototxt.with_name(weights))
    with np.load(path, allow_pickle=False) as archive:
        expected = {name: value for name, value in recorded(archive).items() if "_split_" not in name}
    net.forward(**{net.inputs[0]: np.load(path.with_name(path.name.replace(".caffe.npz", ".input.npy")))})
    compared = [name for name in net.blobs if name in expected]
    for name in compared:
        values, is_sample = expected[name]
        data = net.blobs[name].data
        if is_sample:
            data = data.ravel()[:: max(1, data.size // 4096)][:4096]
        assert_close(data, values, name, tolerance=1e-4)
    assert len(compared) > 40 if case in DETECTORS else expected.keys() == set(compared)


BY_OTHERS = {
    "cifar10_quick": WEIGHTS / "cifar10_quick_everpeace/cifar10_quick_iter_4000.caffemodel",
    "lenet": WEIGHTS / "lenet_mnist_everpeace/lenet_iter_5000.caffemodel",
    "squeezenet1_1": WEIGHTS / "squeezenet_v1.1/squeezenet_v1.1.caffemodel",
}


@pytest.mark.parametrize("model", [model for model, weights in BY_OTHERS.items() if weights.exists()])
def test_weights_by_others_fit_the_nets_of_the_zoo(model):
    net = Net(zoo.folder(model) / "deploy.prototxt", TEST)
    net.copy_trained_layers_from(BY_OTHERS[model]).require_complete()


MEASURED = [
    ("lenet", 0.9893),
    ("cifar10_quick", 0.6854),
]
AT_HAND = {"lenet": True, "cifar10_quick": datasets.place("cifar10_test_lmdb").exists()}


@pytest.mark.parametrize(
    ("model", "accuracy"), [case for case in MEASURED if AT_HAND[case[0]] and BY_OTHERS[case[0]].exists()]
)
def test_accuracy_is_what_caffe_measured(model, accuracy):
    """On all 10,000 test images, in the zoo's own nets."""
    net = Net(zoo.folder(model) / "train_val.prototxt", TEST, weights=BY_OTHERS[model])
    found = np.mean([float(net.forward()["accuracy"]) for _ in range(100)])
    assert found == pytest.approx(accuracy, abs=1e-6)
