import numpy as np
import pytest

from blobnet import config
from blobnet.kernels import update
from blobnet.kernels.parallel import parallel_for
from tests.naive import update as naive

RULES = {
    "sgd": [0.9],
    "nesterov": [0.9],
    "adagrad": [1e-3],
    "rmsprop": [0.97, 0.03, 1e-3],
    "adadelta": [0.95, 0.05, 1e-6],
    "adam": [0.9, 0.1, 0.999, 0.001, 1e-6],
}
HISTORIES = {"adadelta": 2, "adam": 2}
REGULARIZATIONS = [(1, 0, 0), (0.25, 0.1, 0), (0.5, 0, 0.01)]


def run(rule, gradients, data, regularization, dtype=np.float64):
    """Data, last diff and histories after one update a row of gradients."""
    scalars = np.array([*regularization, 0.05, *RULES[rule]], dtype)
    data = data.astype(dtype)
    diff = np.empty_like(data)
    history = [np.zeros_like(data) for _ in range(HISTORIES.get(rule, 1))]
    for gradient in gradients:
        diff[...] = gradient
        parallel_for(getattr(update, rule), data.size, data, diff, *history, scalars, grain=update.GRAIN)
    return data, diff, history


@pytest.mark.parametrize("regularization", REGULARIZATIONS)
@pytest.mark.parametrize("rule", RULES)
def test_rule_follows_its_formula(rule, regularization):
    random = np.random.default_rng(3)
    gradients, weights = random.normal(size=(5, 100)), random.normal(size=100)
    gradients[:, :3] = 0
    weights[0] = 0
    data, diff, history = run(rule, gradients, weights, regularization)
    expected_history = [np.zeros(100) for _ in history]
    for gradient in gradients:
        gradient = naive.regularize(gradient, weights, *regularization)
        expected_diff, expected_history = getattr(naive, rule)(gradient, expected_history, 0.05, *RULES[rule])
        weights = weights - expected_diff
    np.testing.assert_allclose(data, weights, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(diff, expected_diff, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(history, expected_history, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rule", RULES)
def test_float32_stays_float32_and_close(rule):
    random = np.random.default_rng(4)
    gradients, weights = random.normal(size=(5, 100)), random.normal(size=100)
    precise, _, precise_history = run(rule, gradients, weights, (1, 0.01, 0))
    data, diff, history = run(rule, gradients, weights, (1, 0.01, 0), np.float32)
    assert {array.dtype for array in (data, diff, *history)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(data, precise, rtol=1e-5, atol=1e-6)
    for array, expected in zip(history, precise_history, strict=True):
        np.testing.assert_allclose(array, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("rule", RULES)
def test_same_bits_on_any_number_of_threads(rule, monkeypatch):
    random = np.random.default_rng(5)
    count = 2 * update.GRAIN + 37
    gradients, weights = random.normal(size=(2, count)), random.normal(size=count)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(config, "_threads", threads)
        data, diff, history = run(rule, gradients, weights, (0.3, 0.01, 0), np.float32)
        results.append(b"".join(array.tobytes() for array in (data, diff, *history)))
    assert results[0] == results[1] == results[2]


def test_no_decay_leaves_an_infinite_weight_alone():
    data, _, _ = run("sgd", np.ones((1, 2)), np.array([np.inf, -np.inf]), (1, 0, 0))
    np.testing.assert_array_equal(data, [np.inf, -np.inf])


def test_sums_of_squares_by_block():
    values = np.random.default_rng(6).normal(size=2 * update.GRAIN + 5).astype(np.float32)
    sums = np.empty(3)
    parallel_for(update.sums_of_squares, 3, values, sums)
    blocks = [values[: update.GRAIN], values[update.GRAIN : 2 * update.GRAIN], values[2 * update.GRAIN :]]
    np.testing.assert_allclose(sums, [(block.astype(np.float64) ** 2).sum() for block in blocks], rtol=1e-12)
