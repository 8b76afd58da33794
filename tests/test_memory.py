"""The memory of a training, told beforehand, against what a training then holds."""

import numpy as np
import pytest

from benchmarks import jobs, nets, ours, turns
from blobnet import TRAIN, buffers, config, memory
from blobnet.testing import net_from_text
from tests.test_fused import APART, RESIDUAL, feed


def _memories(blobs, part: str) -> int:
    """Bytes of the memories that the arrays made so far lie in, each once."""
    arrays = [getattr(blob, part) for blob in blobs]
    owners = [array if array.base is None else array.base for array in arrays]
    return sum({id(owner): owner.nbytes for owner in owners}.values())


@pytest.mark.parametrize("prototxt", [RESIDUAL, APART])
def test_buffers_and_kept_arrays_are_those_of_a_net_that_has_run(prototxt):
    told = memory.of_training(net_from_text(prototxt, TRAIN, seed=1), history_count=2)
    net = net_from_text(prototxt, TRAIN, seed=1)
    buffers.make_lean(net, [])
    feed(net).forward_backward()
    made = [blob for name, blob in net.blobs.items() if name not in net.hidden]
    losses = [blob for blob in made if blob.name in net.loss_weights]
    assert told.data == _memories(made, "data")
    assert told.diffs == _memories(
        [blob for blob in net.blobs.values() if blob.diff.any() and blob not in losses], "diff"
    )
    assert told.learned == 4 * sum(blob.data.nbytes for blob in net.learnable_params)
    norms = [layer for layer in net.layers if layer.name in ("bn1", "bn2", "bn3")]
    inputs = [layer.input for layer in norms]
    statistics = [array for layer in norms for array in (layer.mean, layer.variance, layer.factor)]
    in_place = [array for array in inputs if not any(np.may_share_memory(array, blob.data) for blob in made)]
    loss = net.layers[-1]
    of_loss = [loss.probability, loss.classes, loss.parts, loss.scale]
    assert told.kept == sum(array.nbytes for array in (*in_place, *statistics, *of_loss))


@pytest.mark.parametrize(("name", "batch"), [("lenet", 64), ("resnet20", 64)])
def test_the_peak_of_a_process_that_trains(name, batch, tmp_path):
    jobs.write(tmp_path, nets.training(name, batch), TRAIN)
    for _ in range(2):  # the first one compiles
        worker = turns.Worker("blobnet", config.threads())
        worker.hold(ours.Training, tmp_path, 1e-4, 0.9, 5e-4)
        worker.warm_up("step", 0)
        worker.lap("step", 0)
        measured = 1e6 * worker.peak_memory()
        worker.close()
    told = memory.of_training(net_from_text(str(nets.training(name, batch)), TRAIN)).peak
    assert told == pytest.approx(measured, rel=0.1)


def test_work_arrays_grow_with_the_filters_that_winograd_transforms():
    plain = memory.of_training(net_from_text(RESIDUAL, TRAIN))
    wide = memory.of_training(net_from_text(RESIDUAL.replace("num_output: 5", "num_output: 500"), TRAIN))
    weights = np.dtype(np.float32).itemsize * 500 * 500 * 9
    assert wide.work - memory.LEAST_WORK == memory.WORK_OF_A_TRANSFORMED_WEIGHT * weights
    assert plain.peak < wide.peak
