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
from blobnet.kernels.patches import Frame


def forward(x: np.ndarray, w: np.ndarray, y: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """y[n, o] = w[o] * x[n, o // multiplier] + bias[o]."""
    frame, taps, pixels = patches.patches(geometry)
    _sum_shifted(x, frame, w, np.arange(len(taps)), taps, pixels, y, np.arange(len(pixels)), bias)


def backward_data(dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, bias: np.ndarray | None) -> None:
    """dx[n, c] = the gradients of its filters' outputs, each turned round."""
    frame, phases = patches.phases(geometry)
    for phase in phases:
        _sum_shifted(dy, frame, w, phase.taps, phase.offsets, phase.sources, dx, phase.targets, bias)


def backward_weights(x: np.ndarray, dy: np.ndarray, dw: np.ndarray, geometry: Geometry) -> None:
    """dw[o] += dy[n, o] against each shift of x[n, o // multiplier]. What is not finite must be kept away."""
    frame, taps, pixels = patches.patches(geometry)
    work = scratch(frame.size + int(pixels[-1]) + 1, x.dtype)
    parallel_for(multiply_shifted, len(dw), x, frame, dy, taps, pixels, dw.reshape(len(dw), -1), scratch=work)


def _sum_shifted(planes, frame: Frame, w, taps, offsets, sources, results, targets, bias) -> None:
    channels, filters = planes.shape[1], results.shape[1]
    each = max(1, channels // filters)  # planes that a result sums
    share = max(1, filters // channels)  # results that read a plane
    bias = np.zeros(filters, results.dtype) if bias is None else bias
    work = scratch(frame.size + int(sources[-1] - sources[0]) + 1, results.dtype)
    parallel_for(
        sum_shifted, len(planes) * filters,
        planes.reshape(-1, planes.shape[2]), frame, w.reshape(len(w), -1), taps, offsets, sources,
        results.reshape(-1, results.shape[2]), targets, bias, each, share, grain=8, scratch=work,
    )  # fmt: skip


@jit
def sum_shifted(start, stop, planes, frame, w, taps, offsets, sources, results, targets, bias, each, share, work):
    """results[i, targets[p]] = bias + sum over its planes and taps of w[taps[t]] plane[sources[p] + offsets[t]]."""
    filters = len(bias)
    size = len(frame.rows) * frame.extent
    framed = work[:size].reshape(1, size)
    total = work[size:]
    for item in range(start, stop):
        n, k = divmod(item, filters)
        total[:] = bias[k]
        for j in range(each):
            plane = n * (filters // share * each) + k // share * each + j
            patches.fill_frames(0, 1, planes[plane : plane + 1], frame, framed)
            weights = w[k * each + j]
            pairs = len(taps) // 2 * 2
            for t in range(0, pairs, 2):
                first, second = sources[0] + offsets[t], sources[0] + offsets[t + 1]
                a, b = framed[0, first : first + len(total)], framed[0, second : second + len(total)]
                wa, wb = weights[taps[t]], weights[taps[t + 1]]
                for q in range(len(total)):
                    total[q] += wa * a[q] + wb * b[q]
            for t in range(pairs, len(taps)):
                first = sources[0] + offsets[t]
                a, wa = framed[0, first : first + len(total)], weights[taps[t]]
                for q in range(len(total)):
                    total[q] += wa * a[q]
        for p in range(len(targets)):
            results[item, targets[p]] = total[sources[p] - sources[0]]


@jit
def multiply_shifted(start, stop, x, frame, dy, taps, pixels, dw, work):
    """dw[o, t] += sum over n, p of dy[n, o, p] frame[taps[t] + pixels[p]], for the filters start to stop."""
    size = len(frame.rows) * frame.extent
    framed = work[:size].reshape(1, size)
    gradient = work[size:]
    gradient[:] = 0
    share = dw.shape[0] // x.shape[1]
    for o in range(start, stop):
        for n in range(len(x)):
            c = o // share
            patches.fill_frames(0, 1, x[n, c : c + 1], frame, framed)
            for p in range(len(pixels)):
                gradient[pixels[p]] = dy[n, o, p]
            for t in range(len(taps)):
                shifted = framed[0, taps[t] : taps[t] + len(gradient)]
                total = dw[o, t] * 0
                for q in range(len(gradient)):
                    total += gradient[q] * shifted[q]
                dw[o, t] += total
