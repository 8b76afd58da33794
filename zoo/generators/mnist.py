"""MNIST nets besides LeNet: the autoencoder and the siamese LeNet of Caffe's examples."""

from blobnet.zoo.generators.netspec import Model, NetSpec, rates, solver

WIDTHS = (1000, 500, 250, 30)


def autoencoder() -> Model:
    """Hinton and Salakhutdinov 2006: 784 - 1000 - 500 - 250 - 30 and back, logistic units, a linear code."""
    sparse = {"weight_filler": {"type": "gaussian", "std": 1, "sparse": 15}, "bias_filler": {"type": "constant"}}
    defaults = {"param": rates((1, 1), (1, 0)), **sparse}

    def body(net: NetSpec, x: str) -> str:
        """The scores of the 784 pixels."""
        for number, width in enumerate(WIDTHS, start=1):
            x = net.inner_product(f"encode{number}", x, width)
            if width != WIDTHS[-1]:
                x = net.add("Sigmoid", f"encode{number}neuron", x)
        for number, width in zip((4, 3, 2), reversed(WIDTHS[:-1]), strict=True):
            x = net.add("Sigmoid", f"decode{number}neuron", net.inner_product(f"decode{number}", x, width))
        return net.inner_product("decode1", x, 784)

    scaled = {"scale": 0.0039215684}
    train_val = NetSpec("MNISTAutoencoder", training=True, **defaults)
    for source, rule in (
        ("mnist_train_lmdb", {"phase": "TRAIN"}),
        ("mnist_train_lmdb", {"phase": "TEST", "stage": ["test-on-train"]}),
        ("mnist_test_lmdb", {"phase": "TEST", "stage": ["test-on-test"]}),
    ):
        reads = {"source": source, "batch_size": 100, "backend": "LMDB"}
        train_val.add("Data", "data", include=[rule], transform_param=scaled, data_param=reads)
    train_val.add("Flatten", "flatdata", "data")
    scores = body(train_val, "data")
    loss = {"tops": ["cross_entropy_loss"], "loss_weight": [1]}
    train_val.add("SigmoidCrossEntropyLoss", "loss", scores, "flatdata", **loss)
    train_val.add("Sigmoid", "decode1neuron", scores)
    train_val.add("EuclideanLoss", "loss", "decode1neuron", "flatdata", tops=["l2_error"], loss_weight=[0])

    deploy = NetSpec("MNISTAutoencoder", training=False, **defaults)
    deploy.add("Sigmoid", "decode1neuron", body(deploy, deploy.image_input(1, 1, 28, scaled)))
    recipe = solver(
        "A test pass covers the first 50,000 images for training, then the 10,000 for testing.",
        test_state=[{"stage": ["test-on-train"]}, {"stage": ["test-on-test"]}],
        test_iter=[500, 100],
        test_interval=500,
        test_compute_loss=True,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=10000,
        display=100,
        max_iter=65000,
        momentum=0.9,
        weight_decay=0.0005,
        snapshot=10000,
        snapshot_prefix="mnist_autoencoder",
        random_seed=1,
    )
    return Model(train_val.param, deploy.param, recipe)


def siamese() -> Model:
    """Chopra, Hadsell and LeCun 2005 with LeNet: two images pass through the same weights to two features each."""
    fillers = {"weight_filler": {"type": "xavier"}, "bias_filler": {"type": "constant"}}

    def branch(net: NetSpec, x: str, suffix: str = "") -> str:
        def shared(layer: str) -> list[dict]:
            return [{"name": f"{layer}_w", "lr_mult": 1}, {"name": f"{layer}_b", "lr_mult": 2}]

        for stage, channels in ((1, 20), (2, 50)):
            layer = f"conv{stage}"
            x = net.convolution(f"{layer}{suffix}", x, channels, 5, param=shared(layer))
            x = net.pool(f"pool{stage}{suffix}", x, "MAX", 2, 2)
        x = net.relu(f"relu1{suffix}", net.inner_product(f"ip1{suffix}", x, 500, param=shared("ip1")))
        x = net.inner_product(f"ip2{suffix}", x, 10, param=shared("ip2"))
        return net.inner_product(f"feat{suffix}", x, 2, param=shared("feat"))

    scaled = {"scale": 0.00390625}
    train_val = NetSpec("mnist_siamese_train_test", training=True, **fillers)
    sources = {"TRAIN": ("mnist_siamese_train_lmdb", 64, scaled), "TEST": ("mnist_siamese_test_lmdb", 100, scaled)}
    pairs = train_val.databases("pair_data", sources, ["pair_data", "sim"])
    halves = ["data", "data_p"]
    train_val.add("Slice", "slice_pair", pairs, tops=halves, slice_param={"slice_dim": 1, "slice_point": [1]})
    features = [branch(train_val, "data"), branch(train_val, "data_p", "_p")]
    train_val.add("ContrastiveLoss", "loss", *features, "sim", contrastive_loss_param={"margin": 1})

    deploy = NetSpec("mnist_siamese", training=False, **fillers)
    branch(deploy, deploy.image_input(100, 1, 28, scaled))
    recipe = solver(
        "A test pass covers 10,000 pairs.",
        test_iter=[100],
        test_interval=500,
        base_lr=0.01,
        lr_policy="inv",
        gamma=0.0001,
        power=0.75,
        display=100,
        max_iter=50000,
        momentum=0.9,
        weight_decay=0,
        snapshot=5000,
        snapshot_prefix="mnist_siamese",
        random_seed=1,
    )
    return Model(train_val.param, deploy.param, recipe)


MODELS = {"mnist_autoencoder": autoencoder, "mnist_siamese": siamese}
