"""Nets written in 2014: ``layers { type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 ... }``.

A V1 layer has its type as an enum, and lists of multipliers where the current one has ``param { lr_mult ... }``.
"""

from typing import Any

from blobnet.errors import element, error_at, field_lines, set_field_lines
from blobnet.passes.fields import assign, carry_lines
from blobnet.proto import blobnet_pb2 as pb

TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}

_OF_PARAM = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
_DATA_PARAMS = {
    pb.V1LayerParameter.DATA: "data_param",
    pb.V1LayerParameter.IMAGE_DATA: "image_data_param",
    pb.V1LayerParameter.WINDOW_DATA: "window_data_param",
}
_TRANSFORMS = ("scale", "mean_file", "crop_size", "mirror")


def needs_transform(net: pb.NetParameter) -> bool:
    return any(_stated_transforms(layer) for layer in net.layers)


def upgrade_transform(net: pb.NetParameter) -> pb.NetParameter:
    """``scale``, ``mean_file``, ``crop_size`` and ``mirror`` of data layers moved to ``transform_param``."""
    lifted = pb.NetParameter()
    lifted.CopyFrom(net)
    for layer in lifted.layers:
        stated = _stated_transforms(layer)
        for name in stated:
            data_param = getattr(layer, _DATA_PARAMS[layer.type])
            setattr(layer.transform_param, name, getattr(data_param, name))
            data_param.ClearField(name)
        lines = field_lines(layer.source_info.fields)
        moved = {f"{_DATA_PARAMS[layer.type]}.{name}": f"transform_param.{name}" for name in stated}
        if not lines.keys().isdisjoint(moved):
            set_field_lines(layer.source_info, {moved.get(path, path): line for path, line in lines.items()})
    return lifted


def _stated_transforms(layer: pb.V1LayerParameter) -> list[str]:
    if layer.type not in _DATA_PARAMS:
        return []
    data_param: Any = getattr(layer, _DATA_PARAMS[layer.type])
    return [name for name in _TRANSFORMS if data_param.HasField(name)]


def needs_v1(net: pb.NetParameter) -> bool:
    return len(net.layers) > 0


def upgrade_v1(net: pb.NetParameter) -> pb.NetParameter:
    """Every V1 layer as current layer. Raises BlobnetError for a net that has current layers as well."""
    if net.layer:
        raise error_at(
            net.layers[0], "the net has both layer (current) and layers (before 2015); write all in one format"
        )
    lifted = pb.NetParameter()
    for field, value in net.ListFields():
        if field.name != "layers":
            assign(lifted, field.name, value)
    lifted.layer.extend(_upgrade_layer(layer) for layer in net.layers)
    return lifted


def _upgrade_layer(old: pb.V1LayerParameter) -> pb.LayerParameter:
    new = pb.LayerParameter(type=TYPES[pb.V1LayerParameter.LayerType.Name(old.type)])
    renamed = {}
    for field, value in old.ListFields():
        if field.name in _OF_PARAM:
            for index, setting in enumerate(value):
                if index == len(new.param):
                    new.param.add()
                name = _OF_PARAM[field.name]
                setattr(new.param[index], name, setting)
                renamed[element(field.name, index)] = f"{element('param', index)}.{name}"
        elif field.name not in ("type", "source_info"):
            assign(new, field.name, value)
    carry_lines(old, new, renamed)
    return new
