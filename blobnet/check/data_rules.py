"""Rules for what the sources of data layers hold."""

import math
from collections.abc import Iterator

from blobnet.check.findings import ERROR, WARNING, Place, rule
from blobnet.check.subjects import DataSubject
from blobnet.errors import element

_CLASSIFIERS = {"SoftmaxWithLoss": "softmax_param", "Accuracy": "accuracy_param"}
_PARAMS = {"Data": "data_param", "ImageData": "image_data_param", "HDF5Data": "hdf5_data_param"}


@rule(DataSubject, ERROR)
def unreadable_example(data: DataSubject) -> Iterator[Place]:
    """An image or record that cannot be read."""
    for fault in data.survey.faults:
        yield data.layer, fault, f"{_PARAMS[data.layer.type]}.source"


@rule(DataSubject, ERROR)
def label_out_of_range(data: DataSubject) -> Iterator[Place]:
    """A label that is no class number of the layer that reads it."""
    if len(data.layer.top) < 2:
        return
    for layer in data.net.layers:
        if layer.type not in _CLASSIFIERS or len(layer.bottom) < 2 or layer.bottom[1] != data.layer.top[1]:
            continue
        param = getattr(layer, _CLASSIFIERS[layer.type])
        shape = data.net.shapes.get(layer.bottom[0], ())
        if not -len(shape) <= param.axis < len(shape):
            continue
        loss = layer.loss_param if layer.type == "SoftmaxWithLoss" else param
        ignored = {loss.ignore_label} if loss.HasField("ignore_label") else set()
        classes = shape[param.axis]
        wrong = [label for label in data.survey.labels if not (0 <= label < classes or label in ignored)]
        if wrong:
            shown = ", ".join(f"{label:g}" for label in wrong[:5])
            text = f'labels must be 0 to {classes - 1} for the {classes} classes of "{layer.bottom[0]}"'
            yield data.layer, f"{text}, which {layer.type} reads; got {shown}", f"{_PARAMS[data.layer.type]}.source"


@rule(DataSubject, WARNING)
def test_iter_coverage(data: DataSubject) -> Iterator[Place]:
    """test_iter batches that are not one pass over the test data."""
    size, examples = getattr(data.layer, _PARAMS[data.layer.type]).batch_size, data.survey.examples
    if data.solver is None or not data.test_iter or not size or data.test_iter * size == examples:
        return
    tested = data.test_iter * size
    fate = f"{tested - examples} are repeats" if tested > examples else f"{examples - tested} are left out"
    text = f"test_iter {data.test_iter} x batch_size {size} = {tested} tests of {examples} examples: {fate}"
    whole = f"{examples // size}" if examples % size == 0 else f"{math.ceil(examples / size)}, or leave test_iter out"
    yield data.solver, f"{text}; set test_iter: {whole}", element("test_iter", data.test_index)
