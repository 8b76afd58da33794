import sys

import numpy as np
import pytest

from blobnet.blob import Blob
from blobnet.errors import BlobnetError
from blobnet.layers.python import PythonLayer, UserCodeError
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import check_gradient, net_from_text

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'


class TimesTen(PythonLayer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = 10 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 10 * top[0].diff


class Power(TimesTen):
    """Raises to the power that param_str names."""

    def setup(self, bottom, top):
        self.power = float(self.param_str)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data ** self.power

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.power * bottom[0].data ** (self.power - 1) * top[0].diff


class Gain(PythonLayer):
    """Multiplies each column by a learnable factor, 5 at first."""

    def setup(self, bottom, top):
        self.blobs.add_blob(bottom[0].channels)
        self.blobs[0].data[...] = 5

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(axis=0)
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * self.blobs[0].data


class Counter(PythonLayer):
    """Makes data: batches of growing size that hold the phase."""

    def setup(self, bottom, top):
        self.size = 0

    def reshape(self, bottom, top):
        top[0].reshape(self.size + 1, 2)

    def forward(self, bottom, top):
        top[0].data[...] = self.phase
        self.size += 1


class Broken(TimesTen):
    def __init__(self, param):
        if param.python_param.param_str == "__init__":
            raise KeyError("no such thing")

    def setup(self, bottom, top):
        self.fail_in("setup")

    def reshape(self, bottom, top):
        self.fail_in("reshape")
        super().reshape(bottom, top)

    def forward(self, bottom, top):
        self.fail_in("forward")

    def backward(self, top, propagate_down, bottom):
        self.fail_in("backward")

    def fail_in(self, method):
        if self.param_str == method:
            raise ValueError(f"{method} is broken")


class Bare(PythonLayer):
    """Defines nothing."""


def not_a_class():
    """A name that is no layer."""


def python(layer, *, module=__name__, bottom="x", top="y", more=""):
    bottoms = f'bottom: "{bottom}"' if bottom else ""
    param = f'python_param {{ module: "{module}" layer: "{layer}" {more} }}'
    return f'layer {{ name: "{top}" type: "Python" {bottoms} top: "{top}" {param} }}'


def build(*layers, modules=(__name__,), **options):
    return net_from_text("\n".join([INPUT, *layers]), allowed_modules=modules, **options)


def test_a_chain_of_layers_runs_forward_and_backward():
    net = build(python("TimesTen"), python("TimesTen", bottom="y", top="z"), python("TimesTen", bottom="z", top="w"))
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(net.forward(x=x)["w"], 1000 * x)
    for index in (3, 2, 1):
        net.tops[index][0].diff[...] = 2 if index == 3 else net.tops[index][0].diff
        net.layers[index].backward(net.tops[index], [True], net.bottoms[index])
    np.testing.assert_array_equal(net.blobs["x"].diff, 2000)


def test_reshapes_with_its_bottom():
    net = build(python("TimesTen"))
    assert net.forward(x=np.ones((4, 1, 2)))["y"].shape == (4, 1, 2)


def test_param_str_is_each_layers_own():
    net = build(python("Power", more='param_str: "2"'), python("Power", top="z", more='param_str: "3"'))
    out = net.forward(x=np.full((2, 3), 2.0))
    np.testing.assert_array_equal(out["y"], 4)
    np.testing.assert_array_equal(out["z"], 8)


def test_gradient_check_takes_python_layers():
    layer = python("Power", more='param_str: "3"').replace('bottom: "x" ', "")
    check_gradient(layer, [np.array([[0.5, -1.5, 2.0]])], allowed_modules=[__name__])
    gain = python("Gain").replace('bottom: "x" ', "")
    check_gradient(gain, [np.array([[0.5, -1.5, 2.0], [1.0, 2.0, 3.0]])], allowed_modules=[__name__])


def test_learnable_blobs_are_the_nets():
    net = build(python("Gain"))
    assert [blob.shape for blob in net.params["y"]] == [(3,)]
    assert net.learnable_params[0] is net.layers[1].user.blobs[0]
    np.testing.assert_array_equal(net.forward(x=np.ones((2, 3)))["y"], 5)
    net.copy_trained_layers_from({"y": [np.array([1.0, 2.0, 3.0])]})
    np.testing.assert_array_equal(net.forward()["y"], [[1, 2, 3]] * 2)


def test_lr_mult_reaches_the_blobs():
    net = build(python("Gain")[:-2] + "param { lr_mult: 3 decay_mult: 0 } }")
    assert (net.params_lr, net.params_weight_decay) == ([3], [0])


@pytest.mark.parametrize("phase", [pb.TRAIN, pb.TEST])
def test_reshape_runs_before_every_pass_and_the_phase_is_known(phase):
    net = build(python("Counter", bottom="", top="data"), python("TimesTen", bottom="data", top="y"), phase=phase)
    shapes = []
    for _ in range(3):
        out = net.forward()["y"]
        shapes.append(out.shape)
        np.testing.assert_array_equal(out, 10 * phase)
    assert shapes == [(1, 2), (2, 2), (3, 2)]


def test_share_in_parallel_is_accepted():
    net = build(python("TimesTen", more="share_in_parallel: true"))
    np.testing.assert_array_equal(net.forward(x=np.ones((2, 3)))["y"], 10)


@pytest.mark.parametrize("modules", [(), ("another", __name__ + ".part")])
def test_a_module_must_be_allowed(modules):
    with pytest.raises(BlobnetError) as caught:
        build(python("TimesTen", module="os"), modules=modules)
    assert caught.value.line == 2
    for part in ('module "os" is not allowed', "runs the code", "--allow-python os", 'allowed_modules=["os"]'):
        assert part in caught.value.message


@pytest.fixture
def module_file(tmp_path, monkeypatch):
    """Writes a module of a fresh name into a folder; returns the name."""

    def write(folder, text, name="blobnet_test_user_module"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    sys.modules.pop("blobnet_test_user_module", None)


ADD_ONE = """
from blobnet.layers.python import PythonLayer, UserCodeError

class AddOne(PythonLayer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data + 1
"""


def test_modules_are_found_in_the_working_folder(module_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    name = module_file(tmp_path, ADD_ONE)
    net = build(python("AddOne", module=name), modules=[name])
    np.testing.assert_array_equal(net.forward(x=np.ones((2, 3)))["y"], 2)
    assert sys.path == before


def test_modules_are_found_beside_the_prototxt(module_file, tmp_path):
    name = module_file(tmp_path, ADD_ONE)
    net = build(python("AddOne", module=name), modules=[name], folder=tmp_path)
    np.testing.assert_array_equal(net.forward(x=np.ones((2, 3)))["y"], 2)


def test_a_method_that_is_missing_is_named(module_file, tmp_path):
    name = module_file(tmp_path, ADD_ONE)
    net = build(python("AddOne", module=name), modules=[name], folder=tmp_path)
    with pytest.raises(BlobnetError, match=r"AddOne.backward .* define backward\(self, top, propagate_down, bottom\)"):
        net.layers[1].backward(net.tops[1], [True], net.bottoms[1])
    with pytest.raises(BlobnetError, match=r"Bare.reshape .* define reshape\(self, bottom, top\)"):
        build(python("Bare"))


@pytest.mark.parametrize(
    ("source", "text", "cause"),
    [
        ("import no_such_module_either", "failed when imported: .*no_such_module_either", ModuleNotFoundError),
        ("print 'Python 2'", "failed when imported: SyntaxError", SyntaxError),
        ("1 / 0", "failed when imported: ZeroDivisionError", ZeroDivisionError),
    ],
)
def test_a_module_that_fails_when_imported(module_file, tmp_path, source, text, cause):
    name = module_file(tmp_path, source)
    with pytest.raises(BlobnetError, match=text) as caught:
        build(python("AddOne", module=name), modules=[name], folder=tmp_path)
    assert isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.part", "blobnet.no_such_part"])
def test_a_module_that_is_not_found(name):
    with pytest.raises(BlobnetError, match=f'no module "{name}" on sys.path .* beside the prototxt'):
        build(python("AddOne", module=name), modules=[name])


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        ("TimesTem", 'has no class "TimesTem"; did you mean "TimesTen"?'),
        ("not_a_class", '"not_a_class" of the module .* must be a subclass of'),
        ("", "must name a module and a layer"),
    ],
)
def test_a_class_that_is_no_layer(layer, text):
    with pytest.raises(BlobnetError, match=text.replace("?", r"\?")):
        build(python(layer))


@pytest.mark.parametrize("method", ["__init__", "setup", "reshape", "forward", "backward"])
def test_an_exception_names_layer_and_method_and_keeps_its_traceback(method):
    with pytest.raises(BlobnetError) as caught:
        net = build(python("Broken", more=f'param_str: "{method}"'))
        net.forward()
        net.layers[1].backward(net.tops[1], [True], net.bottoms[1])
    error = caught.value
    assert error.layer == 'layer "y" (Python)'
    assert error.line == 2
    kind = KeyError if method == "__init__" else ValueError
    assert error.message.startswith(f"Broken.{method} of the module {__name__} failed: {kind.__name__}: ")
    assert "(test_python.py:" in error.message
    assert isinstance(error.__cause__, kind)
    assert error.__cause__.__traceback__ is not None


def test_an_interrupt_is_not_taken_for_an_error(monkeypatch):
    net = build(python("TimesTen"))

    def interrupt(bottom, top):
        raise KeyboardInterrupt

    monkeypatch.setattr(net.layers[1].user, "forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        net.forward()


def test_blobs_offer_what_pycaffe_layers_use():
    blob = Blob((2, 3, 4, 5))
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 4, 5, 120)
    blob.reshape(np.int64(6), np.int64(2))
    assert blob.shape == (6, 2)


def test_any_module_may_be_allowed():
    net = build(python("TimesTen"), modules=["*"])
    np.testing.assert_array_equal(net.forward(x=np.ones((2, 3)))["y"], 10)


def test_errors_of_a_users_layer_keep_what_was_raised():
    with pytest.raises(UserCodeError, match="setup is broken") as caught:
        build(python("Broken", more='param_str: "setup"'))
    assert isinstance(caught.value.raised, ValueError)
