"""The LSTM cell of one time step: gates, cell state and output of every stream in one pass.

Called by ``blobnet.layers.recurrent`` between the matrix products. Gates are stored (N, 4, H) in the order
input i, forget f, output o, candidate g.
"""

import numpy as np

from blobnet.kernels._jit import jit
from blobnet.kernels.exponential import sigmoid, tanh

_ONE = np.float32(1)


@jit
def lstm_forward(start, stop, gates, cont, c_prev, c, h):
    """c = cont * f * c_prev + i * g and h = o * tanh(c), for the streams start to stop.

    gates   (N, 4, H) before their activation; holds i, f, o, g afterwards
    cont    (N,) what is kept of the previous step
    c_prev  (N, H); c, h likewise, written
    """
    for n in range(start, stop):
        for d in range(h.shape[1]):
            i = sigmoid(gates[n, 0, d])
            f = sigmoid(gates[n, 1, d])
            o = sigmoid(gates[n, 2, d])
            g = tanh(gates[n, 3, d])
            gates[n, 0, d] = i
            gates[n, 1, d] = f
            gates[n, 2, d] = o
            gates[n, 3, d] = g
            c[n, d] = cont[n] * f * c_prev[n, d] + i * g
            h[n, d] = o * tanh(c[n, d])


@jit
def lstm_backward(start, stop, gates, cont, c_prev, c, h_diff, c_diff, gates_diff):
    """Gradients of ``lstm_forward`` for the streams start to stop.

    gates       (N, 4, H) as the forward pass left them
    h_diff      (N, H) gradient of h
    c_diff      (N, H) gradient that reaches c from later steps; holds that of c_prev afterwards
    gates_diff  (N, 4, H) written: gradient before the activation

    The slope of F = cont f is taken as F (1 - F): exact where cont is 0 or 1.
    """
    for n in range(start, stop):
        for d in range(h_diff.shape[1]):
            i = gates[n, 0, d]
            f = cont[n] * gates[n, 1, d]
            o = gates[n, 2, d]
            g = gates[n, 3, d]
            squashed = tanh(c[n, d])
            diff = c_diff[n, d] + h_diff[n, d] * o * (_ONE - squashed * squashed)
            gates_diff[n, 0, d] = diff * g * i * (_ONE - i)
            gates_diff[n, 1, d] = diff * c_prev[n, d] * f * (_ONE - f)
            gates_diff[n, 2, d] = h_diff[n, d] * squashed * o * (_ONE - o)
            gates_diff[n, 3, d] = diff * i * (_ONE - g * g)
            c_diff[n, d] = diff * f
