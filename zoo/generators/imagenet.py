"""What the nets for ImageNet's 1,000 classes share: the databases, the heads, the frame of a model."""

from collections.abc import Callable

from blobnet.zoo.generators.netspec import Model, NetSpec

CLASSES = 1000
MEAN_IMAGE = {"mean_file": "imagenet_mean.binaryproto"}
MEAN_COLOR = {"mean_value": [104, 117, 123]}

Body = Callable[[NetSpec, str], str]
Head = Callable[[NetSpec, str], None]


def loss_and_accuracies(net: NetSpec, scores: str) -> None:
    net.accuracy("accuracy", scores)
    net.accuracy("accuracy_top5", scores, top_k=5)
    net.softmax_loss("loss", scores)


def imagenet_model(
    name: str,
    body: Body,
    solver: str,
    *,
    size: int,
    batch_sizes: tuple[int, int],
    transform: dict,
    mirror: bool = True,
    deploy_transform: dict | None = None,
    head: Head = loss_and_accuracies,
    deploy_batch: int = 10,
    **defaults,
) -> Model:
    """The nets of ``body``, which adds the layers between an image blob and the scores of the classes.

    size       of the square crop that the net sees
    transform  the mean, and scale, of ``transform_param``; deploy_transform: another one for the deploy net
    defaults   of NetSpec
    """
    train_val = NetSpec(name, training=True, **defaults)
    train = {"mirror": True} if mirror else {}
    crop = {"crop_size": size, **transform}
    sources = {
        "TRAIN": ("ilsvrc12_train_lmdb", batch_sizes[0], {**train, **crop}),
        "TEST": ("ilsvrc12_val_lmdb", batch_sizes[1], crop),
    }
    head(train_val, body(train_val, train_val.databases("data", sources, ["data", "label"])))

    deploy = NetSpec(name, training=False, **defaults)
    scores = body(deploy, deploy.image_input(deploy_batch, 3, size, deploy_transform or transform))
    deploy.add("Softmax", "prob", scores)
    return Model(train_val.param, deploy.param, solver)
