"""Python layers in nets that a Python program builds: their modules need no leave."""

import sys

import numpy as np
import pytest

import blobnet.pycaffe as caffe
from blobnet.testing import net_from_text


class Tripled(caffe.Layer):
    def setup(self, bottom, top):
        self.calls = 0

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        self.calls += 1
        top[0].data[...] = 3 * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 3 * top[0].diff


class Constant(caffe.Layer):
    """Puts out a learned number, and the phase."""

    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        assert self.param_str_ == self.param_str
        self.blobs[0].data[0] = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(2)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data[0], self.phase

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] = 1


class Counting(caffe.Layer):
    def setup(self, bottom, top):
        top[0].reshape(3)
        self.next = 0

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        top[0].data[...] = range(self.next, self.next + 3)
        self.next += 3

    def backward(self, top, propagate_down, bottom):
        pass


class Failing(caffe.Layer):
    def setup(self, bottom, top):
        if self.param_str == "setup":
            raise OSError("no such data")

    def reshape(self, bottom, top):
        top[0].reshape(1)

    def forward(self, bottom, top):
        raise {"key": KeyError, "value": ValueError}[self.param_str]("while running")


def python(name, layer, bottom="", param_str=""):
    bottom = f'bottom: "{bottom}"' if bottom else ""
    param = f'module: "{__name__}" layer: "{layer}" param_str: "{param_str}"'
    return f'layer {{ name: "{name}" type: "Python" {bottom} top: "{name}" python_param {{ {param} }} }}\n'


@pytest.fixture
def build(tmp_path):
    def build(text, phase=caffe.TRAIN):
        (tmp_path / "net.prototxt").write_text(text)
        return caffe.Net(str(tmp_path / "net.prototxt"), phase)

    return build


@pytest.fixture
def chain(build):
    text = 'force_backward: true input: "data" input_shape { dim: 2 dim: 3 }'
    return build(text + python("one", "Tripled", "data") + python("two", "Tripled", "one"))


def test_forward_and_backward(chain):
    chain.blobs["data"].data[...] = 5
    np.testing.assert_array_equal(chain.forward()["two"], 45)
    chain.blobs["two"].diff[...] = 2
    np.testing.assert_array_equal(chain.backward()["data"], 18)


def test_shapes_follow_the_input(chain):
    chain.blobs["data"].reshape(4, 1, 2)
    assert chain.forward()["two"].shape == (4, 1, 2)


def test_the_layer_is_the_users_object(chain):
    chain.forward()
    chain.forward()
    assert [layer.type for layer in chain.layers] == ["Input", "Python", "Python"]
    assert isinstance(chain.layers[1], Tripled)
    assert chain.layer_dict["two"].calls == 2


def test_data_layers_go_on(build):
    net = build(python("count", "Counting"))
    np.testing.assert_array_equal([net.forward()["count"].copy() for _ in range(3)], np.arange(9).reshape(3, 3))


def test_phase_and_param_str(build):
    for phase in (caffe.TRAIN, caffe.TEST):
        np.testing.assert_array_equal(build(python("c", "Constant", param_str="7"), phase).forward()["c"], [7, phase])


def test_learned_blobs_are_saved_and_shared(build, tmp_path):
    net = build("force_backward: true\n" + python("c", "Constant", param_str="7"))
    net.forward()
    net.backward()
    blob = net.params["c"][0]
    assert (blob.data[0], blob.diff[0]) == (7, 1)
    blob.data[0] = 8
    net.save(str(tmp_path / "net.caffemodel"))
    blob.data[0] = -1
    net.copy_from(str(tmp_path / "net.caffemodel"))
    assert net.layers[0].blobs[0].data[0] == 8
    other = build(python("c", "Constant", param_str="0"))
    other.share_with(net)
    assert other.layers[0].blobs[0].data[0] == 8


def test_what_a_layer_raises_arrives_as_it_is(build):
    with pytest.raises(OSError, match="no such data") as caught:
        build(python("f", "Failing", param_str="setup"))
    assert any('layer "f" (Python)' in note and "Failing.setup" in note for note in caught.value.__notes__)
    for name, kind in (("key", KeyError), ("value", ValueError)):
        net = build(python("f", "Failing", param_str=name))
        with pytest.raises(kind, match="while running"):
            net.forward()


def test_a_missing_module_is_a_runtime_error(build):
    with pytest.raises(RuntimeError, match="no_such_module"):
        build(python("f", "Failing").replace(__name__, "no_such_module"))


def test_solvers_run_python_layers(build, tmp_path):
    net = tmp_path / "net.prototxt"
    build("force_backward: true\n" + python("c", "Constant", param_str="7"))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{net}" base_lr: 0.5 lr_policy: "fixed" max_iter: 2 snapshot_after_train: false'
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.solve()
    assert solver.net.layers[0].blobs[0].data[0] == 6
    assert isinstance(solver.net.layers[0], Constant)


PLAIN = """
import caffe

class Negated(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = -bottom[0].data
"""


def test_modules_written_for_caffe_need_no_install(not_installed, tmp_path, monkeypatch):
    """As with ``blobnet train --allow-python negation``: the module says ``import caffe``."""
    (tmp_path / "negation.py").write_text(PLAIN)
    (tmp_path / "caffe").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "negation", raising=False)
    layer = python("y", "Negated", "x").replace(__name__, "negation")
    net = net_from_text('input: "x" input_shape { dim: 2 }' + layer, allowed_modules=["negation"])
    np.testing.assert_array_equal(net.forward(x=np.float32([1, 2]))["y"], [-1, -2])
