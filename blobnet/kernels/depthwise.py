"""Convolution where every filter sees one channel (group = channels): there is no matrix to multiply.

A plane of the result is a weighted sum of shifted planes. In the frames of ``patches`` a shift is an offset and
rows follow one another at a fixed distance, so the sum runs over the whole plane in one long loop; what it
yields between the rows is dropped.
"""

import numpy as np

from blobnet.kernels import patches
from blobnet.kernels._jit import jit
from blobnet.kernels.geometry import Geometry
from blobnet.kernels.parallel import parallel_for, scratch
from blobnet.kernels.patches import Frame, Phase

# Elements of a sum that stay in the first cache while all taps are added.
STRETCH = 2048


def forward(x: np.ndarray, w: np.ndarray, y: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """y[n, o] = w[o] * x[n, o // multiplier] + bias[o]."""
    frame, taps, pixels, row = patches.patches(geometry)
    whole = patches.Phase(np.arange(len(taps)), taps, pixels, np.arange(len(pixels)), row, 1)
    _sum_shifted(x, frame, w, whole, y, bias)


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """dx[n, c] = the gradients of its filters' outputs, each turned round."""
    frame, phases = patches.phases(geometry)
    for phase in phases:
        _sum_shifted(dy, frame, w, phase, dx, bias)


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry) -> None:
    """dw[o] += dy[n, o] against each shift of x[n, o // multiplier]. What is not finite must be kept away."""
    frame, taps, pixels, row = patches.patches(geometry)
    work = scratch(frame.size + int(pixels[-1]) + 1, x.dtype)
    parallel_for(multiply_shifted, len(dw), x, frame, dy, taps, pixels, row, dw.reshape(len(dw), -1), scratch=work)


def _sum_shifted(planes, frame: Frame, w, phase: Phase, results, bias) -> None:
    channels, filters = planes.shape[1], results.shape[1]
    each = max(1, channels // filters)  # planes that a result sums
    share = max(1, filters // channels)  # results that read a plane
    bias = np.zeros(filters, results.dtype) if bias is None else bias
    work = scratch(frame.size + int(phase.sources[-1] - phase.sources[0]) + 1, results.dtype)
    parallel_for(
        sum_shifted, len(planes) * filters,
        planes.reshape(-1, planes.shape[2]), frame, w.reshape(len(w), -1), phase,
        results.reshape(-1, results.shape[2]), bias, each, share, grain=8, scratch=work,
    )  # fmt: skip


@jit
def sum_shifted(start, stop, planes, frame, w, phase, results, bias, each, share, work):
    """results[i, targets[p]] = bias + sum over its planes and taps of w[taps[t]] plane[sources[p] + offsets[t]]."""
    filters = len(bias)
    size = len(frame.rows) * frame.extent
    framed, total = work[:size].reshape(1, size), work[size:]
    for item in range(start, stop):
        n, k = divmod(item, filters)
        total[:] = bias[k]
        for j in range(each):
            plane = n * (filters // share * each) + k // share * each + j
            patches.fill_frames(0, 1, planes[plane : plane + 1], frame, framed)
            for first in range(0, len(total), STRETCH):
                stretch = total[first : first + STRETCH]
                add_shifted(framed[0], w[k * each + j], phase, first, stretch)
        for p in range(0, len(phase.targets), phase.row):
            source, target = phase.sources[p] - phase.sources[0], phase.targets[p]
            values = total[source : source + phase.row]
            if phase.step == 1:
                patches.copy(results[item, target : target + phase.row], values)
            else:
                for q in range(len(values)):
                    results[item, target] = values[q]
                    target += phase.step


@jit
def add_shifted(framed, w, phase, first, total):
    """total[q] += sum over taps of w[taps[t]] framed[sources[0] + offsets[t] + first + q]; two taps at a time."""
    base = phase.sources[0] + first
    pairs = len(phase.taps) // 2 * 2
    for t in range(0, pairs, 2):
        a = framed[base + phase.offsets[t] :][: len(total)]
        b = framed[base + phase.offsets[t + 1] :][: len(total)]
        wa, wb = w[phase.taps[t]], w[phase.taps[t + 1]]
        for q in range(len(total)):
            total[q] += wa * a[q] + wb * b[q]
    for t in range(pairs, len(phase.taps)):
        a, wa = framed[base + phase.offsets[t] :][: len(total)], w[phase.taps[t]]
        for q in range(len(total)):
            total[q] += wa * a[q]


@jit
def multiply_shifted(start, stop, x, frame, dy, taps, pixels, row, dw, work):
    """dw[o, t] += sum over n, p of dy[n, o, p] frame[taps[t] + pixels[p]], for the filters start to stop."""
    size = len(frame.rows) * frame.extent
    framed, gradient = work[:size].reshape(1, size), work[size:]
    gradient[:] = 0
    share = dw.shape[0] // x.shape[1]
    for o in range(start, stop):
        c = o // share
        for n in range(len(x)):
            patches.fill_frames(0, 1, x[n, c : c + 1], frame, framed)
            for p in range(0, len(pixels), row):
                patches.copy(gradient[pixels[p] : pixels[p] + row], dy[n, o, p : p + row])
            for t in range(len(taps)):
                shifted = framed[0, taps[t] : taps[t] + len(gradient)]
                total = dw[o, t] * 0
                for q in range(len(gradient)):
                    total += gradient[q] * shifted[q]
                dw[o, t] += total
