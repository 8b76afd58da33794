"""Testing a net: the means of its outputs over batches."""

import numpy as np

from blobnet.errors import BlobnetError
from blobnet.net import Net
from blobnet.solvers.callbacks import Output, TestResult


class Means:
    """Means of a net's loss and outputs over batches, each of which counts with its weight."""

    def __init__(self) -> None:
        self._weight = 0
        self._loss = 0.0
        self._totals: dict[str, np.ndarray] = {}

    def add(self, net: Net, loss: float, weight: int) -> None:
        """Count what the net's latest forward pass has put out."""
        self._weight += weight
        self._loss += weight * loss
        for name in net.outputs:
            data = net.blobs[name].data.astype(np.float64)
            total = self._totals.setdefault(name, np.zeros_like(data))
            if total.shape != data.shape:
                shapes = f"{total.shape} and {data.shape}"
                raise BlobnetError(f'test output "{name}" has shapes {shapes} in two batches, so it has no mean')
            total += weight * data

    def result(self, net: Net, with_loss: bool) -> TestResult:
        means = {name: total / self._weight for name, total in self._totals.items()}
        return TestResult(outputs(net, means), self._loss / self._weight if with_loss else None)


def outputs(net: Net, values: dict[str, np.ndarray]) -> list[Output]:
    """The values of output blobs as numbered outputs."""
    flat = [(name, float(value)) for name, array in values.items() for value in array.flat]
    return [Output(name, index, value, net.loss_weights.get(name, 0.0)) for index, (name, value) in enumerate(flat)]
