"""Character language models on Shakespeare's plays: an RNN and an LSTM that predict the next of 65 symbols."""

from typing import Any

from blobnet.zoo.generators.netspec import Model, NetSpec, solver

SYMBOLS = 65
TRAIN_STEPS = 50
TEST_STEPS, TEST_STREAMS = 65, 26  # 66 such batches are the 111,540 characters held out
ITERATIONS_PER_EPOCH = 400  # of a million characters


def char_rnn() -> Model:
    """Elman 1990. With small inputs or large steps its state turns chaotic, and the training fails."""
    return _model("CharRNN", "RNN", _uniform(1), {"type": "xavier"}, base_lr=0.0005, epochs=6)


def char_lstm() -> Model:
    """Hochreiter and Schmidhuber 1997."""
    return _model("CharLSTM", "LSTM", _uniform(0.08), _uniform(0.08), base_lr=0.003, epochs=20)


def _uniform(limit: float) -> dict[str, Any]:
    return {"type": "uniform", "min": -limit, "max": limit}


def _model(name: str, type_name: str, embedding: dict, recurrent: dict, base_lr: float, epochs: int) -> Model:
    """embedding, recurrent: the fillers of these layers' weights."""
    kind = type_name.lower()

    def body(net: NetSpec) -> str:
        """The scores [T, N, 65] of the next symbol."""
        vectors = {"input_dim": SYMBOLS, "num_output": 64, "bias_term": False, "weight_filler": embedding}
        x = net.add("Embed", "embed", "data", embed_param=vectors)
        x = net.add(type_name, f"{kind}1", x, "cont", recurrent_param={"num_output": 256, "weight_filler": recurrent})
        if net.training:
            x = net.dropout("drop1", x, 0.2)
        return net.inner_product("scores", x, SYMBOLS, axis=2, weight_filler={"type": "xavier"})

    over_symbols = {"softmax_param": {"axis": 2}}
    train_val = NetSpec(name, training=True)
    for phase, steps in (("TRAIN", TRAIN_STEPS), ("TEST", TEST_STEPS)):
        source = {"source": f"shakespeare_{phase.lower()}.txt", "batch_size": steps}
        tops = ["data", "label", "cont"]
        train_val.add("HDF5Data", "text", tops=tops, include=[{"phase": phase}], hdf5_data_param=source)
    scores = body(train_val)
    train_val.accuracy("accuracy", scores, accuracy_param={"axis": 2})
    train_val.softmax_loss("loss", scores, **over_symbols)

    deploy = NetSpec(name, training=False)
    one = {"dim": [1, 1]}
    deploy.add("Input", "input", tops=["data", "cont"], input_param={"shape": [one, one]})
    deploy.add("Softmax", "prob", body(deploy), **over_symbols)
    recipe = solver(
        f"{epochs} epochs of a million characters: 50 streams, back-propagation through 50 steps, "
        "the state carried over.\n"
        "A test pass covers the 111,540 characters held out; the perplexity is exp(loss).",
        test_iter=[66],
        test_interval=500,
        type="Adam",
        base_lr=base_lr,
        momentum=0.9,
        momentum2=0.999,
        lr_policy="poly",
        power=1,
        clip_gradients=1,
        display=100,
        average_loss=100,
        max_iter=ITERATIONS_PER_EPOCH * epochs,
        snapshot=2000,
        snapshot_prefix=f"char_{kind}",
        random_seed=1,
    )
    return Model(train_val.param, deploy.param, recipe)


MODELS = {"char_rnn": char_rnn, "char_lstm": char_lstm}
