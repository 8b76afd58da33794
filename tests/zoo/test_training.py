"""Every net of the zoo can be built in both phases; the small ones learn a batch by heart."""

import numpy as np
import pytest

from blobnet import TEST, TRAIN, solvers, summary, zoo
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize("model", zoo.names())
def test_train_val_is_a_net_in_both_phases(model, phase):
    stages = ["test-on-test"] if model == "mnist_autoencoder" and phase == TEST else []
    found = summary.summarize(zoo.folder(model) / "train_val.prototxt", phase, stages=stages)
    if phase == TRAIN:
        assert {"SoftmaxWithLoss", "SigmoidCrossEntropyLoss", "ContrastiveLoss"} & {row.type for row in found.rows}
    assert found.parameters >= summary.summarize(zoo.folder(model) / "deploy.prototxt").parameters


IMAGES = {"data": (RANDOM.normal(0, 1, (4, 3, 32, 32)), 60), "label": ([0, 1, 2, 3], 1)}
SCALED = {"data": (RANDOM.normal(0, 1, (4, 3, 32, 32)), 1), "label": ([0, 1, 2, 3], 1)}
CODES = RANDOM.integers(0, 65, (9, 2))
BATCHES = {
    "cifar10_quick": IMAGES,
    "cifar10_full": IMAGES,
    "cifar10_vgg": SCALED,
    "resnet20": SCALED,
    "preresnet20": SCALED,
    "mnist_autoencoder": {"data": (RANDOM.random((2, 1, 28, 28)) < 0.2, 1)},
    "mnist_siamese": {"pair_data": (RANDOM.random((4, 2, 28, 28)), 1), "sim": ([0, 1, 0, 1], 1)},
    "char_rnn": {
        "data": (CODES[:-1], 1),
        "label": (CODES[1:], 1),
        "cont": (np.sign(np.arange(16) // 2).reshape(8, 2), 1),
    },
}
BATCHES["char_lstm"] = BATCHES["char_rnn"]
RATES = {"cifar10_quick": 0.002, "cifar10_full": 0.002, "char_rnn": 0.01, "char_lstm": 0.01}


@pytest.mark.parametrize("model", sorted(BATCHES))
def test_small_nets_learn_a_batch(model):
    batch = {name: np.asarray(values, np.float32) * scale for name, (values, scale) in BATCHES[model].items()}
    net = text.read(zoo.folder(model) / "train_val.prototxt", pb.NetParameter())
    inputs = pb.LayerParameter(name="batch", type="Input", top=batch)
    inputs.input_param.shape.extend(pb.BlobShape(dim=values.shape) for values in batch.values())
    layers = [layer for layer in net.layer if layer.bottom and layer.type != "Dropout"]
    recipe = pb.SolverParameter(
        net_param=pb.NetParameter(layer=[inputs, *layers]),
        type="Adam",
        base_lr=RATES.get(model, 0.001),
        momentum=0.9,
        lr_policy="fixed",
        max_iter=40,
        random_seed=2,
        snapshot_after_train=False,
    )
    solver = solvers.create(recipe)
    for name, values in batch.items():
        solver.net.blobs[name].data[...] = values
    first = solver.net.forward_backward()
    weights = [layer.blobs[0] for layer in solver.net.layers if layer.blobs and layer.type != "BatchNorm"]
    assert all(np.any(blob.diff) for blob in weights)
    solver.step(40)
    assert solver.net.forward_from_to(0, len(solver.net.layers) - 1) < first / 2
