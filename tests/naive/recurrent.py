"""LSTM and RNN as their formulas read, one stream and one step at a time.

They take complex numbers too: the imaginary part of f(x + i s) / s is the derivative, without cancellation
(Squire and Trapp 1998, Using complex variables to estimate derivatives of real functions).
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_unit(c_prev, gates, cont):
    """c, h of one stream; gates are (4H,) in the order i, f, o, g.

    The forget factor F = cont sigmoid(f) has the slope F (1 - F) along the imaginary axis, as in Caffe.
    """
    i, f, o, g = gates.reshape(4, -1)
    forget = cont * sigmoid(f.real)
    forget = forget + forget * (1 - forget) * (f - f.real)
    c = forget * c_prev + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def lstm(params, x, cont, x_static=None, h_0=None, c_0=None):
    """Output (T, N, H), final h and c (1, N, H)."""
    w_x, b, *w_static, w_h = params
    steps, streams = cont.shape
    units = w_h.shape[1]
    dtype = np.result_type(x, *params)
    h = np.zeros((steps + 1, streams, units), dtype)
    c = np.zeros_like(h)
    h[0] = 0 if h_0 is None else h_0[0]
    c[0] = 0 if c_0 is None else c_0[0]
    for t in range(steps):
        for n in range(streams):
            gates = w_x @ x[t, n].ravel() + b + w_h @ (cont[t, n] * h[t, n])
            if w_static:
                gates = gates + w_static[0] @ x_static[n].ravel()
            c[t + 1, n], h[t + 1, n] = lstm_unit(c[t, n], gates, cont[t, n])
    return h[1:], h[-1:], c[-1:]


def rnn(params, x, cont, x_static=None, h_0=None):
    """Output (T, N, H), final h (1, N, H)."""
    w_x, b_h, *w_static, w_h, w_o, b_o = params
    steps, streams = cont.shape
    h = np.zeros((steps + 1, streams, len(b_h)), np.result_type(x, *params))
    h[0] = 0 if h_0 is None else h_0[0]
    output = np.empty_like(h[1:])
    for t in range(steps):
        for n in range(streams):
            total = w_x @ x[t, n].ravel() + b_h + w_h @ (cont[t, n] * h[t, n])
            if w_static:
                total = total + w_static[0] @ x_static[n].ravel()
            h[t + 1, n] = np.tanh(total)
            output[t, n] = np.tanh(w_o @ h[t + 1, n] + b_o)
    return output, h[-1:]


def gradient(function, values, index):
    """Derivatives of a real function of several arrays by one of them."""
    found = np.empty(values[index].shape)
    for position in np.ndindex(found.shape):
        shifted = [value.astype(complex) for value in values]
        shifted[index][position] += 1e-20j
        found[position] = function(*shifted).imag / 1e-20
    return found
