"""The nets that are measured, from the zoo's prototxts, fed from memory: Input layers stand for the data layers."""

from pathlib import Path

from blobnet import zoo
from blobnet.passes import phases
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

# Name in the zoo to the batch of a training step.
BATCHES = {
    "lenet": 64,
    "cifar10_quick": 100,
    "resnet20": 128,
    "alexnet": 32,
    "squeezenet1_1": 16,
    "mobilenet_v1": 16,
    "resnet18": 16,
    "resnet50": 8,
    "vgg16": 8,
}


def training(name: str, batch: int) -> pb.NetParameter:
    """The train net without accuracies, with Input layers ``data`` [batch, C, H, W] and ``label`` [batch]."""
    param = phases.filter_net(_read(name, "train_val"), pb.NetState(phase=pb.TRAIN))
    first = param.layer[0]
    image = list(_read(name, "deploy").layer[0].input_param.shape[0].dim)[1:]
    net = pb.NetParameter(name=param.name)
    for top, shape in zip(first.top, ([batch, *image], [batch]), strict=True):
        net.layer.append(input_layer(top, shape))
    net.layer.extend(layer for layer in param.layer[1:] if layer.type != "Accuracy")
    return net


def predicting(name: str, batch: int) -> pb.NetParameter:
    """The deploy net for a batch."""
    net = _read(name, "deploy")
    net.layer[0].input_param.shape[0].dim[0] = batch
    return net


def input_layer(name: str, shape) -> pb.LayerParameter:
    layer = pb.LayerParameter(name=name, type="Input", top=[name])
    layer.input_param.shape.add(dim=shape)
    return layer


def _read(name: str, kind: str) -> pb.NetParameter:
    path = Path(zoo.folder(name)) / f"{kind}.prototxt"
    return text.strip_source_info(text.read(path, pb.NetParameter()))
