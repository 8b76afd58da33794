# ruff: noqa: C408 (dict(...) is how such programs write messages)
"""Whole programs as people write them with pycaffe: surgery, training from arrays, logistic regression, dreaming."""

import sys

import h5py
import numpy as np
import pytest
from google.protobuf import text_format


@pytest.fixture
def caffe(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import caffe

    return caffe


def write(path, content):
    with open(path, "w") as file:
        file.write(str(content))
    return str(path)


def test_filters_are_edited(caffe):
    """A convolution with hand-made kernels: a smoothing one and two that find edges."""
    from caffe import layers as L  # noqa: N812

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 20, 24]))
    n.conv = L.Convolution(n.data, num_output=3, kernel_size=5)
    net = caffe.Net(write("conv.prototxt", n.to_proto()), caffe.TEST)
    image = np.random.default_rng(1).random((20, 24)).astype(np.float32)
    net.blobs["data"].reshape(1, 1, *image.shape)
    net.blobs["data"].data[...] = image

    ksize = net.params["conv"][0].data.shape[2:]
    y, x = np.mgrid[-ksize[0] // 2 + 1 : ksize[0] // 2 + 1, -ksize[1] // 2 + 1 : ksize[1] // 2 + 1]
    gaussian = np.exp(-(x**2 + y**2) / 2.0)
    gaussian /= gaussian.sum()
    net.params["conv"][0].data[0] = gaussian
    net.params["conv"][0].data[1:] = 0
    net.params["conv"][0].data[1, 0, 1:-1, 1:-1] = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    net.params["conv"][0].data[2, 0, 1:-1, 1:-1] = [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]
    net.params["conv"][1].data[0] = 1.0
    out = net.forward()["conv"][0]

    windows = np.lib.stride_tricks.sliding_window_view(image, (5, 5))
    np.testing.assert_allclose(out[0], (windows * gaussian).sum((2, 3)) + 1, rtol=1e-5)
    np.testing.assert_allclose(out[1], (windows * net.params["conv"][0].data[1, 0]).sum((2, 3)), atol=1e-5)


def test_a_classifier_is_cast_to_slide_over_larger_images(caffe):
    """Inner products become convolutions with the same weights; each place of the map is the score of its window."""
    from caffe import layers as L  # noqa: N812

    def classifier(dims, convolutional):
        n = caffe.NetSpec()
        n.data = L.Input(shape=dict(dim=[1, 3, *dims]))
        n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3, weight_filler=dict(type="xavier"))
        n.relu1 = L.ReLU(n.conv1, in_place=True)
        filler = dict(weight_filler=dict(type="xavier"), bias_filler=dict(type="uniform"))
        if convolutional:
            n.fc2_conv = L.Convolution(n.relu1, num_output=6, kernel_size=6)
            n.fc3_conv = L.Convolution(L.ReLU(n.fc2_conv, in_place=True), num_output=5, kernel_size=1)
            n.prob = L.Softmax(n.fc3_conv)
        else:
            n.fc2 = L.InnerProduct(n.relu1, num_output=6, **filler)
            n.fc3 = L.InnerProduct(L.ReLU(n.fc2, in_place=True), num_output=5, **filler)
            n.prob = L.Softmax(n.fc3)
        return n.to_proto()

    net = caffe.Net(write("small.prototxt", classifier((8, 8), False)), caffe.TEST)
    net.save("small.caffemodel")
    params = ["fc2", "fc3"]
    fc_params = {pr: (net.params[pr][0].data, net.params[pr][1].data) for pr in params}

    net_full_conv = caffe.Net(write("full.prototxt", classifier((11, 10), True)), "small.caffemodel", caffe.TEST)
    params_full_conv = ["fc2_conv", "fc3_conv"]
    conv_params = {pr: (net_full_conv.params[pr][0].data, net_full_conv.params[pr][1].data) for pr in params_full_conv}
    for pr, pr_conv in zip(params, params_full_conv, strict=True):
        conv_params[pr_conv][0].flat = fc_params[pr][0].flat
        conv_params[pr_conv][1][...] = fc_params[pr][1]
    net_full_conv.save("full.caffemodel")

    slid = caffe.Net("full.prototxt", "full.caffemodel", caffe.TEST)
    im = np.random.default_rng(1).random((11, 10, 3)).astype(np.float32)
    transformer = caffe.io.Transformer({"data": slid.blobs["data"].data.shape})
    transformer.set_mean("data", np.array([0.2, 0.3, 0.4]))
    transformer.set_transpose("data", (2, 0, 1))
    out = slid.forward_all(data=np.asarray([transformer.preprocess("data", im)]))["prob"]
    assert out.shape == (1, 5, 4, 3)
    prepared = slid.blobs["data"].data
    for row in range(4):
        for column in range(3):
            window = prepared[:, :, row : row + 8, column : column + 8]
            np.testing.assert_allclose(net.forward(data=window)["prob"][0], out[0, :, row, column], rtol=1e-4)


def separable(count, seed):
    """Points of 4 features in two classes that a plane parts."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4)).astype(np.float32)
    return x, (x @ [1.0, -2.0, 0.5, 1.5] + 0.3 > 0).astype(np.float32)


def test_logistic_regression_from_hdf5(caffe):
    """Training in a loop of steps, testing through the test net by hand, both layers and solver written from Python."""
    from caffe import layers as L  # noqa: N812

    for name, count, seed in (("train", 300, 1), ("test", 100, 2)):
        x, y = separable(count, seed)
        with h5py.File(f"{name}.h5", "w") as file:
            file.create_dataset("data", data=x)
            file.create_dataset("label", data=y)
        write(f"{name}.txt", f"{name}.h5\n")

    def logreg(hdf5, batch_size):
        n = caffe.NetSpec()
        n.data, n.label = L.HDF5Data(batch_size=batch_size, source=hdf5, ntop=2)
        n.ip1 = L.InnerProduct(n.data, num_output=2, weight_filler=dict(type="xavier"))
        n.accuracy = L.Accuracy(n.ip1, n.label)
        n.loss = L.SoftmaxWithLoss(n.ip1, n.label)
        return n.to_proto()

    write("logreg_train.prototxt", logreg("train.txt", 10))
    write("logreg_test.prototxt", logreg("test.txt", 10))

    from caffe.proto import caffe_pb2

    s = caffe_pb2.SolverParameter()
    s.train_net = "logreg_train.prototxt"
    s.test_net.append("logreg_test.prototxt")
    s.test_interval = 1000
    s.test_iter.append(10)
    s.max_iter = 300
    s.base_lr = 0.1
    s.lr_policy = "step"
    s.gamma = 0.1
    s.stepsize = 200
    s.momentum = 0.9
    s.weight_decay = 5e-4
    s.snapshot_prefix = "logreg"
    s.solver_mode = caffe_pb2.SolverParameter.CPU
    write("solver.prototxt", s)

    caffe.set_mode_cpu()
    solver = caffe.get_solver("solver.prototxt")
    for _ in range(300):
        solver.step(1)
    accuracy = 0
    for _ in range(solver.param.test_iter[0]):
        solver.test_nets[0].forward()
        accuracy += solver.test_nets[0].blobs["accuracy"].data
    accuracy /= solver.param.test_iter[0]
    assert accuracy > 0.95
    assert solver.net.params["ip1"][0].diff.shape == (2, 4)


def test_a_test_net_runs_from_its_second_layer_on(caffe):
    """Batches of the test net stay where they are when the pass starts behind the data layer."""
    from caffe import layers as L  # noqa: N812

    x, y = separable(40, 3)
    with h5py.File("all.h5", "w") as file:
        file["data"], file["label"] = x, y
    write("all.txt", "all.h5\n")
    n = caffe.NetSpec()
    n.data, n.label = L.HDF5Data(source="all.txt", batch_size=8, ntop=2)
    n.ip1 = L.InnerProduct(n.data, num_output=3, weight_filler=dict(type="gaussian", std=1))
    n.loss = L.SoftmaxWithLoss(n.ip1, n.label)
    net = caffe.Net(write("net.prototxt", n.to_proto()), caffe.TEST)
    net.forward()
    first = net.blobs["ip1"].data.copy()
    net.forward(start="ip1")
    np.testing.assert_array_equal(net.blobs["ip1"].data, first)
    net.forward()
    assert (net.blobs["ip1"].data != first).any()


def test_an_image_is_changed_to_excite_a_layer(caffe):
    """Gradient ascent on the input, from a layer in the middle, in images that grow."""
    from caffe import layers as L  # noqa: N812
    from caffe.proto import caffe_pb2

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[10, 3, 9, 9]))
    n.conv = L.Convolution(n.data, num_output=5, kernel_size=3, weight_filler=dict(type="xavier"))
    n.relu = L.ReLU(n.conv, in_place=True)
    n.pool = L.Pooling(n.relu, global_pooling=True)
    model = caffe_pb2.NetParameter()
    text_format.Merge(str(n.to_proto()), model)
    model.force_backward = True
    caffe.Net(write("plain.prototxt", n.to_proto()), caffe.TEST).save("net.caffemodel")
    net = caffe.Classifier(
        write("forced.prototxt", model), "net.caffemodel", mean=np.float32([0.5, 0.4, 0.3]), channel_swap=(2, 1, 0)
    )
    image = np.random.default_rng(1).random((3, 9, 9)) - net.transformer.mean["data"]
    src, dst = net.blobs["data"], net.blobs["conv"]
    for extent in (9, 12):
        src.reshape(1, 3, extent, extent)
        src.data[0] = np.resize(image, (3, extent, extent))
        strengths = []
        for _ in range(5):
            net.forward(end="relu")
            strengths.append(float((dst.data**2).sum()))
            dst.diff[:] = dst.data
            net.backward(start="relu")
            gradient = src.diff[0]
            src.data[:] += 0.5 / np.abs(gradient).mean() * gradient
        assert strengths == sorted(strengths)
        assert strengths[-1] > strengths[0]


def test_python_loss_of_the_script_itself(caffe, monkeypatch):
    """A script whose net names a layer class of the running program."""

    class HalfSquares(caffe.Layer):
        def setup(self, bottom, top):
            if len(bottom) != 2:
                raise Exception("Need two inputs to compute distance.")

        def reshape(self, bottom, top):
            if bottom[0].count != bottom[1].count:
                raise Exception("Inputs must have the same dimension.")
            self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
            top[0].reshape(1)

        def forward(self, bottom, top):
            self.diff[...] = bottom[0].data - bottom[1].data
            top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

        def backward(self, top, propagate_down, bottom):
            for i in range(2):
                if propagate_down[i]:
                    bottom[i].diff[...] = (1, -1)[i] * self.diff / bottom[i].num

    monkeypatch.setattr(sys.modules["__main__"], "HalfSquares", HalfSquares, raising=False)
    net = """
    layer { name: "d" type: "DummyData" top: "x" top: "y" dummy_data_param {
        shape { dim: 5 dim: 2 } shape { dim: 5 dim: 3 } data_filler { type: "gaussian" } data_filler { value: 2 } } }
    layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 3 } }
    layer { name: "loss" type: "%s" bottom: "ip" bottom: "y" top: "loss" loss_weight: 1 %s }
    """
    write("python.prototxt", net % ("Python", 'python_param { module: "__main__" layer: "HalfSquares" }'))
    write("builtin.prototxt", net % ("EuclideanLoss", ""))
    weights = []
    for name in ("python", "builtin"):
        write("solver.prototxt", f'net: "{name}.prototxt" base_lr: 0.1 lr_policy: "fixed" random_seed: 7')
        solver = caffe.SGDSolver("solver.prototxt")
        solver.step(5)
        weights.append(solver.net.params["ip"][1].data.copy())
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5)
    with pytest.raises(Exception, match="Need two inputs"):
        text = (net % ("Python", 'python_param { module: "__main__" layer: "HalfSquares" }')).replace('bottom: "y"', "")
        caffe.Net(write("one.prototxt", text), caffe.TRAIN)


def test_arrays_go_into_a_database_and_come_out_of_a_data_layer(caffe):
    """As scripts fill an LMDB: array_to_datum, keys of eight digits, the LMDB library's own transaction."""
    import lmdb
    from caffe import layers as L  # noqa: N812
    from caffe import params as P  # noqa: N812

    arrays = np.random.default_rng(1).integers(0, 256, (5, 3, 4, 6), np.uint8)
    with lmdb.open("images_lmdb", map_size=1 << 24) as env, env.begin(write=True) as txn:
        for index, array in enumerate(arrays):
            datum = caffe.io.array_to_datum(array, label=index % 2)
            txn.put(f"{index:0>8d}".encode("ascii"), datum.SerializeToString())
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        source="images_lmdb",
        backend=P.Data.LMDB,
        batch_size=5,
        ntop=2,
        transform_param=dict(scale=0.5, mean_value=[10, 20, 30]),
    )
    net = caffe.Net(write("data.prototxt", n.to_proto()), caffe.TEST)
    net.forward()
    mean = np.array([10, 20, 30])[:, None, None]
    np.testing.assert_array_equal(net.blobs["data"].data, (arrays.astype(np.float32) - mean) / 2)
    np.testing.assert_array_equal(net.blobs["label"].data, [0, 1, 0, 1, 0])


def test_gradients_of_several_layers_meet_on_the_way_down(caffe):
    """As style transfer walks back: layer by layer, adding a gradient of its own to each diff.

    The net is linear, so that <gradient, d> is the sum of <own gradient, activation of d> over the layers.
    """
    from caffe import layers as L  # noqa: N812
    from caffe import params as P  # noqa: N812

    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 12, 14]))
    n.conv1 = L.Convolution(n.data, num_output=4, kernel_size=3, bias_term=False, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, pool=P.Pooling.AVE, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, num_output=2, kernel_size=3, bias_term=False, weight_filler=dict(type="xavier"))
    net = caffe.Net(write("linear.prototxt", f"force_backward: true\n{n.to_proto()}"), caffe.TEST)

    random = np.random.default_rng(1)
    own = {name: random.normal(size=net.blobs[name].data.shape).astype(np.float32) for name in ("conv1", "conv2")}
    net.forward(end="conv2")
    layers = list(net.params.keys())[::-1]
    net.blobs[layers[0]].diff[...] = 0
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        net.blobs[layer].diff[0] += own[layer][0]
        net.backward(start=layer, end=following)
    gradient = net.blobs["data"].diff.copy()

    direction = random.normal(size=gradient.shape).astype(np.float32)
    activations = net.forward(blobs=["conv1"], end="conv2", data=direction)
    expected = sum(np.vdot(own[name], activations[name]) for name in own)
    np.testing.assert_allclose(np.vdot(gradient, direction), expected, rtol=1e-4)


def test_a_loop_of_updates_trains_as_steps_do(caffe):
    """Programs that run the passes themselves, and let the solver only update."""
    from caffe import layers as L  # noqa: N812

    n = caffe.NetSpec()
    fillers = [dict(type="constant", value=value) for value in (0.5, 1)]
    n.data, n.label = L.DummyData(shape=[dict(dim=[4, 3]), dict(dim=[4])], data_filler=fillers, ntop=2)
    n.ip = L.InnerProduct(n.data, num_output=3, weight_filler=dict(type="constant", value=0.1))
    n.loss = L.SoftmaxWithLoss(n.ip, n.label)
    write("net.prototxt", n.to_proto())
    solver = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 test_iter: 1 test_interval: 100'
    write("solver.prototxt", f'{solver} max_iter: 9 snapshot_prefix: "s"')
    by_hand, by_steps = caffe.get_solver("solver.prototxt"), caffe.get_solver("solver.prototxt")
    for _ in range(5):
        by_hand.net.clear_param_diffs()
        by_hand.net.forward()
        by_hand.net.backward()
        by_hand.apply_update()
    by_steps.step(5)
    for found, expected in zip(by_hand.net.params["ip"], by_steps.net.params["ip"], strict=True):
        np.testing.assert_array_equal(found.data, expected.data)
    by_hand.test_nets[0].share_with(by_hand.net)
    loss = by_hand.test_nets[0].forward()["loss"]
    assert loss < np.log(3) - 0.1
