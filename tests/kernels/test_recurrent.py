import itertools

import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import parallel, recurrent
from blobnet.kernels.tiles import RECURRENT_DEPTH
from blobnet.kernels.workspace import CACHE_LINE
from tests.naive import recurrent as naive


def cell(dtype, streams=5, units=3, cont=(1, 0, 0.5, 1, 0)):
    random = np.random.default_rng(1)
    gates = random.normal(size=(streams, 4, units)).astype(dtype)
    c_prev = random.normal(size=(streams, units)).astype(dtype)
    return gates, np.array(cont, dtype), c_prev


def forward(gates, cont, c_prev):
    activated, c, h = gates / 2, np.empty_like(c_prev), np.empty_like(c_prev)
    recurrent.lstm_forward(0, len(gates), gates / 2, activated, cont, c_prev, c, h)
    return activated, c, h


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_forward_is_the_formula(dtype, tolerance):
    gates, cont, c_prev = cell(dtype)
    _, c, h = forward(gates, cont, c_prev)
    for n in range(len(gates)):
        expected_c, expected_h = naive.lstm_unit(c_prev[n].astype(float), gates[n].astype(float), float(cont[n]))
        np.testing.assert_allclose(c[n], expected_c, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(h[n], expected_h, rtol=tolerance, atol=tolerance)


def test_backward_is_the_derivative():
    gates, cont, c_prev = cell(np.float64)
    activated, c, h = forward(gates, cont, c_prev)
    random = np.random.default_rng(2)
    h_diff, c_diff = random.normal(size=h.shape), random.normal(size=c.shape)
    c_prev_diff, gates_diff = c_diff.copy(), np.empty_like(gates)
    recurrent.lstm_backward(0, len(gates), activated, cont, c_prev, c, h_diff, c_prev_diff, gates_diff)
    for n in range(len(gates)):

        def objective(c_before, gate, n=n):
            c_after, h_after = naive.lstm_unit(c_before, gate, cont[n])
            return (c_after * c_diff[n]).sum() + (h_after * h_diff[n]).sum()

        values = [c_prev[n], gates[n]]
        np.testing.assert_allclose(c_prev_diff[n], naive.gradient(objective, values, 0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(gates_diff[n], naive.gradient(objective, values, 1), rtol=1e-12, atol=1e-14)


def test_saturated_gates_are_exact_and_nan_stays_in_its_place():
    gates, cont, c_prev = cell(np.float32, cont=(1, 1, 1, 1, 1))
    gates[0], gates[1], gates[2, 3, 1] = np.inf, -np.inf, np.nan
    activated, c, h = forward(gates, cont, c_prev)
    np.testing.assert_array_equal(activated[0], 1)
    np.testing.assert_array_equal(activated[1, :3], 0)
    np.testing.assert_array_equal(activated[1, 3], -1)
    np.testing.assert_allclose(c[0], c_prev[0] + 1, rtol=1e-6)
    np.testing.assert_array_equal(h[1], 0)
    np.testing.assert_array_equal(np.argwhere(np.isnan(h)), [[2, 1]])


def test_any_split_of_the_streams_gives_the_same_bits():
    gates, cont, c_prev = cell(np.float32, streams=64, units=7, cont=np.linspace(0, 1, 64))
    activated, c, h = forward(gates, cont, c_prev)
    again, c_again, h_again = gates / 2, np.empty_like(c), np.empty_like(h)
    parallel.parallel_for(recurrent.lstm_forward, 64, gates / 2, again, cont, c_prev, c_again, h_again, grain=5)
    for one, other in [(activated, again), (c, c_again), (h, h_again)]:
        np.testing.assert_array_equal(one, other)


# rows, inputs, outputs: tiles and panels full or not, one slice of the weights or several
PRODUCTS = [
    (1, 3, 5),
    (4, 8, 24),
    (7, 300, 50),
    (265, 2 * RECURRENT_DEPTH, 48),
    (3, 530, 7),
    (9, 300, 490),
    (33, 300, 800),
]
KERNELS = pytest.mark.parametrize("kernels", ["fast", "reference"])
TYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])


@KERNELS
@TYPES
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("extents", PRODUCTS)
def test_rows_times_packed_weights(extents, transposed, dtype, tolerance, kernels, monkeypatch):
    """Of three steps, one in the first stream and all in the others are done; what the others hold stays."""
    monkeypatch.setattr(config, "reference_kernels", lambda: kernels == "reference")
    rows, inputs, outputs = extents
    random = np.random.default_rng(3)
    shapes = (3, 1 + rows, inputs), (outputs, inputs), (3, 1 + rows, outputs)
    x, w, before = (random.normal(size=shape).astype(dtype) for shape in shapes)
    weights = recurrent.pack(w.T.copy() if transposed else w, "w", transposed)
    for accumulate, backwards in itertools.product((False, True), repeat=2):
        y = before.copy() if accumulate else np.full_like(before, np.nan)
        pieces = recurrent.room_for_pieces(rows, inputs + outputs, y.dtype)[0]
        pieces = pieces[: recurrent.pieces_of((x[0], y[0]), 0, rows, weights, pieces)]
        recurrent.multiply(
            3, 1 + rows, rows, x.reshape(-1), inputs, weights, y.reshape(-1), outputs, accumulate, backwards, pieces
        )
        expected = x[:, 1:].astype(float) @ w.T + accumulate * before[:, 1:]
        np.testing.assert_allclose(y[:, 1:], expected, rtol=0, atol=tolerance * inputs)
        np.testing.assert_array_equal(y[:, 0], before[:, 0] if accumulate else np.nan)


def test_the_pieces_of_rows_cover_them():
    weights = recurrent.pack(np.zeros((5, 40), np.float32), "w")
    first, second = np.empty((9, 2048), np.float32), np.empty((9, 10), np.float32)
    pieces, size = np.empty(20, np.int64), 40 * CACHE_LINE
    count = recurrent.pieces_of((first, second), 2, 3, weights, pieces)
    starts = first[2:].ctypes.data, second[2:].ctypes.data
    assert list(pieces[:count]) == [*range(starts[0], starts[0] + 3 * 8192, size), starts[1]]


@pytest.mark.parametrize("streams", [1, 7, 64])
@pytest.mark.parametrize("cells", [1, 5, 40, 700])
def test_there_is_room_for_the_pieces_of_a_step(streams, cells, monkeypatch):
    monkeypatch.setattr(recurrent, "scratch", lambda size, dtype: np.empty((1, size), dtype))
    weights = recurrent.pack(np.zeros((cells, 4 * cells), np.float32), "w", transposed=True)
    matrices = tuple(np.empty((streams, columns * cells), np.float32) for columns in (4, 4, 1, 1))
    room, pieces = recurrent.room_for_pieces(streams, cells, np.dtype(np.float32))[0], np.empty(1000, np.int64)
    for inputs in (cells, 4 * cells):
        size = min(RECURRENT_DEPTH, inputs) * CACHE_LINE
        count = recurrent.pieces_of(matrices, 0, streams, weights._replace(inputs=inputs), pieces)
        assert count == sum(-(-matrix.nbytes // size) for matrix in matrices)
        assert count <= len(room)


def test_products_of_all_rows_are_the_same_on_any_number_of_threads(monkeypatch):
    random = np.random.default_rng(4)
    x, w = (random.normal(size=shape).astype(np.float32) for shape in ((700, 90), (50, 90)))
    monkeypatch.setattr(recurrent, "PRODUCTS_OF_A_THREAD", 1)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(config, "threads", lambda count=threads: count)
        results.append(np.full((700, 50), np.nan, np.float32))
        recurrent.multiply_all(x, recurrent.pack(w, "w"), results[-1])
    np.testing.assert_allclose(results[0], x.astype(float) @ w.T, rtol=0, atol=1e-4)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
