"""Convolution over any number of spatial axes, as its defining sum, in float64 NumPy."""

import itertools

import numpy as np


def _taps(geometry):
    """For each tap: its index, and the slices that pick what it meets, one pixel per output pixel, when padded."""
    for tap in itertools.product(*(range(extent) for extent in geometry.kernel)):
        first = [k * dilation for k, dilation in zip(tap, geometry.dilation, strict=True)]
        yield (
            tap,
            tuple(
                slice(start, start + stride * (output - 1) + 1, stride)
                for start, stride, output in zip(first, geometry.stride, geometry.output, strict=True)
            ),
        )


def _padded(x, geometry):
    return np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in geometry.pad)])


def _flat(array):
    return array.reshape(*array.shape[:2], -1)


def _groups(channels, filters, group):
    """The channels and the filters of each group, as slices."""
    c, o = channels // group, filters // group
    return [(slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)) for g in range(group)]


def forward(x, w, geometry, group):
    """x [N, C, ...], w [O, C / G, ...] -> y [N, O, ...]."""
    x, w = _padded(x.astype(np.float64), geometry), w.astype(np.float64)
    y = np.zeros((len(x), len(w), *geometry.output))
    for tap, pixels in _taps(geometry):
        for channels, filters in _groups(x.shape[1], len(w), group):
            met = x[(slice(None), channels, *pixels)]
            y[:, filters] += (w[(filters, slice(None), *tap)] @ _flat(met)).reshape(len(y), -1, *geometry.output)
    return y


def backward_data(dy, w, geometry, group):
    """dy [N, O, ...], w [O, C / G, ...] -> dx [N, C, ...]."""
    dy, w = dy.astype(np.float64), w.astype(np.float64)
    channels = w.shape[1] * group
    padded = np.zeros((len(dy), channels, *(i + 2 * p for i, p in zip(geometry.input, geometry.pad, strict=True))))
    for tap, pixels in _taps(geometry):
        for inputs, filters in _groups(channels, len(w), group):
            spread = w[(filters, slice(None), *tap)].T @ _flat(dy[:, filters])
            padded[(slice(None), inputs, *pixels)] += spread.reshape(len(dy), -1, *geometry.output)
    inner = (slice(p, p + i) for i, p in zip(geometry.input, geometry.pad, strict=True))
    return padded[(slice(None), slice(None), *inner)]


def backward_weights(x, dy, geometry, group):
    """x [N, C, ...], dy [N, O, ...] -> dw [O, C / G, ...]."""
    x, dy = _padded(x.astype(np.float64), geometry), dy.astype(np.float64)
    dw = np.zeros((dy.shape[1], x.shape[1] // group, *geometry.kernel))
    for tap, pixels in _taps(geometry):
        for channels, filters in _groups(x.shape[1], dy.shape[1], group):
            met = x[(slice(None), channels, *pixels)]
            products = _flat(dy[:, filters]) @ _flat(met).transpose(0, 2, 1)
            dw[(filters, slice(None), *tap)] = products.sum(axis=0)
    return dw
