"""The generators of the zoo's prototxts: one short module for each family, each net a function.

``python -m blobnet.zoo.generators [NAME ...]`` writes the prototxts of the named models, or of all, into their
folders; edit the generator or the prototxt, whichever suits.
"""

from collections.abc import Callable
from pathlib import Path

from blobnet import zoo
from blobnet.errors import BlobnetError, did_you_mean
from blobnet.zoo.generators import alexnet, characters, cifar10, googlenet, mnist, mobilenet, resnet, squeezenet, vgg
from blobnet.zoo.generators.netspec import Model

MODELS: dict[str, Callable[[], Model]] = {
    **alexnet.MODELS,
    **characters.MODELS,
    **cifar10.MODELS,
    **googlenet.MODELS,
    **mnist.MODELS,
    **mobilenet.MODELS,
    **resnet.MODELS,
    **squeezenet.MODELS,
    **vgg.MODELS,
}


def model(name: str) -> Model:
    """A model as its generator makes it."""
    if name not in MODELS:
        hint = did_you_mean(name, MODELS)
        raise BlobnetError(f'no generator writes a model "{name}"{hint} (models: {", ".join(sorted(MODELS))})')
    return MODELS[name]()


def write(name: str) -> list[Path]:
    """Write the prototxts of a model into its folder of the zoo; returns their paths."""
    folder = Path(zoo.__file__).parent / name
    folder.mkdir(exist_ok=True)
    paths = []
    for file, text in model(name).texts().items():
        paths.append(folder / file)
        paths[-1].write_text(text, encoding="utf-8")
    return paths
