"""Text for the character nets of the zoo: rows of indices to train on, and samples of what they have learnt.

    python -m blobnet.zoo.characters prepare TEXT FOLDER
    python -m blobnet.zoo.characters score char_lstm
    python -m blobnet.zoo.characters sample char_lstm [--length 500] [--temperature 1] [--start "ROMEO:"]

``prepare`` writes train.h5 and test.h5 with the lists of HDF5Data layers and symbols.txt. Row t of a file holds
character t of each of several streams, its successor and ``cont``, which is 0 in the first row only: read in order,
batches of rows carry the state of the net over.
"""

import argparse
import gzip
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blobnet import zoo
from blobnet.errors import BlobnetError
from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb

HELD_OUT = 111_540  # characters at the end, in test.h5: 26 streams of 4,290
TRAIN_STREAMS, TEST_STREAMS = 50, 26


def shakespeare() -> str:
    """The text that comes with the zoo."""
    return gzip.decompress((Path(__file__).parent / "shakespeare/tinyshakespeare.txt.gz").read_bytes()).decode()


def symbols_of(text: str) -> str:
    """The symbols of a text, sorted; a character's index is its place among them."""
    return "".join(sorted(set(text)))


def rows(codes: np.ndarray, streams: int) -> dict[str, np.ndarray]:
    """The datasets ``data``, ``label`` and ``cont``, each [rows, streams], in which every character is predicted.

    The streams begin evenly spaced over the text; where it does not divide, some overlap by a character.
    """
    count = -(-(len(codes) - 1) // streams)
    begins = np.linspace(0, len(codes) - 1 - count, streams).astype(int)
    places = begins + np.arange(count)[:, None]
    cont = np.ones(places.shape, np.float32)
    cont[0] = 0
    return {"data": codes[places], "label": codes[places + 1], "cont": cont}


def prepare(text: str, folder: Path, held_out: int = HELD_OUT) -> None:
    """Write the training and test files of a text into a folder, which is made."""
    from blobnet.io import hdf5

    if len(text) < 2 * held_out:
        raise BlobnetError(f"the text must have {2 * held_out} characters or more; it has {len(text)}")
    folder.mkdir(parents=True, exist_ok=True)
    symbols = symbols_of(text)
    index = {symbol: place for place, symbol in enumerate(symbols)}
    codes = np.array([index[symbol] for symbol in text], np.float32)
    first = len(codes) - held_out
    for name, part, streams in (("train", codes[:first], TRAIN_STREAMS), ("test", codes[first - 1 :], TEST_STREAMS)):
        with hdf5.writer(folder / f"{name}.h5") as file:
            for dataset, values in rows(part, streams).items():
                file[dataset] = values
        (folder / f"{name}.txt").write_text(f"{(folder / name).absolute()}.h5\n", encoding="utf-8")
    (folder / "symbols.txt").write_text(symbols, encoding="utf-8", newline="")


def loss(net: Net) -> float:
    """Nats for each character held out, by a train_val net in its TEST phase; exp of it is the perplexity."""
    _require_blobs(net, "label", "cont", "loss")
    steps, streams = net.blobs["label"].shape
    batches = HELD_OUT // (steps * streams)
    return sum(float(net.forward()["loss"]) for _ in range(batches)) / batches


def sample(net: Net, symbols: str, *, start: str = "\n", temperature: float = 1.0, seed: int = 0) -> Iterator[str]:
    """The characters that a deploy net writes after ``start``, without end.

    temperature  below 1 the net keeps to what it holds likely, above 1 it dares more
    """
    _require_blobs(net, "data", "cont", "scores")
    scored = net.blobs["scores"].shape[-1]
    if scored != len(symbols):
        raise BlobnetError(f"the net scores {scored} symbols, but {len(symbols)} are given: they are not of its text")
    unknown = sorted(set(start) - set(symbols))
    if unknown or not start:
        raise BlobnetError(f"start must be characters that the net knows; got {start!r}")
    if temperature <= 0:
        raise BlobnetError(f"the temperature must be positive; got {temperature:g}")
    generator = np.random.default_rng(seed)
    net.set_input("cont", np.zeros((1, 1)))
    for symbol in start:
        scores = _step(net, symbols.index(symbol))
    while True:
        weights = np.exp((scores - scores.max()) / temperature)
        code = int(generator.choice(len(symbols), p=weights / weights.sum()))
        yield symbols[code]
        scores = _step(net, code)


def _require_blobs(net: Net, *names: str) -> None:
    for name in names:
        if name not in net.blobs:
            raise BlobnetError(f'a net of characters has a blob "{name}", such as those of char_lstm and char_rnn have')


def _step(net: Net, code: int) -> np.ndarray:
    """The scores after one more character; the state stays in the net."""
    net.forward(data=np.full((1, 1), code))
    net.set_input("cont", np.ones((1, 1)))
    return net.blobs["scores"].data.astype(np.float64).ravel()


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m blobnet.zoo.characters")
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare", help="make training and test files of a text")
    preparing.add_argument("text", type=Path)
    preparing.add_argument("folder", type=Path)
    scoring = commands.add_parser("score", help="loss and perplexity on the characters held out")
    sampling = commands.add_parser("sample", help="write text by a trained net")
    for command in (scoring, sampling):
        command.add_argument("model", help="char_lstm, char_rnn, or a folder with prototxts edited from theirs")
        command.add_argument("--weights", help="a caffemodel (default: the one in the folder, of its name)")
    sampling.add_argument("--symbols", type=Path, help="symbols.txt of the text it learnt (default: Shakespeare's)")
    sampling.add_argument("--length", type=int, default=500, help="characters (default: 500)")
    sampling.add_argument("--temperature", type=float, default=1.0)
    sampling.add_argument("--start", default="\n")
    sampling.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.command == "prepare":
        prepare(args.text.read_text(encoding="utf-8"), args.folder)
        return
    folder = Path(args.model) if Path(args.model).is_dir() else zoo.folder(args.model)
    prototxt = folder / ("train_val.prototxt" if args.command == "score" else "deploy.prototxt")
    net = Net(prototxt, pb.TEST, weights=args.weights or folder / f"{folder.resolve().name}.caffemodel")
    if args.command == "score":
        found = loss(net)
        print(f"{found:.4f} nats for a character, perplexity {math.exp(found):.3f}")
        return
    symbols = args.symbols.read_text(encoding="utf-8") if args.symbols else symbols_of(shakespeare())
    written = sample(net, symbols, start=args.start, temperature=args.temperature, seed=args.seed)
    print(args.start + "".join(next(written) for _ in range(args.length)))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BlobnetError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {error}")
