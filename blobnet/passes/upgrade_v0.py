"""Nets written before 2014: ``layers { layer { type: "conv" ... } }``, padding as a layer of its own.

A V0 layer holds the parameters of every type in one message; here each goes to the message of its type.
"""

import logging

from blobnet.errors import did_you_mean, error_at, field_lines, set_field_lines
from blobnet.passes.fields import assign, carry_lines
from blobnet.proto import blobnet_pb2 as pb

TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}

_OF_EVERY_TYPE = {
    "name": "name",
    "type": "type",
    "blobs": "blobs",
    "blobs_lr": "blobs_lr",
    "weight_decay": "weight_decay",
    "scale": "transform_param.scale",
    "meanfile": "transform_param.mean_file",
    "cropsize": "transform_param.crop_size",
    "mirror": "transform_param.mirror",
}
_OF_TYPE = {
    "concat": {"concat_dim": "concat_param.concat_dim"},
    "conv": {
        "num_output": "convolution_param.num_output",
        "biasterm": "convolution_param.bias_term",
        "weight_filler": "convolution_param.weight_filler",
        "bias_filler": "convolution_param.bias_filler",
        "pad": "convolution_param.pad",
        "kernelsize": "convolution_param.kernel_size",
        "group": "convolution_param.group",
        "stride": "convolution_param.stride",
    },
    "data": {
        "source": "data_param.source",
        "batchsize": "data_param.batch_size",
        "rand_skip": "data_param.rand_skip",
    },
    "dropout": {"dropout_ratio": "dropout_param.dropout_ratio"},
    "hdf5_data": {"source": "hdf5_data_param.source", "batchsize": "hdf5_data_param.batch_size"},
    "hdf5_output": {"hdf5_output_param": "hdf5_output_param"},
    "images": {
        "source": "image_data_param.source",
        "batchsize": "image_data_param.batch_size",
        "rand_skip": "image_data_param.rand_skip",
        "shuffle_images": "image_data_param.shuffle",
        "new_height": "image_data_param.new_height",
        "new_width": "image_data_param.new_width",
    },
    "infogain_loss": {"source": "infogain_loss_param.source"},
    "innerproduct": {
        "num_output": "inner_product_param.num_output",
        "biasterm": "inner_product_param.bias_term",
        "weight_filler": "inner_product_param.weight_filler",
        "bias_filler": "inner_product_param.bias_filler",
    },
    "lrn": {
        "local_size": "lrn_param.local_size",
        "alpha": "lrn_param.alpha",
        "beta": "lrn_param.beta",
        "k": "lrn_param.k",
    },
    "pool": {
        "pool": "pooling_param.pool",
        "pad": "pooling_param.pad",
        "kernelsize": "pooling_param.kernel_size",
        "stride": "pooling_param.stride",
    },
    "window_data": {
        "source": "window_data_param.source",
        "batchsize": "window_data_param.batch_size",
        "det_fg_threshold": "window_data_param.fg_threshold",
        "det_bg_threshold": "window_data_param.bg_threshold",
        "det_fg_fraction": "window_data_param.fg_fraction",
        "det_context_pad": "window_data_param.context_pad",
        "det_crop_mode": "window_data_param.crop_mode",
    },
}

_logger = logging.getLogger("blobnet")


def needs_v0(net: pb.NetParameter) -> bool:
    return any(layer.HasField("layer") for layer in net.layers)


def upgrade_v0(net: pb.NetParameter) -> pb.NetParameter:
    """Every V0 layer as V1 layer, and padding layers as ``pad`` of the convolutions and poolings that read them.

    Raises BlobnetError for a net of mixed versions, an unknown type, and padding that cannot be folded.
    """
    lifted = pb.NetParameter()
    lifted.CopyFrom(net)
    del lifted.layers[:]
    paddings: dict[str, pb.V1LayerParameter] = {}
    for layer in net.layers:
        _require_pure(layer)
        read = [paddings[bottom] for bottom in layer.bottom if bottom in paddings]
        is_padding = layer.layer.type == "padding"
        if not is_padding:
            lifted.layers.append(_upgrade_layer(_fold_padding(layer, read[0]) if read else layer))
        elif read:
            raise error_at(layer.layer, "a padding layer cannot read another one; write one with the sum of both")
        for top in layer.top:
            paddings.pop(top, None)
            if is_padding:
                paddings[top] = layer
    return lifted


def _require_pure(layer: pb.V1LayerParameter) -> None:
    beside = {field.name for field, _ in layer.ListFields()} - {"layer", "bottom", "top", "source_info"}
    if not layer.HasField("layer"):
        raise error_at(layer, "other layers of this net have the form layers { layer { ... } }; write all in one form")
    if beside:
        raise error_at(layer.layer, f"{', '.join(sorted(beside))} must stand inside of layer {{ ... }}")


def _fold_padding(layer: pb.V1LayerParameter, padding: pb.V1LayerParameter) -> pb.V1LayerParameter:
    """The layer, reading what its padding layer reads."""
    if layer.layer.type not in ("conv", "pool"):
        text = f'only conv and pool layers may read the padding layer "{padding.layer.name}"'
        raise error_at(layer.layer, f"{text}; this is {layer.layer.type}", "type")
    if len(layer.bottom) != 1:
        raise error_at(layer.layer, f"a layer that reads a padding layer has one bottom; got {len(layer.bottom)}")
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        count = f"{len(padding.bottom)} bottoms and {len(padding.top)} tops"
        raise error_at(padding.layer, f"a padding layer has one bottom and one top; got {count}")
    folded = pb.V1LayerParameter()
    folded.CopyFrom(layer)
    folded.layer.pad = padding.layer.pad
    folded.bottom[0] = padding.bottom[0]
    return folded


def _upgrade_layer(layer: pb.V1LayerParameter) -> pb.V1LayerParameter:
    old = layer.layer
    if old.type not in TYPES:
        hint = did_you_mean(old.type, TYPES)
        raise error_at(old, f'unknown layer type "{old.type}"{hint}; known: {", ".join(TYPES)}', "type")
    paths = _OF_EVERY_TYPE | _OF_TYPE.get(old.type, {})
    new = pb.V1LayerParameter(bottom=layer.bottom, top=layer.top, type=TYPES[old.type])
    for field, value in old.ListFields():
        if field.name in paths and field.name != "type":
            assign(new, paths[field.name], value)
        elif field.name not in ("type", "source_info"):
            _logger.warning("%s", error_at(old, f"{field.name} has no effect on this type", field.name))
    carry_lines(old, new, paths)
    if layer.HasField("source_info"):
        set_field_lines(new.source_info, field_lines(new.source_info.fields) | field_lines(layer.source_info.fields))
    return new
