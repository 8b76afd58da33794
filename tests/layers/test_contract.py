"""What blobnet.layers.base promises of every layer, held against all that are registered."""

import numpy as np
import pytest

import blobnet.layers  # noqa: F401  (registers every layer type)
from blobnet import config
from blobnet.layers import base, registry
from blobnet.proto import blobnet_pb2 as pb
from tests.recorded import load
from tests.test_goldens import LAYER_CASES, REFUSED, build, name

TYPES = pytest.mark.parametrize(
    "cls",
    [
        pytest.param(cls, id=type_name)
        for type_name, cls in sorted(registry._classes.items())
        if cls.__module__.startswith("blobnet.layers.")
    ],
)
MESSAGES = {
    field.name.replace("_", ""): field for field in pb.LayerParameter.DESCRIPTOR.fields if field.name.endswith("_param")
}
CHOSEN_BY_THE_DEVICE = {"engine"}  # accepted wherever it stands, without effect
MOVED_TO_TRANSFORM_PARAM = {"scale", "mean_file", "crop_size", "mirror"}  # from the data layers, by passes.upgrade
MARK = 7.0


def two_sided(path):
    """Whether the recorded layer can be built, and does not work in place."""
    with np.load(path) as golden:
        return path.stem not in REFUSED and not set(golden["bottom_names"]) & set(golden["top_names"])


def has_backward(path):
    with np.load(path) as golden:
        return bool(golden["backward"])


def learns(path):
    with np.load(path) as golden:
        return "param_0" in golden


TWO_SIDED = [path for path in LAYER_CASES if two_sided(path)]
WITH_BACKWARD = [path for path in TWO_SIDED if has_backward(path)]
LEARNING = [path for path in WITH_BACKWARD if learns(path)]


class Case:
    """A layer as it was recorded, after its forward pass."""

    def __init__(self, path):
        golden = load(path)
        net = build(golden, path.parent)
        for index, blob in enumerate(golden["input_names"]):
            net.set_input(str(blob), golden[f"bottom_{index}"])
        index = net.layer_index("l")
        self.layer, self.bottoms, self.tops = net.layers[index], net.bottoms[index], net.tops[index]
        for position, blob in enumerate(self.layer.blobs):
            blob.data[...] = golden[f"param_{position}"]
        self.layer.param_propagate_down[:] = [True] * len(self.layer.blobs)
        net.forward_from_to(0, index - 1)
        self.before = [blob.data.copy() for blob in self.bottoms]
        net.forward_from_to(index, index)
        for position, top in enumerate(self.tops):
            if f"top_diff_{position}" in golden:
                top.diff[...] = golden[f"top_diff_{position}"]
        self.wanted = golden["propagate_down"].tolist()

    def backward(self, propagate_down):
        self.layer.backward(self.tops, propagate_down, self.bottoms)

    def assert_bottoms_are_as_before(self):
        for blob, values in zip(self.bottoms, self.before, strict=True):
            np.testing.assert_array_equal(blob.data, values)


@pytest.mark.parametrize("path", TWO_SIDED, ids=name)
def test_forward_leaves_the_bottoms_alone(path):
    Case(path).assert_bottoms_are_as_before()


@pytest.mark.parametrize("path", WITH_BACKWARD, ids=name)
def test_backward_writes_only_the_gradients_that_are_wanted(path):
    case = Case(path)
    for blob in [*case.bottoms, *case.layer.blobs]:
        blob.diff[...] = MARK
    case.layer.param_propagate_down[:] = [False] * len(case.layer.blobs)
    case.backward([False] * len(case.bottoms))
    for blob in [*case.bottoms, *case.layer.blobs]:
        np.testing.assert_array_equal(blob.diff, MARK)
    case.backward(case.wanted)
    case.assert_bottoms_are_as_before()
    for blob, wanted in zip(case.bottoms, case.wanted, strict=True):
        assert (blob.diff == MARK).all() != wanted


@pytest.mark.parametrize("path", WITH_BACKWARD, ids=name)
def test_param_gradients_add_up(path):
    case = Case(path)
    for blob in case.layer.blobs:
        blob.diff[...] = 0
    case.backward(case.wanted)
    once = [blob.diff.copy() for blob in case.layer.blobs]
    case.backward([False] * len(case.bottoms))
    for blob, diff in zip(case.layer.blobs, once, strict=True):
        np.testing.assert_allclose(blob.diff, 2 * diff, rtol=1e-5, atol=1e-5 * np.abs(diff).max())


@pytest.mark.parametrize("kernels", ["fast", "reference"])
@pytest.mark.parametrize("path", LEARNING, ids=name)
def test_param_gradients_replace_whatever_stands_for_zeros(path, kernels, monkeypatch):
    monkeypatch.setattr(config, "reference_kernels", lambda: kernels == "reference")
    case = Case(path)
    case.backward(case.wanted)
    expected = [blob.gradient.copy() for blob in case.layer.blobs]
    for blob in case.layer.blobs:
        blob.gradient[...] = np.nan
        blob.clear_diff()
    case.backward(case.wanted)
    for blob, gradient in zip(case.layer.blobs, expected, strict=True):
        np.testing.assert_array_equal(blob.gradient, gradient)


@TYPES
def test_arity_is_declared(cls):
    for least, most in (cls.bottoms, cls.tops):
        assert least >= 0
        assert most is None or most >= least


@TYPES
def test_the_docstring_names_every_parameter(cls):
    assert cls.__doc__
    text = "\n".join(part.__doc__ or "" for part in cls.__mro__ if issubclass(part, base.Layer))
    message = MESSAGES.get(f"{cls.type.lower()}param")
    if message is not None:
        fields = {field.name for field in message.message_type.fields}
        missing = {field for field in fields - CHOSEN_BY_THE_DEVICE - MOVED_TO_TRANSFORM_PARAM if field not in text}
        assert not missing
        assert message.name in text or fields <= CHOSEN_BY_THE_DEVICE
