"""MobileNet v1 and v2 (arXiv:1704.04861, arXiv:1801.04381), with the layer names of shicai/MobileNet-Caffe."""

from blobnet.zoo.generators.imagenet import CLASSES, Body, imagenet_model
from blobnet.zoo.generators.netspec import Model, NetSpec, rates, solver

SCALED = {"scale": 0.017, "mean_value": [103.94, 116.78, 123.68]}
UNDECAYED = rates((1, 0), (1, 0))

# (name, outputs, stride) of each depthwise separable convolution
V1_BLOCKS = [("2_1", 64, 1), ("2_2", 128, 2), ("3_1", 128, 1), ("3_2", 256, 2), ("4_1", 256, 1), ("4_2", 512, 2)]
V1_BLOCKS += [(f"5_{block}", 512, 1) for block in range(1, 6)] + [("5_6", 1024, 2), ("6", 1024, 1)]

# (name, expanded channels, outputs, stride) of each inverted residual
V2_BLOCKS = [("2_1", 32, 16, 1), ("2_2", 96, 24, 2), ("3_1", 144, 24, 1), ("3_2", 144, 32, 2)]
V2_BLOCKS += [("4_1", 192, 32, 1), ("4_2", 192, 32, 1), ("4_3", 192, 64, 1)]
V2_BLOCKS += [(f"4_{block}", 384, 64, 1) for block in (4, 5, 6)] + [("4_7", 384, 96, 2)]
V2_BLOCKS += [("5_1", 576, 96, 1), ("5_2", 576, 96, 1), ("5_3", 576, 160, 2)]
V2_BLOCKS += [("6_1", 960, 160, 1), ("6_2", 960, 160, 1), ("6_3", 960, 320, 1)]


def mobilenet_v1() -> Model:
    """Each 3 x 3 convolution is a depthwise one and a 1 x 1 one."""

    def body(net: NetSpec, data: str) -> str:
        def unit(name: str, bottom: str, num_output: int, kernel_size: int, **options) -> str:
            x = net.convolution(f"conv{name}", bottom, num_output, kernel_size, **options)
            return net.relu(f"relu{name}", _normalize(net, f"conv{name}", x, top=x))

        x, channels = unit("1", data, 32, 3, pad=1, stride=2), 32
        for name, num_output, stride in V1_BLOCKS:
            x = unit(f"{name}/dw", x, channels, 3, pad=1, stride=stride, group=channels)
            x, channels = unit(f"{name}/sep", x, num_output, 1), num_output
        return _classify(net, x)

    return _model("MobileNet v1", body)


def mobilenet_v2() -> Model:
    """Blocks that expand, convolve depthwise and shrink linearly; equal shapes are added."""

    def body(net: NetSpec, data: str) -> str:
        def unit(name: str, bottom: str, num_output: int, kernel_size: int, **options) -> str:
            x = net.convolution(name, bottom, num_output, kernel_size, **options)
            return _normalize(net, name, x, top=f"{name}/bn")

        x, channels = net.relu("relu1", unit("conv1", data, 32, 3, pad=1, stride=2)), 32
        for name, expanded, num_output, stride in V2_BLOCKS:
            y = net.relu(f"relu{name}/expand", unit(f"conv{name}/expand", x, expanded, 1))
            depthwise = {"pad": 1, "stride": stride, "group": expanded}
            y = net.relu(f"relu{name}/dwise", unit(f"conv{name}/dwise", y, expanded, 3, **depthwise))
            y = unit(f"conv{name}/linear", y, num_output, 1)
            x = net.add("Eltwise", f"block_{name}", x, y) if (stride, channels) == (1, num_output) else y
            channels = num_output
        return _classify(net, net.relu("relu6_4", unit("conv6_4", x, 1280, 1)))

    return _model("MobileNet v2", body)


def _normalize(net: NetSpec, name: str, bottom: str, top: str) -> str:
    net.add("BatchNorm", f"{name}/bn", bottom, top=top, batch_norm_param={"eps": 1e-5})
    return net.add("Scale", f"{name}/scale", top, top=top, param=UNDECAYED, scale_param={"bias_term": True})


def _classify(net: NetSpec, bottom: str) -> str:
    x = net.global_average("pool6", bottom)
    biased = {"bias_term": True, "param": rates((1, 1), (2, 0)), "bias_filler": {"type": "constant"}}
    return net.convolution("fc7", x, CLASSES, 1, **biased)


def _model(name: str, body: Body) -> Model:
    recipe = solver(
        "Our recipe: 90 epochs of 1,281,167 images with a rate that falls linearly. A test pass covers 50,000 images.",
        test_iter=[1000],
        test_interval=10000,
        test_initialization=False,
        base_lr=0.045,
        lr_policy="poly",
        power=1,
        display=100,
        average_loss=100,
        max_iter=900000,
        momentum=0.9,
        weight_decay=0.00004,
        snapshot=10000,
        snapshot_prefix=name.lower().replace(" ", "_"),
    )
    return imagenet_model(
        name,
        body,
        recipe,
        size=224,
        batch_sizes=(128, 50),
        transform=SCALED,
        deploy_batch=1,
        param=rates((1, 1)),
        bias_term=False,
        weight_filler={"type": "msra"},
    )


MODELS = {"mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2}
