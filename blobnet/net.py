"""Net: a thin owner of layers, blobs and the plan by which they run.

Construction walks the passes (upgrade, phases, splits), builds each layer in order and connects it by blob names,
then plans sharing and the backward pass. ``walk`` runs what is built.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import blobnet.layers  # noqa: F401  (registers every layer type)
from blobnet import collector, trained
from blobnet.blob import Blob
from blobnet.budget import Budget
from blobnet.context import Context
from blobnet.errors import BlobnetError, did_you_mean, error_at
from blobnet.io import blob_proto
from blobnet.io import weights as weights_files
from blobnet.layers.base import Layer
from blobnet.layers.registry import create_layer
from blobnet.passes import gradients, phases, sharing, splits, upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.streams import new_seed
from blobnet.trained import LoadReport, Weights
from blobnet.walk import Walk, WeightedTop

Hook = Callable[["Net", int], None]


class Net:
    """A network built for one state (phase, level, stages).

    param            a NetParameter, or the path of a prototxt
    phase            blobnet.TRAIN or blobnet.TEST
    weights          path of a caffemodel (binary or HDF5), several joined by commas, or {layer name: arrays}
    seed             of every random stream; fresh when left out
    dtype            float32, or float64 for gradient checks
    folder           where files named in the prototxt are looked up besides the working folder
    allowed_modules  the Python modules that ``type: "Python"`` layers may come from
    untrusted        the prototxt must not leave its folder: no files outside it, no devices, no Python layers
    budget           what the net and others may take together; one of its own when left out

    Its blobs must fit into ``config.max_memory``; what does not is refused before memory is taken.
    """

    @collector.paused()
    def __init__(
        self,
        param: pb.NetParameter | str | Path,
        phase: pb.Phase,
        *,
        level: int = 0,
        stages: Sequence[str] = (),
        weights: Weights | None = None,
        seed: int | None = None,
        dtype=np.float32,
        folder: str | Path | None = None,
        allowed_modules: Sequence[str] = (),
        untrusted: bool = False,
        budget: Budget | None = None,
    ):
        if not isinstance(param, pb.NetParameter):
            folder = folder or Path(param).parent
            param = upgrade.upgrade_net(text.read(param, pb.NetParameter()), str(param))
        else:
            param = upgrade.upgrade_net(param)
        self.context = Context(
            phase=phase,
            dtype=np.dtype(dtype),
            seed=new_seed() if seed is None else seed,
            folder=Path(folder) if folder is not None else None,
            allowed_modules=frozenset(allowed_modules),
            untrusted=untrusted,
            budget=budget or Budget(),
        )
        state = pb.NetState(phase=phase, level=level, stage=stages)
        self.param = splits.insert_splits(phases.connected_net(param, state))
        self.name = self.param.name
        self.phase = phase

        self.layers: list[Layer] = []
        self._namesakes: Counter[str] = Counter()
        self.bottoms: list[list[Blob]] = []
        self.tops: list[list[Blob]] = []
        self.blobs: dict[str, Blob] = {}
        self.inputs: list[str] = []
        self.loss_weights: dict[str, float] = {}
        self._losses: list[list[WeightedTop]] = []
        self.before_forward: list[Hook] = []
        self.after_forward: list[Hook] = []
        self.before_backward: list[Hook] = []
        self.after_backward: list[Hook] = []

        for layer_param in self.param.layer:
            self._append_layer(layer_param)
        unread: set[str] = set()
        for layer_param in self.param.layer:
            unread.difference_update(layer_param.bottom)
            unread.update(layer_param.top)
        self.outputs = sorted(unread)
        self._share_params()
        self._plan_backward()
        self._walk = Walk(self, self._losses)
        self.frozen = False
        if weights is not None:
            self.copy_trained_layers_from(weights)

    # Construction

    def _append_layer(self, param: pb.LayerParameter) -> None:
        if not param.HasField("phase"):
            param.phase = self.phase
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            raise error_at(
                param,
                f"propagate_down must be left out or given once a bottom; got {len(param.propagate_down)} "
                f"for {len(param.bottom)} bottoms",
                "propagate_down",
            )
        same_phase = param.phase == self.phase
        layer = create_layer(
            param, self.context if same_phase else dataclasses.replace(self.context, phase=param.phase)
        )
        namesakes = self._namesakes[layer.name]
        self._namesakes[layer.name] += 1
        if namesakes:
            layer.stream = self.context.stream(f"{layer.name}#{namesakes}")
        bottom = [self.blobs[name] for name in param.bottom]
        least_tops = layer.tops[0] if layer.automatic_tops else 0
        top = [self._top_blob(layer, index) for index in range(max(len(param.top), least_tops))]
        layer.check_arity(len(bottom), len(top))
        try:
            layer.setup(bottom, top)
            layer.reshape(bottom, top)
        except (MemoryError, ValueError) as error:  # ValueError: numpy, of arrays beyond the address space
            layer.fail(f"its blobs do not fit into memory: {error}")
        layer.charge_tops(bottom, top)
        self.layers.append(layer)
        self.bottoms.append(bottom)
        self.tops.append(top)
        self._losses.append(self._weigh_losses(layer, top))
        if layer.type == "Input":
            self.inputs.extend(param.top)

    def _top_blob(self, layer: Layer, index: int) -> Blob:
        param = layer.param
        name = param.top[index] if index < len(param.top) else "(automatic)"
        if index < len(param.bottom) and name == param.bottom[index]:
            layer.require(
                layer.in_place,
                f'{layer.type} cannot work in place: give its top another name than its bottom "{name}"',
                "top",
            )
            return self.blobs[name]
        layer.require(
            name not in self.blobs or index >= len(param.top),
            f'top "{name}" is made by an earlier layer already; choose another name',
            "top",
        )
        blob = self.blobs[name] = Blob(dtype=self.context.dtype, name=name)
        return blob

    def _weigh_losses(self, layer: Layer, top: Sequence[Blob]) -> list[WeightedTop]:
        stated = layer.param.loss_weight
        if stated:
            layer.require(
                len(stated) == len(top),
                f"loss_weight must be left out or given once a top; got {len(stated)} for {len(top)} tops",
                "loss_weight",
            )
        elif layer.loss:
            stated.extend([1.0] + [0.0] * (len(top) - 1))
        for blob, weight in zip(top, stated, strict=False):
            if weight:
                layer.charge((blob.name, "diff"), blob.count)
        weighted = [WeightedTop(blob, weight) for blob, weight in zip(top, stated, strict=False) if weight]
        self.loss_weights.update((loss.blob.name, loss.weight) for loss in weighted)
        return weighted

    def _share_params(self) -> None:
        uses = []
        for index, layer in enumerate(self.layers):
            layer.require(
                len(layer.param.param) <= len(layer.blobs),
                f"{len(layer.param.param)} param messages are given, but the layer learns {len(layer.blobs)} blobs",
                f"param[{len(layer.blobs)}]",
            )
            uses += [
                sharing.ParamUse(index, position, layer.param, blob.shape) for position, blob in enumerate(layer.blobs)
            ]
        self.learnables = sharing.plan_sharing(uses)
        self.learnable_params: list[Blob] = []
        for learnable in self.learnables:
            owner = self._param_blob(learnable.owner)
            self.learnable_params.append(owner)
            for sharer in learnable.sharers:
                self._param_blob(sharer).share_data(owner)
                self._param_blob(sharer).share_diff(owner)

    def _param_blob(self, use: sharing.ParamUse) -> Blob:
        return self.layers[use.layer_index].blobs[use.param_index]

    def _plan_backward(self) -> None:
        facts = []
        for layer, bottom, top, losses in zip(self.layers, self.bottoms, self.tops, self._losses, strict=True):
            weighted = [loss.blob for loss in losses]
            rates = [sharing.param_spec(layer.param, position).lr_mult for position in range(len(layer.blobs))]
            layer.param_propagate_down[:] = [self.param.force_backward or rate != 0 for rate in rates]
            facts.append(
                gradients.LayerFacts(
                    bottoms=[blob.name for blob in bottom],
                    tops=[blob.name for blob in top],
                    propagate_down=layer.param.propagate_down,
                    learns=any(rate != 0 for rate in rates),
                    is_loss=[blob in weighted for blob in top],
                    can_backward=[layer.has_backward(index) for index in range(len(bottom))],
                )
            )
        plan = gradients.plan_backward(facts, self.param.force_backward)
        self.layer_need_backward = plan.layers
        self.bottom_need_backward = plan.bottoms

    def fuse(self, lean: bool = False) -> None:
        """Plan which neighbours run as one. ``lean``: the blobs between them, and their diffs, need not be there."""
        self._walk.fuse(lean)

    def predict_only(self) -> None:
        """Plan no backward pass, so that no layer keeps anything for it."""
        self.layer_need_backward = [False] * len(self.layers)
        self.bottom_need_backward = [[False] * len(bottom) for bottom in self.bottoms]

    def freeze(self) -> None:
        """Only predict from now on, with the weights as they are.

        BatchNorm and Scale are folded into the convolutions before them, and filters are kept in the order that the
        kernels read: predictions differ from those of the layers one by one by rounding. The blobs between layers
        that run as one are not made, nor those that are written where Concat has them, and leave ``blobs``. Whoever
        writes to weights afterwards freezes the net again.
        """
        self.predict_only()
        self._walk.fuse(lean=True, frozen=True)
        self.frozen = True
        self.blobs = {name: blob for name, blob in self.blobs.items() if name not in self.hidden | self.placed}

    # What there is

    @property
    def steps(self) -> list[range]:
        """The indices of the layers in the order that they run; neighbours that run as one are one step."""
        return self._walk.steps()

    @property
    def hidden(self) -> set[str]:
        """The names of the blobs between layers that run as one, which a lean or frozen net does not make."""
        return self._walk.hidden()

    @property
    def placed(self) -> set[str]:
        """The names of the blobs that have no data but in the tops of Concats, in a lean or frozen net."""
        return self._walk.placed()

    @property
    def overwritten(self) -> list[tuple[Blob, Blob]]:
        """Pairs of blobs: layers that run as one may write the second's diff over the first's."""
        return self._walk.overwritten()

    @property
    def joined(self) -> dict[int, list[Blob]]:
        """By the index of a Concat: the bottoms whose diffs their makers read in that of the top."""
        return self._walk.joined()

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def params(self) -> dict[str, list[Blob]]:
        """The learnable blobs of each layer that has some."""
        return {layer.name: layer.blobs for layer in self.layers if layer.blobs}

    @property
    def params_lr(self) -> list[float]:
        """lr_mult of each learnable blob (ParamSpec.lr_mult, default 1)."""
        return [1.0 if learnable.lr_mult is None else learnable.lr_mult for learnable in self.learnables]

    @property
    def params_weight_decay(self) -> list[float]:
        """decay_mult of each learnable blob (ParamSpec.decay_mult, default 1)."""
        return [1.0 if learnable.decay_mult is None else learnable.decay_mult for learnable in self.learnables]

    @property
    def memory_required(self) -> int:
        """Bytes of the data of all tops; in-place tops count each time, as in Caffe's log."""
        return sum(blob.count for top in self.tops for blob in top) * self.context.dtype.itemsize

    def layer_index(self, name: str) -> int:
        names = self.layer_names
        if name not in names:
            raise BlobnetError(f'the net has no layer "{name}"{did_you_mean(name, names)}')
        return names.index(name)

    # Running

    def __call__(self, *arrays: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Feed the inputs in order, run forward, and return copies of the outputs (alone when there is one)."""
        if len(arrays) != len(self.inputs):
            raise BlobnetError(f"the net has {len(self.inputs)} inputs {self.inputs}; got {len(arrays)} arrays")
        for name, array in zip(self.inputs, arrays, strict=True):
            self.set_input(name, array)
        self.forward()
        outputs = [self.blobs[name].data.copy() for name in self.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    def forward(
        self, start: str | None = None, end: str | None = None, blobs: Sequence[str] = (), **inputs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run from layer ``start`` to layer ``end`` (both included; the whole net when left out).

        inputs   arrays for input blobs, by name; a blob takes the shape of its array
        blobs    names of blobs to return besides the outputs
        Returns {blob name: live view of its data} for the net's outputs, or the tops of ``end``.
        """
        for name, array in inputs.items():
            self.set_input(name, array)
        first = 0 if start is None else self.layer_index(start)
        last = len(self.layers) - 1 if end is None else self.layer_index(end)
        self.forward_from_to(first, last)
        names = self.outputs if end is None else [blob.name for blob in self.tops[last]]
        return {name: self._blob(name).data for name in [*names, *blobs]}

    def backward(
        self, start: str | None = None, end: str | None = None, diffs: Sequence[str] = (), **top_diffs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Run backward from layer ``start`` down to layer ``end`` (the whole net when left out).

        top_diffs  gradients to set first, by blob name
        diffs      names of blobs whose gradient to return besides those of the inputs
        Returns {blob name: live view of its diff} for the net's inputs, or the bottoms of ``end``.
        """
        for name, array in top_diffs.items():
            self._blob(name).diff[...] = array
        first = len(self.layers) - 1 if start is None else self.layer_index(start)
        last = 0 if end is None else self.layer_index(end)
        self.backward_from_to(first, last)
        names = self.inputs if end is None else [blob.name for blob in self.bottoms[last]]
        return {name: self._blob(name).diff for name in [*names, *diffs]}

    def set_input(self, name: str, array: np.ndarray) -> None:
        blob, array = self._blob(name), np.asarray(array)
        blob.reshape(*array.shape)
        blob.data[...] = array

    def forward_from_to(self, first: int, last: int) -> float:
        """Run layers first to last; returns the loss: the sum of data times diff over all tops with a loss weight.

        The diff of such a top is its loss weight, unless a caller has put something else there.
        """
        return self._walk.forward(first, last)

    def backward_from_to(self, first: int, last: int) -> None:
        """Run the backward passes of layers first down to last, those that the plan needs."""
        self._walk.backward(first, last)

    def forward_backward(self) -> float:
        loss = self.forward_from_to(0, len(self.layers) - 1)
        self.backward_from_to(len(self.layers) - 1, 0)
        return loss

    def reshape(self) -> None:
        """Carry the present shapes of the inputs through all layers."""
        for index in range(len(self.layers)):
            self._walk.reshape(index)

    def clear_param_diffs(self) -> None:
        for blob in self.learnable_params:
            blob.clear_diff()

    def _blob(self, name: str) -> Blob:
        if name not in self.blobs:
            if any(name in layer.top for layer in self.param.layer):
                raise BlobnetError(f'blob "{name}" is not made: the net is frozen, and layers around it run as one')
            raise BlobnetError(f'the net has no blob "{name}"{did_you_mean(name, self.blobs)}')
        return self.blobs[name]

    # Weights and state

    def copy_trained_layers_from(self, source: Weights) -> LoadReport:
        """Copy weights into the layers of the same name; see ``trained.copy_layers``."""
        sharers = {self._param_blob(use) for learnable in self.learnables for use in learnable.sharers}
        report = trained.copy_layers(self.layers, source, sharers)
        if self.frozen:
            self.freeze()
        return report

    def share_trained_layers_with(self, other: "Net") -> None:
        """Use the learnable blobs of the other net's layers of the same names, instead of own ones."""
        trained.share_layers(self.layers, other.layers)
        if self.frozen:
            self.freeze()

    def to_proto(self, write_diff: bool = False) -> pb.NetParameter:
        """The net as a caffemodel holds it: every layer (splits too) with its learnable blobs."""
        param = pb.NetParameter(name=self.name)
        for layer in self.layers:
            copy = param.layer.add()
            copy.CopyFrom(layer.param)
            copy.blobs.extend(
                blob_proto.from_array(blob.data, blob.gradient if write_diff else None) for blob in layer.blobs
            )
        return text.strip_source_info(param)

    def owned_blobs(self) -> list[tuple[str, list[np.ndarray | None]]]:
        """Name and learnable blobs of each layer; None stands for a blob that another layer owns."""
        shared = {self._param_blob(use) for learnable in self.learnables for use in learnable.sharers}
        return [(layer.name, [None if blob in shared else blob.data for blob in layer.blobs]) for layer in self.layers]

    def save(self, path: str | Path) -> None:
        """Write the weights: HDF5 where the path ends in .h5, safetensors in .safetensors, else a caffemodel."""
        if Path(path).suffix in (".h5", ".safetensors"):
            weights_files.write_weights(path, self.name, self.owned_blobs())
        else:
            weights_files.write_caffemodel(path, self.to_proto())

    def state(self) -> list[dict[str, Any]]:
        """What a snapshot holds besides the weights, layer by layer."""
        return [layer.state() for layer in self.layers]

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        for layer, state in zip(self.layers, states, strict=True):
            layer.restore(state)
