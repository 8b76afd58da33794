"""Draw the losses and the test accuracy of a training log. Needs matplotlib.

python docs/plot_training.py zoo/lenet/training.log zoo/lenet/training.svg
"""

import sys

import matplotlib
from matplotlib import pyplot

from blobnet.tools.parse_log import Row, parse_log


def main(log: str, picture: str) -> None:
    train, test = parse_log(log)
    trained = [row for row in test if row["NumIters"] > 0]
    matplotlib.rcParams["svg.hashsalt"] = "blobnet"
    panels = 1 + ("accuracy" in test[0])
    figure, axes = pyplot.subplots(1, panels, figsize=(4.5 * panels, 3.2), layout="constrained", squeeze=False)
    losses = axes[0, 0]
    _draw(losses, train, "loss", label="training batch", color="tab:orange")
    _draw(losses, trained, "loss", label="test set", color="tab:blue")
    losses.set(title="loss", yscale="log")
    losses.legend()
    if panels == 2:
        _draw(axes[0, 1], trained, "accuracy", label="test set", color="tab:blue")
        axes[0, 1].set_title("test accuracy")
    figure.savefig(picture, metadata={"Date": None})


def _draw(axes: pyplot.Axes, rows: list[Row], output: str, label: str, color: str) -> None:
    axes.plot([row["NumIters"] for row in rows], [row[output] for row in rows], label=label, color=color, linewidth=1)
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    main(*sys.argv[1:])
