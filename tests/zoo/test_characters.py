"""Text for the character nets, against the text itself; the sampler, against a net that knows one sentence."""

import itertools

import numpy as np
import pytest

from blobnet import TEST, BlobnetError, Net, zoo
from blobnet.io import hdf5
from blobnet.zoo import characters, datasets, folder

TEXT = "abcabd ca" * 40


@pytest.mark.parametrize(("length", "streams"), [(41, 4), (42, 4), (43, 4), (50, 1), (9, 8)])
def test_every_character_is_predicted_in_order(length, streams):
    codes = np.arange(length)
    rows = characters.rows(codes, streams)
    assert set(rows["label"].ravel()) == set(codes[1:])
    np.testing.assert_array_equal(rows["label"], rows["data"] + 1)
    np.testing.assert_array_equal(np.diff(rows["data"], axis=0), 1)
    assert rows["label"].size - (length - 1) < streams
    np.testing.assert_array_equal(rows["cont"][0], 0)
    np.testing.assert_array_equal(rows["cont"][1:], 1)


def test_prepared_files_hold_the_text(tmp_path):
    characters.prepare(TEXT, tmp_path / "rows", held_out=52)
    symbols = (tmp_path / "rows" / "symbols.txt").read_text()
    assert symbols == " abcd"
    for part, text in (("train", TEXT[:-52]), ("test", TEXT[-53:])):
        listed = (tmp_path / "rows" / f"{part}.txt").read_text().strip()
        with hdf5.Reader(listed) as file:
            data, label = file.array("data"), file.array("label")
        stream = "".join(symbols[int(code)] for code in [*data[:, 0], label[-1, 0]])
        assert text.startswith(stream)
        assert symbols[int(label[-1, -1])] == text[-1]


def test_a_text_too_short_is_refused(tmp_path):
    with pytest.raises(BlobnetError, match="must have 104 characters or more; it has 103"):
        characters.prepare("x" * 103, tmp_path, held_out=52)


def test_shakespeare_is_complete():
    text = characters.shakespeare()
    assert (len(text), len(characters.symbols_of(text))) == (1_115_394, 65)
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.")


def test_the_nets_read_shakespeare_in_order(tmp_path, monkeypatch):
    """All 111,540 characters held out stand in 66 batches, each stream following on."""
    monkeypatch.setenv("BLOBNET_CACHE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    text = characters.shakespeare()
    symbols = np.array(list(characters.symbols_of(text)))
    assert datasets.find("shakespeare_train.txt").is_file()
    net = Net(folder("char_rnn") / "train_val.prototxt", TEST)
    labels, conts = [], []
    for _ in range(66):
        net.forward(end="text")
        labels.append(net.blobs["label"].data.astype(int))
        conts.append(net.blobs["cont"].data.copy())
    assert "".join(symbols[np.concatenate(labels).T.ravel()]) == text[-111_540:]
    conts = np.concatenate(conts)
    assert conts[0].max() == 0 and conts[1:].min() == 1


@pytest.fixture
def parrot():
    """A net whose scores say that the next symbol in the alphabet follows."""
    net = Net(folder("char_rnn") / "deploy.prototxt", TEST, seed=1)
    for blob in itertools.chain(*net.params.values()):
        blob.data[...] = 0
    symbols = characters.symbols_of(characters.shakespeare())
    embed, (w_x, _, _, w_o, _), (w_scores, _) = (net.params[name] for name in ("embed", "rnn1", "scores"))
    for place in range(64):
        embed[0].data[place, place] = 10
        w_x.data[place, place] = w_o.data[place, place] = 10
        w_scores.data[place + 1, place] = 50
    return net, symbols


def test_sampler_writes_what_the_net_holds_likely(parrot):
    net, symbols = parrot
    written = characters.sample(net, symbols, start="A")
    assert "".join(itertools.islice(written, 10)) == "BCDEFGHIJK"


def test_sampler_is_repeatable_and_as_daring_as_its_temperature(parrot):
    net, symbols = parrot
    net.params["scores"][0].data[...] *= 0.02

    def text(**options):
        return "".join(itertools.islice(characters.sample(net, symbols, start="A", **options), 40))

    assert text(seed=3) == text(seed=3) != text(seed=4)
    assert text(temperature=0.01)[:10] == "BCDEFGHIJK"


def test_sampler_carries_the_state_over():
    net = Net(folder("char_lstm") / "deploy.prototxt", TEST, seed=1)
    characters._step(net, 3)
    once = characters._step(net, 5)
    net.set_input("cont", np.zeros((1, 1)))
    assert not np.array_equal(characters._step(net, 5), once)


def test_commands(parrot, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BLOBNET_CACHE_DIR", str(tmp_path))
    net, symbols = parrot
    for blob in net.params["scores"]:
        blob.data[...] = 0  # every symbol is as likely as any other: log 65 nats
    weights = tmp_path / "flat.caffemodel"
    weights.write_bytes(net.to_proto().SerializeToString())
    characters.main(["score", "char_rnn", "--weights", str(weights)])
    assert capsys.readouterr().out == f"{np.log(65):.4f} nats for a character, perplexity 65.000\n"
    characters.main(["sample", "char_rnn", "--weights", str(weights), "--length", "20", "--start", "A"])
    written = capsys.readouterr().out
    assert len(written) == 22 and written.startswith("A") and set(written) <= set(symbols)
    (tmp_path / "text.txt").write_text(characters.shakespeare()[:300_000])
    characters.main(["prepare", str(tmp_path / "text.txt"), str(tmp_path / "rows")])
    assert (tmp_path / "rows" / "train.txt").is_file()


def test_a_net_of_ones_own_writes_its_own_symbols(tmp_path, capsys):
    edited = tmp_path / "letters"
    edited.mkdir()
    prototxt = (folder("char_rnn") / "deploy.prototxt").read_text().replace(": 65", ": 4")
    (edited / "deploy.prototxt").write_text(prototxt)
    net = Net(edited / "deploy.prototxt", TEST, seed=1)
    (edited / "letters.caffemodel").write_bytes(net.to_proto().SerializeToString())
    (tmp_path / "symbols.txt").write_text("abcd")
    characters.main(["sample", str(edited), "--symbols", str(tmp_path / "symbols.txt"), "--start", "c"])
    written = capsys.readouterr().out.strip()
    assert len(written) == 501 and set(written) == set("abcd")


def test_symbols_of_another_text_are_refused(parrot):
    with pytest.raises(BlobnetError, match="scores 65 symbols, but 4 are given"):
        next(characters.sample(parrot[0], "abcd", start="a"))


def test_an_unknown_net_gets_the_nearest():
    with pytest.raises(BlobnetError, match='no model "char_ltsm"; did you mean "char_lstm"'):
        characters.main(["score", "char_ltsm"])


@pytest.mark.parametrize("command", ["score", "sample"])
def test_a_net_of_images_is_refused(command):
    with pytest.raises(BlobnetError, match='a net of characters has a blob "cont"'):
        characters.main([command, "lenet"])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"start": "é"}, "start must be"), ({"start": ""}, "start must"), ({"temperature": 0}, "positive")],
)
def test_what_the_sampler_refuses(parrot, options, said):
    with pytest.raises(BlobnetError, match=said):
        next(characters.sample(*parrot, **options))


@pytest.mark.parametrize(("model", "nats"), [("char_lstm", 1.65), ("char_rnn", 1.9)])
def test_trained_nets_predict_what_they_have_not_read(model, nats):
    """All 111,540 characters held out; the uniform guess costs 4.17 nats."""
    assert characters.loss(zoo.load(model, TEST)) < nats
