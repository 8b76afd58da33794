"""The same seed gives the same bits: two updates of each net of the zoo, on 1, 2 and 4 threads and once more on 1.

    python -m tests.determinism [MODEL ...]

Images are cut to the smallest size that a net takes, and random; a batch has four of them.
"""

import hashlib
import sys
import time

import numpy as np

import blobnet
from blobnet import config, solvers
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text

THREADS = (1, 2, 4, 1)
UPDATES = 2
SEED = 1
BATCH = 4
CLASSES = 2
SIDES = {"googlenet": 224, "alexnet": 67, "caffenet": 67}
IMAGENET_SIDE, MNIST_SIDE, CIFAR_SIDE = 64, 28, 32


class Feed(solvers.Callback):
    """Random images and labels into the Input blobs, other ones in each pass."""

    def __init__(self):
        self.random = np.random.default_rng(0)

    def on_forward(self, solver, net):
        for name in net.inputs:
            blob = net.blobs[name]
            if blob.num_axes == 4:
                blob.data[...] = self.random.random(blob.shape, np.float32)
            else:
                blob.data[...] = self.random.integers(0, CLASSES, blob.shape)


def solver_of(model: str) -> pb.SolverParameter:
    """The solver of a zoo model for its train net, with inputs in the place of its data layers."""
    folder = blobnet.zoo.folder(model)
    param = text.read(folder / "solver.prototxt", pb.SolverParameter())
    net = text.read(folder / "train_val.prototxt", pb.NetParameter())
    channels = {"lenet": 1, "mnist_autoencoder": 1, "mnist_siamese": 2}.get(model, 3)
    for layer in net.layer:
        if layer.type == "Data":
            side = _side(model, layer.transform_param.crop_size, channels)
            layer.type = "Input"
            layer.input_param.shape.add(dim=[BATCH, channels, side, side])
            if len(layer.top) > 1:
                layer.input_param.shape.add(dim=[BATCH])
            layer.ClearField("data_param")
            layer.ClearField("transform_param")
    for field in ("net", "test_iter", "test_interval", "test_state", "snapshot", "snapshot_prefix", "display"):
        param.ClearField(field)
    param.train_net_param.CopyFrom(net)
    param.random_seed = SEED
    return param


def _side(model: str, crop: int, channels: int) -> int:
    if crop > CIFAR_SIDE:
        return SIDES.get(model, IMAGENET_SIDE)
    return crop or (CIFAR_SIDE if channels == 3 else MNIST_SIDE)


def digest(model: str, threads: int) -> str:
    """Of the losses, weights and history after some updates."""
    config.set_threads(threads)
    solver = solvers.create(solver_of(model), callbacks=[Feed()])
    solver.step(UPDATES)
    content = hashlib.sha256(np.array(solver.losses).tobytes())
    for layer in solver.net.layers:
        for blob in layer.blobs:
            content.update(blob.data)
    for history in solver.history:
        content.update(history)
    return content.hexdigest()


def main() -> int:
    failures = 0
    for model in sys.argv[1:] or blobnet.zoo.names():
        began = time.monotonic()
        digests = [digest(model, threads) for threads in THREADS]
        same = len(set(digests)) == 1
        failures += not same
        found = "same bits" if same else f"DIFFER: {[digest[:8] for digest in digests]} on {THREADS} threads"
        print(f"{model}: {found} ({time.monotonic() - began:.1f} s)", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
