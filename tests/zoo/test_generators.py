"""The prototxts of the zoo against their generators, and against the structure Caffe gave to the published nets."""

import pytest

from blobnet import Net
from blobnet.errors import BlobnetError
from blobnet.passes import phases, upgrade
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.zoo import folder, generators, names
from tests.recorded import files, load_json
from tests.zoo.real import PROTOTXTS, WEIGHTS

# The recorded nets that a model of the zoo is: their structure file and prototxt
PUBLISHED = {
    "KaimingHe__deep-residual-networks__prototxt__ResNet-101-deploy": "resnet101/deploy",
    "KaimingHe__deep-residual-networks__prototxt__ResNet-152-deploy": "resnet152/deploy",
    "examples__cifar10__cifar10_full": "cifar10_full/deploy",
    "examples__cifar10__cifar10_quick": "cifar10_quick/deploy",
    "examples__cifar10__cifar10_quick_train_test": "cifar10_quick/train_val",
    "examples__mnist__lenet": "lenet/deploy",
    "examples__mnist__lenet_train_test": "lenet/train_val",
    "examples__mnist__mnist_autoencoder": "mnist_autoencoder/train_val",
    "examples__siamese__mnist_siamese": "mnist_siamese/deploy",
    "examples__siamese__mnist_siamese_train_test": "mnist_siamese/train_val",
    "models__bvlc_alexnet__deploy": "alexnet/deploy",
    "models__bvlc_alexnet__train_val": "alexnet/train_val",
    "models__bvlc_googlenet__train_val": "googlenet/train_val",
    "models__bvlc_reference_caffenet__deploy": "caffenet/deploy",
    "models__bvlc_reference_caffenet__train_val": "caffenet/train_val",
    "shicai__MobileNet-Caffe__mobilenet_deploy": "mobilenet_v1/deploy",
}
RECORDED = [
    pytest.param(PUBLISHED[path.stem], entry, id="-".join([path.stem, entry["phase"], *entry["stages"]]))
    for path in files("nets", "*.json")
    if path.stem in PUBLISHED
    for entry in load_json(path)
]


@pytest.mark.parametrize("model", sorted(generators.MODELS))
def test_the_checked_in_prototxts_are_what_the_generators_write(model):
    for file, written in generators.model(model).texts().items():
        assert (folder(model) / file).read_text(encoding="utf-8") == written


def test_every_model_but_lenet_has_a_generator():
    assert set(names()) == {*generators.MODELS, "lenet"}


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(BlobnetError, match='no generator writes a model "alexnett"; did you mean "alexnet"'):
        generators.write("alexnett")


@pytest.mark.parametrize("model", sorted(generators.MODELS))
def test_the_solver_trains_the_net_beside_it(model):
    solver = text.read(folder(model) / "solver.prototxt", pb.SolverParameter())
    assert (solver.net, solver.snapshot_prefix) == ("train_val.prototxt", model)
    assert solver.base_lr > 0 and solver.max_iter > 0 and len(solver.test_iter) == max(1, len(solver.test_state))


@pytest.mark.parametrize(("prototxt", "entry"), RECORDED)
def test_structure_is_that_of_the_published_net(prototxt, entry):
    """Names, types, blobs, shapes, gradients and loss weights; the name of the input layer is free."""
    param = text.read(folder(prototxt.split("/")[0]) / f"{prototxt.split('/')[1]}.prototxt", pb.NetParameter())
    shapes = {name: shape for name, shape, _ in entry["blobs"]}
    for layer in param.layer:
        text.strip_source_info(layer)
        if layer.type in ("Data", "Input"):
            dims = [{"dim": shapes[top]} for top in layer.top]
            fields = {"name": layer.name, "top": layer.top, "include": layer.include}
            layer.CopyFrom(pb.LayerParameter(type="Input", input_param={"shape": dims}, **fields))
        for message in (layer.convolution_param, layer.inner_product_param):
            message.ClearField("weight_filler")
    net = Net(param, pb.Phase.Value(entry["phase"]), stages=entry["stages"])
    found = [
        [layer.name, layer.type, [blob.name for blob in bottom], [blob.name for blob in top], backward]
        for layer, bottom, top, backward in zip(net.layers, net.bottoms, net.tops, net.layer_need_backward, strict=True)
    ]
    assert found[0][1:] == entry["layers"][0][1:]
    assert found[1:] == entry["layers"][1:]
    assert [[name, list(blob.shape), net.loss_weights.get(name, 0.0)] for name, blob in net.blobs.items()] == entry[
        "blobs"
    ]
    assert [[name, [list(blob.shape) for blob in blobs]] for name, blobs in net.params.items()] == entry["params"]


# Prototxts as their authors published them
ORIGINALS = {
    "googlenet/deploy": PROTOTXTS / "BVLC__caffe/models/bvlc_googlenet/deploy.prototxt",
    "cifar10_full/train_val": PROTOTXTS / "BVLC__caffe/examples/cifar10/cifar10_full_train_test.prototxt",
    "mobilenet_v2/deploy": PROTOTXTS / "shicai__MobileNet-Caffe/mobilenet_v2_deploy.prototxt",
    "resnet50/deploy": PROTOTXTS / "KaimingHe__deep-residual-networks/prototxt/ResNet-50-deploy.prototxt",
    "squeezenet1_0/deploy": PROTOTXTS / "forresti__SqueezeNet/SqueezeNet_v1.0/deploy.prototxt",
    "squeezenet1_0/train_val": PROTOTXTS / "forresti__SqueezeNet/SqueezeNet_v1.0/train_val.prototxt",
    "squeezenet1_1/deploy": WEIGHTS / "squeezenet_v1.1/deploy.prototxt",
    "squeezenet1_1/train_val": WEIGHTS / "squeezenet_v1.1/train_val.prototxt",
}


def connections(prototxt, phase):
    """Names, types, bottoms and tops of the layers, besides those that bring the data."""
    param = upgrade.upgrade_net(text.read(prototxt, pb.NetParameter()))
    layers = phases.filter_net(param, pb.NetState(phase=phase)).layer
    return [
        (layer.name, layer.type, list(layer.bottom), list(layer.top))
        for layer in layers
        if layer.type not in ("Data", "Input")
    ]


def test_layers_are_those_of_the_originals():
    """Where they are present: beside the checkout."""
    for model, original in ORIGINALS.items():
        if original.exists():
            name, part = model.split("/")
            for phase in (pb.TRAIN, pb.TEST):
                ours = connections(folder(name) / f"{part}.prototxt", phase)
                assert ours == connections(original, phase), model


@pytest.mark.parametrize(
    ("model", "convolutions", "poolings"),
    [("resnet18", 20, 2), ("resnet50", 53, 2), ("preresnet50", 53, 2), ("resnet20", 21, 1), ("preresnet110", 111, 1)],
)
def test_residual_nets_pool_at_their_ends_only(model, convolutions, poolings):
    param = text.read(folder(model) / "deploy.prototxt", pb.NetParameter())
    types = [layer.type for layer in param.layer]
    assert (types.count("Convolution"), types.count("Pooling")) == (convolutions, poolings)
