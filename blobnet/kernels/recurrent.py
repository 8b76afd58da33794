"""The LSTM cell of one time step: gates, cell state and output of every stream in one pass.

Called by ``blobnet.layers.recurrent`` between the matrix products. Gates are stored (N, 4, H) in the order
input i, forget f, output o, candidate g.
"""

import math

from blobnet.kernels._jit import jit


@jit
def lstm_forward(start, stop, gates, cont, c_prev, c, h):
    """c = cont * f * c_prev + i * g and h = o * tanh(c), for the streams start to stop.

    gates   (N, 4, H) before their activation; holds i, f, o, g afterwards
    cont    (N,) what is kept of the previous step
    c_prev  (N, H); c, h likewise, written
    """
    one = gates.dtype.type(1)
    for n in range(start, stop):
        for d in range(h.shape[1]):
            i = one / (one + math.exp(-gates[n, 0, d]))
            f = one / (one + math.exp(-gates[n, 1, d]))
            o = one / (one + math.exp(-gates[n, 2, d]))
            g = math.tanh(gates[n, 3, d])
            gates[n, 0, d] = i
            gates[n, 1, d] = f
            gates[n, 2, d] = o
            gates[n, 3, d] = g
            c[n, d] = cont[n] * f * c_prev[n, d] + i * g
            h[n, d] = o * math.tanh(c[n, d])


@jit
def lstm_backward(start, stop, gates, cont, c_prev, c, h_diff, c_diff, gates_diff, c_prev_diff):
    """Gradients of ``lstm_forward`` for the streams start to stop.

    gates        (N, 4, H) as the forward pass left them
    h_diff       (N, H) gradient of h; c_diff: what reaches c from later steps
    gates_diff   (N, 4, H) written: gradient before the activation
    c_prev_diff  (N, H) written; may be the array c_diff

    The slope of F = cont f is taken as F (1 - F): exact where cont is 0 or 1.
    """
    one = gates.dtype.type(1)
    for n in range(start, stop):
        for d in range(h_diff.shape[1]):
            i = gates[n, 0, d]
            f = cont[n] * gates[n, 1, d]
            o = gates[n, 2, d]
            g = gates[n, 3, d]
            squashed = math.tanh(c[n, d])
            diff = c_diff[n, d] + h_diff[n, d] * o * (one - squashed * squashed)
            gates_diff[n, 0, d] = diff * g * i * (one - i)
            gates_diff[n, 1, d] = diff * c_prev[n, d] * f * (one - f)
            gates_diff[n, 2, d] = h_diff[n, d] * squashed * o * (one - o)
            gates_diff[n, 3, d] = diff * i * (one - g * g)
            c_prev_diff[n, d] = diff * f
