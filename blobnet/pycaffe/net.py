"""Net with pycaffe's names, arguments, returned types and orders: a thin layer over ``blobnet.Net``."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import cast

import numpy as np

import blobnet.net
from blobnet import snapshot
from blobnet.blob import Blob
from blobnet.context import ANY_MODULE
from blobnet.errors import BlobnetError, did_you_mean
from blobnet.io import weights as weights_files
from blobnet.layers.data_memory import MemoryData
from blobnet.layers.python import UserCodeError
from blobnet.proto import blobnet_pb2 as pb

Arrays = dict[str, np.ndarray]


class BlobVec(list[Blob]):
    """The learnable blobs of one layer."""


class Net:
    """A network from a prototxt file.

    Net(network_file, phase, level=0, stages=None, weights=None), or in the old order Net(network_file, weights, phase).
    Python layers may come from any module: who runs a Python program lets it run Python.
    """

    def __init__(
        self,
        network_file: str,
        phase: pb.Phase | str,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | None = None,
    ):
        if isinstance(phase, str):
            weights, phase, level = phase, cast(pb.Phase, level), 0
        with user_errors():
            net = blobnet.net.Net(
                str(network_file),
                phase,
                level=level,
                stages=stages or (),
                weights=weights,
                allowed_modules=[ANY_MODULE],
            )
        self._net = net

    @classmethod
    def around(cls, net: blobnet.net.Net) -> "Net":
        """The same net under pycaffe's names."""
        self = cls.__new__(cls)
        self._net = net
        return self

    # What there is

    @cached_property
    def blobs(self) -> OrderedDict[str, Blob]:
        return OrderedDict(self._net.blobs)

    @cached_property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        return OrderedDict((name, self._net.loss_weights.get(name, 0.0)) for name in self.blobs)

    @cached_property
    def params(self) -> OrderedDict[str, BlobVec]:
        """The learnable blobs of each layer that has some."""
        return OrderedDict((layer.name, BlobVec(layer.blobs)) for layer in self._net.layers if layer.blobs)

    @cached_property
    def layers(self) -> list:
        """The layers, each with ``type`` and ``blobs``; for a Python layer the object of the user's class."""
        return [getattr(layer, "user", layer) for layer in self._net.layers]

    @cached_property
    def layer_dict(self) -> OrderedDict:
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @cached_property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return self._names(self._net.bottoms)

    @cached_property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return self._names(self._net.tops)

    def _names(self, blobs_of_layers: list[list[Blob]]) -> OrderedDict[str, list[str]]:
        named = zip(self._layer_names, blobs_of_layers, strict=True)
        return OrderedDict((layer, [blob.name for blob in blobs]) for layer, blobs in named)

    @property
    def inputs(self) -> list[str]:
        return list(self._net.inputs)

    @property
    def outputs(self) -> list[str]:
        return list(self._net.outputs)

    # Running

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: np.ndarray,
    ) -> Arrays:
        """Run from layer ``start`` to layer ``end``, both included.

        inputs  data for all of the net's inputs, of their present shapes
        Returns {blob name: live view} of the net's outputs, or the tops of ``end``, and of ``blobs``.
        """
        first = 0 if start is None else self._layer_index(start)
        last = len(self.layers) - 1 if end is None else self._layer_index(end)
        if inputs:
            self._set(inputs, self.inputs, "data", "inputs")
        self._forward(first, last)
        names = self.outputs if end is None else self.top_names[end]
        return {name: self.blobs[name].data for name in [*names, *(blobs or ())]}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **top_diffs: np.ndarray,
    ) -> Arrays:
        """Run backward from layer ``start`` down to layer ``end``, both included.

        top_diffs  gradients of all of the net's outputs
        Returns {blob name: live view of its diff} for the net's inputs, or the bottoms of ``end``, and for ``diffs``.
        """
        first = len(self.layers) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        if top_diffs:
            self._set(top_diffs, self.outputs, "diff", "outputs")
        self._backward(first, last)
        names = self.inputs if end is None else self.bottom_names[end]
        return {name: self.blobs[name].diff for name in [*names, *(diffs or ())]}

    def _forward(self, first: int, last: int) -> float:
        """Run layers first to last, by index; returns the loss."""
        with user_errors():
            return self._net.forward_from_to(first, last)

    def _backward(self, first: int, last: int) -> None:
        with user_errors():
            self._net.backward_from_to(first, last)

    def _layer_index(self, name: str) -> int:
        if name not in self._layer_names:
            raise ValueError(f'the net has no layer "{name}"{did_you_mean(name, self._layer_names)}')
        return self._layer_names.index(name)

    def _set(self, arrays: Mapping[str, np.ndarray], names: Sequence[str], part: str, kind: str) -> None:
        if set(arrays) != set(names):
            raise BlobnetError(f"{part} must be given for all of the net's {kind}, {names}; got {sorted(arrays)}")
        for name, array in arrays.items():
            target = getattr(self.blobs[name], part)
            shape = np.shape(array)
            if shape[:1] != target.shape[:1]:
                raise BlobnetError(
                    f'the {part} given for "{name}" must hold a batch, shape {target.shape}; got shape {shape}'
                )
            try:
                target[...] = array
            except ValueError as error:
                raise ValueError(f'the {part} of "{name}" has shape {target.shape}; got shape {shape}') from error

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> Arrays:
        """Run forward over any number of items, batch by batch; the last batch is filled up with zeros.

        Returns {blob name: array} of the net's outputs and of ``blobs``, for all items.
        """
        count = _item_count(inputs)
        batches = [_copies(self.forward(blobs, None, None, **batch)) for batch in self._batch(inputs)]
        return _joined(batches, count)

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **arrays: np.ndarray
    ) -> tuple[Arrays, Arrays]:
        """Run forward and backward over any number of items, batch by batch.

        arrays  data of the net's inputs and diffs of its outputs, by name
        Returns the arrays as ``forward_all`` does, and {blob name: diffs} of the net's inputs and of ``diffs``.
        """
        items = _item_count(arrays)
        input_batches = list(self._batch({name: arrays[name] for name in self.inputs if name in arrays}))
        diff_batches = list(self._batch({name: arrays[name] for name in self.outputs if name in arrays}))
        found, found_diffs = [], []
        for index in range(max(len(input_batches), len(diff_batches))):
            found.append(_copies(self.forward(blobs, None, None, **_at(input_batches, index))))
            found_diffs.append(_copies(self.backward(diffs, None, None, **_at(diff_batches, index))))
        return _joined(found, items), _joined(found_diffs, items)

    def _batch(self, arrays: Mapping[str, np.ndarray]) -> Iterator[Arrays]:
        """The arrays in batches of the size of the net's first blob."""
        size = next(iter(self.blobs.values())).shape[0]
        for start in range(0, _item_count(arrays) if arrays else 0, size):
            yield {name: _filled_up(np.asarray(array[start : start + size]), size) for name, array in arrays.items()}

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Hand float32 images [n, C, H, W] and labels [n] to the MemoryData layer that the net begins with."""
        layer = self._net.layers[0]
        if not isinstance(layer, MemoryData):
            raise BlobnetError(f"set_input_arrays needs a net that begins with a MemoryData layer, not {layer.type}")
        for name, array in (("data", data), ("labels", labels)):
            if array.dtype != np.float32:
                raise BlobnetError(f"the {name} array must be float32; got {array.dtype}")
        layer.reset(data, labels)

    _set_input_arrays = set_input_arrays

    def before_forward(self, callback: Callable[[int], None]) -> None:
        """Call ``callback(layer index)`` before each layer's forward pass."""
        self._net.before_forward.append(lambda _, index: callback(index))

    def after_forward(self, callback: Callable[[int], None]) -> None:
        self._net.after_forward.append(lambda _, index: callback(index))

    def before_backward(self, callback: Callable[[int], None]) -> None:
        self._net.before_backward.append(lambda _, index: callback(index))

    def after_backward(self, callback: Callable[[int], None]) -> None:
        self._net.after_backward.append(lambda _, index: callback(index))

    def reshape(self) -> None:
        """Carry the present shapes of the inputs through all layers; ``forward`` does so by itself."""
        with user_errors():
            self._net.reshape()

    def clear_param_diffs(self) -> None:
        self._net.clear_param_diffs()

    # Weights

    def copy_from(self, weights: str) -> None:
        """Copy weights into the layers of the same names, from a caffemodel or an HDF5 file."""
        self._net.copy_trained_layers_from(str(weights))

    load_hdf5 = copy_from

    def share_with(self, other: "Net") -> None:
        """Use the other net's weights in the layers of the same names."""
        self._net.share_trained_layers_with(other._net)

    def save(self, filename: str) -> None:
        """Write a caffemodel."""
        weights_files.write_caffemodel(filename, self._net.to_proto())

    def save_hdf5(self, filename: str, write_diff: bool = False) -> None:
        snapshot.write_hdf5_weights(filename, self._net, write_diff)

    # The compiled part of pycaffe, which some programs use

    @cached_property
    def _layer_names(self) -> list[str]:
        return self._net.layer_names

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        return list(self.blob_loss_weights.values())

    @property
    def _inputs(self) -> list[int]:
        return self._blob_ids(self.inputs)

    @property
    def _outputs(self) -> list[int]:
        return self._blob_ids(self.outputs)

    def _bottom_ids(self, layer_index: int) -> list[int]:
        return self._blob_ids([blob.name for blob in self._net.bottoms[layer_index]])

    def _top_ids(self, layer_index: int) -> list[int]:
        return self._blob_ids([blob.name for blob in self._net.tops[layer_index]])

    def _blob_ids(self, names: Sequence[str]) -> list[int]:
        return [self._blob_names.index(name) for name in names]


@contextmanager
def user_errors() -> Iterator[None]:
    """Errors of the user's Python layers come as they were raised, with a note that names the layer."""
    try:
        yield
    except UserCodeError as error:
        error.raised.add_note(str(error))
        raise error.raised from error.raised.__cause__


def _copies(arrays: Arrays) -> Arrays:
    return {name: np.atleast_1d(array).copy() for name, array in arrays.items()}


def _joined(batches: Sequence[Arrays], count: int) -> Arrays:
    """One array of the batches, without what filled up the last."""
    return {name: np.concatenate([batch[name] for batch in batches])[:count] for name in batches[0]}


def _item_count(arrays: Mapping[str, np.ndarray]) -> int:
    if not arrays:
        raise BlobnetError("the arrays of all items must be given by the names of the net's inputs")
    return len(next(iter(arrays.values())))


def _at(batches: Sequence[Arrays], index: int) -> Arrays:
    return batches[index] if index < len(batches) else {}


def _filled_up(batch: np.ndarray, size: int) -> np.ndarray:
    missing = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
    return np.concatenate([batch, missing]) if len(missing) else batch
