"""Draw the test accuracy and the loss of a training log. Needs matplotlib.

python docs/plot_training.py zoo/lenet/training.log docs/lenet-training.svg
"""

import re
import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot

TRAIN_LOSS = re.compile(r"Iteration (\d+).*, loss = (\S+)")
TEST = re.compile(r"Iteration (\d+), Testing net \(#0\)\n.*Test net output #0: accuracy = (\S+)")


def main(log: str, picture: str) -> None:
    text = Path(log).read_text(encoding="utf-8")
    matplotlib.rcParams["svg.hashsalt"] = "blobnet"
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    _draw(left, TRAIN_LOSS.findall(text), "training loss", "tab:orange")
    left.set_yscale("log")
    _draw(right, TEST.findall(text), "test accuracy", "tab:blue")
    right.set_ylim(0.95, 1.0)
    figure.savefig(picture, metadata={"Date": None})


def _draw(axes: pyplot.Axes, points: list[tuple[str, str]], label: str, color: str) -> None:
    axes.plot([int(iteration) for iteration, _ in points], [float(value) for _, value in points], color=color)
    axes.set_xlabel("iteration")
    axes.set_title(label)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    main(*sys.argv[1:])
