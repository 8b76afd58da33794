import logging

import numpy as np
import pytest

from blobnet import config
from blobnet.errors import BlobnetError
from blobnet.testing import check_gradient, net_from_text
from tests.naive import recurrent as naive

STEPS, STREAMS, FEATURES, STATIC, UNITS = 4, 3, 5, 2, 3
KINDS = {"LSTM": (naive.lstm, 2), "RNN": (naive.rnn, 1)}
VARIANTS = pytest.mark.parametrize("static", [False, True], ids=["", "static"])
LAYERS = pytest.mark.parametrize("kind", KINDS)

FILLERS = 'weight_filler { type: "gaussian" std: 0.7 } bias_filler { type: "gaussian" std: 0.3 }'


def input_layer(name, shape):
    dims = " ".join(f"dim: {extent}" for extent in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}'


def build(kind, shapes, tops, param=f"num_output: {UNITS} {FILLERS}", dtype=np.float64):
    """A net of inputs b0, b1, ... of these shapes and the layer "l" over them."""
    inputs = "\n".join(input_layer(f"b{index}", shape) for index, shape in enumerate(shapes))
    bottoms = " ".join(f'bottom: "b{index}"' for index in range(len(shapes)))
    names = " ".join(f'top: "t{index}"' for index in range(tops))
    braces = f"recurrent_param {{ {param} }}" if param else ""
    text = f'{inputs}\nlayer {{ name: "l" type: "{kind}" {bottoms} {names} {braces} }}'
    return net_from_text(text, dtype=dtype, seed=3)


def sequence(kind, static=False, exposed=False, cont=(0, 0.5, 1), x_shape=(FEATURES,), streams=STREAMS):
    """The bottoms of a layer: random inputs, and markers drawn from ``cont``."""
    random = np.random.default_rng(7)
    bottoms = [random.normal(size=(STEPS, streams, *x_shape)), random.choice(cont, (STEPS, streams)).astype(float)]
    if static:
        bottoms.append(random.normal(size=(streams, STATIC)))
    if exposed:
        bottoms += [random.normal(size=(1, streams, UNITS)) for _ in range(KINDS[kind][1])]
    return bottoms


def build_for(kind, bottoms, exposed=False, dtype=np.float64):
    param = f"num_output: {UNITS} {FILLERS} expose_hidden: {str(exposed).lower()}"
    return build(kind, [array.shape for array in bottoms], 1 + exposed * KINDS[kind][1], param, dtype)


def forward(net, bottoms):
    net.forward(**{f"b{index}": array for index, array in enumerate(bottoms)})
    return net.blobs["t0"].data.copy()


def oracle(kind, params, bottoms, static, exposed):
    x, cont, *rest = bottoms
    x_static = rest.pop(0) if static else None
    return KINDS[kind][0](params, x, cont, x_static, *(rest if exposed else ()))


@LAYERS
@VARIANTS
@pytest.mark.parametrize("exposed", [False, True], ids=["", "exposed"])
@pytest.mark.parametrize("x_shape", [(FEATURES,), (2, 3), ()], ids=["3 axes", "4 axes", "2 axes"])
def test_forward_is_the_formula(kind, static, exposed, x_shape):
    bottoms = sequence(kind, static, exposed, x_shape=x_shape)
    net = build_for(kind, bottoms, exposed)
    forward(net, bottoms)
    expected = oracle(kind, [blob.data for blob in net.params["l"]], bottoms, static, exposed)
    for top, values in zip(net.tops[-1], expected, strict=False):
        np.testing.assert_allclose(top.data, values, rtol=1e-12, atol=1e-12)
    for index, array in enumerate(bottoms):
        np.testing.assert_array_equal(net.blobs[f"b{index}"].data, array)


@LAYERS
@VARIANTS
@pytest.mark.parametrize("exposed", [False, True], ids=["", "exposed"])
def test_backward_is_the_derivative_for_any_cont(kind, static, exposed):
    bottoms = sequence(kind, static, exposed)
    net = build_for(kind, bottoms, exposed)
    layer, params = net.layers[-1], [blob.data.copy() for blob in net.params["l"]]
    forward(net, bottoms)
    weighting = np.random.default_rng(5).normal(size=net.blobs["t0"].shape)
    for top in net.tops[-1]:
        top.diff[...] = 9  # the final states pass no gradient on
    net.blobs["t0"].diff[...] = weighting
    for blob in layer.blobs:
        blob.diff[...] = 1  # must stay, with the gradient added
    layer.backward(net.tops[-1], [index != 1 for index in range(len(bottoms))], net.bottoms[-1])

    def objective(*values):
        return (oracle(kind, values[: len(params)], values[len(params) :], static, exposed)[0] * weighting).sum()

    values = params + bottoms
    for index, blob in enumerate(layer.blobs):
        np.testing.assert_allclose(blob.diff - 1, naive.gradient(objective, values, index), rtol=1e-10, atol=1e-12)
    for index in range(len(bottoms)):
        if index == 0 or (static and index == 2):
            expected = naive.gradient(objective, values, len(params) + index)
            np.testing.assert_allclose(net.bottoms[-1][index].diff, expected, rtol=1e-10, atol=1e-12)
        elif index > 1:
            np.testing.assert_array_equal(net.bottoms[-1][index].diff, 0)


@VARIANTS
@pytest.mark.parametrize(("kind", "cont"), [("LSTM", (0, 1)), ("RNN", (0, 0.5, 1))])
def test_gradient(kind, cont, static):
    bottoms = sequence(kind, static, cont=cont)
    layer = f'layer {{ name: "l" type: "{kind}" recurrent_param {{ num_output: {UNITS} {FILLERS} }} }}'
    check_gradient(layer, bottoms, check_bottoms=[0, 2] if static else [0])


def test_unit_gradient():
    random = np.random.default_rng(3)
    bottoms = [random.normal(size=(1, 4, 3)), random.normal(size=(1, 4, 12)), np.array([[1.0, 0, 1, 0]])]
    check_gradient('layer { name: "l" type: "LSTMUnit" top: "c" top: "h" }', bottoms, check_bottoms=[0, 1])


@LAYERS
def test_a_sequence_may_be_fed_in_pieces(kind):
    x = np.random.default_rng(7).normal(size=(9, STREAMS, FEATURES))
    cont = np.ones(x.shape[:2])
    whole = forward(build_for(kind, [x, cont]), [x, cont])
    net = build_for(kind, [x[:1], cont[:1]])
    pieces = [forward(net, [x[part], cont[part]]) for part in (slice(0, 1), slice(1, 4), slice(4, None))]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-14)


@LAYERS
def test_cont_0_forgets_what_came_before(kind):
    bottoms = sequence(kind, cont=(1,))
    net = build_for(kind, bottoms)
    fresh = forward(net, bottoms)
    assert np.abs(forward(net, bottoms) - fresh).max() > 1e-3
    bottoms[1][0] = 0
    np.testing.assert_array_equal(forward(net, bottoms), fresh)


@LAYERS
def test_the_state_is_what_an_exact_resume_needs(kind):
    bottoms = sequence(kind, cont=(1,))
    net, other = build_for(kind, bottoms), build_for(kind, bottoms)
    forward(net, bottoms)
    other.restore(net.state())
    np.testing.assert_array_equal(forward(other, bottoms), forward(net, bottoms))


@LAYERS
def test_new_streams_start_from_zero(kind):
    bottoms, more = sequence(kind, cont=(1,)), sequence(kind, cont=(1,), streams=STREAMS + 2)
    net = build_for(kind, bottoms)
    forward(net, bottoms)
    np.testing.assert_array_equal(forward(net, more), forward(build_for(kind, more), more))


@LAYERS
def test_exposed_states_go_from_pass_to_pass_by_hand(kind):
    x, cont, *states = sequence(kind, exposed=True, cont=(1,))
    whole_net = build_for(kind, [x, cont, *states], exposed=True)
    whole = forward(whole_net, [x, cont, *states])
    net = build_for(kind, [x[:2], cont[:2], *states], exposed=True)
    first = forward(net, [x[:2], cont[:2], *states])
    second = forward(net, [x[2:], cont[2:], *[top.data.copy() for top in net.tops[-1][1:]]])
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=1e-14)
    for one, other in zip(net.tops[-1], whole_net.tops[-1], strict=True):
        np.testing.assert_allclose(one.data[-1], other.data[-1], rtol=1e-14)


@LAYERS
def test_gradients_are_written_only_where_they_are_wanted(kind):
    bottoms = sequence(kind, static=True, exposed=True)
    net = build_for(kind, bottoms, exposed=True)
    layer = net.layers[-1]
    forward(net, bottoms)
    for blob in [*layer.blobs, *net.bottoms[-1]]:
        blob.diff[...] = 7
    layer.param_propagate_down[:] = [False] * len(layer.blobs)
    layer.backward(net.tops[-1], [False] * len(bottoms), net.bottoms[-1])
    for blob in [*layer.blobs, *net.bottoms[-1]]:
        np.testing.assert_array_equal(blob.diff, 7)


@LAYERS
def test_debug_info_logs_every_step(kind, caplog):
    bottoms = sequence(kind)
    net = build(kind, [array.shape for array in bottoms], 1, f"num_output: {UNITS} debug_info: true")
    with caplog.at_level(logging.INFO, "blobnet"):
        forward(net, bottoms)
        net.layers[-1].backward(net.tops[-1], [True, False], net.bottoms[-1])
    steps = [message for message in caplog.messages if "l, step" in message]
    assert len(steps) == 2 * STEPS
    assert steps[0] == "[Forward] l, step 0: mean magnitude 0"


def test_no_gradient_into_the_markers():
    bottoms = sequence("LSTM")
    net = build_for("LSTM", bottoms)
    assert [net.layers[-1].has_backward(index) for index in range(2)] == [True, False]
    with pytest.raises(BlobnetError, match="no gradient flows into sequence markers"):
        net.layers[-1].backward(net.tops[-1], [True, True], net.bottoms[-1])


X, CONT = (STEPS, STREAMS, FEATURES), (STEPS, STREAMS)


@pytest.mark.parametrize(
    ("kind", "shapes", "tops", "param", "text"),
    [
        ("LSTM", [X, CONT], 1, "", "num_output must be 1 or more; got 0"),
        ("LSTM", [(STEPS,), CONT], 1, "num_output: 3", 'must have 2 axes or more, .*; got blob "b0" \\(4\\)'),
        ("RNN", [X, (STEPS,)], 1, "num_output: 3", 'cont must have exactly 2 axes, .*; got blob "b1" \\(4\\)'),
        ("RNN", [X, (STEPS, 2)], 1, "num_output: 3", "time steps and streams of .*b0.*; got .*b1.* \\(4 x 2\\)"),
        ("LSTM", [X, CONT, (2, 2)], 1, "num_output: 3", 'x_static must have 3 rows.*; got blob "b2" \\(2 x 2\\)'),
        ("LSTM", [X, CONT, ()], 1, "num_output: 3", 'x_static must have 3 rows.*; got blob "b2" \\(scalar\\)'),
        ("RNN", [X, CONT, (3, 2), (3, 3)], 1, "num_output: 3", "must be x, cont, with or without.*; got 4"),
        ("LSTM", [X, CONT], 1, "num_output: 3 expose_hidden: true", "must be x, cont, h_0, c_0, .*; got 2"),
        ("LSTM", [X, CONT], 2, "num_output: 3", "tops must be the output; got 2"),
        ("RNN", [X, CONT, (1, 3, 3)], 1, "num_output: 3 expose_hidden: true", "must be the output, h_T; got 1"),
        ("RNN", [X, CONT, (1, 3, 4)], 2, "num_output: 3 expose_hidden: true", "h_0 must be 1 x 3 x 3, .*1 x 3 x 4"),
        ("LSTMUnit", [(1, 3), (1, 3, 8), (1, 3)], 2, "", "previous cell state must be .*; got .*b0"),
        ("LSTMUnit", [(1, 3, 2), (1, 3, 6), (1, 3)], 2, "", "gates must be 1 x 3 x 8, .*; got .*1 x 3 x 6"),
        ("LSTMUnit", [(1, 3, 2), (1, 3, 8), (1, 2)], 2, "", "markers must be 1 x 3, .*; got .*1 x 2"),
    ],
)
def test_errors_name_the_layer_the_rule_and_the_shape(kind, shapes, tops, param, text):
    with pytest.raises(BlobnetError, match=text) as caught:
        build(kind, shapes, tops, param)
    assert caught.value.layer == f'layer "l" ({kind})'
    assert caught.value.line == len(shapes) + 1


def test_the_features_cannot_change_after_the_weights_are_made():
    bottoms = sequence("LSTM")
    net = build_for("LSTM", bottoms)
    with pytest.raises(BlobnetError, match=r"the 5 features that the weights were made for; got .*4 x 3 x 2"):
        net.forward(b0=np.zeros((STEPS, STREAMS, 2)))


@LAYERS
def test_the_same_bits_on_any_number_of_threads(kind, monkeypatch):
    random, results = np.random.default_rng(1), []
    x, cont = random.normal(size=(5, 70, 40)), random.choice((0, 1), (5, 70))
    for threads in (1, 2, 4):
        monkeypatch.setattr(config, "_threads", threads)
        net = build(kind, [x.shape, cont.shape], 1, f"num_output: 300 {FILLERS}", np.float32)
        output = forward(net, [x, cont])
        net.blobs["t0"].diff[...] = output
        net.layers[-1].backward(net.tops[-1], [True, False], net.bottoms[-1])
        results.append([output, net.blobs["b0"].diff, *(blob.diff for blob in net.learnable_params)])
    assert all(array.any() for array in results[0])
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(one, other)
