import pytest

from blobnet.layers import layer_types
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import forks


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        ("TransformationParameter", "distort_param", "; SSD (weiliu89/caffe) defines it, BVLC Caffe does not"),
        (
            "PoolingParameter",
            "ceil_mode",
            "; pull request 3057 of BVLC/caffe defines it, BVLC Caffe does not: ceil_mode: false is round_mode: FLOOR",
        ),
        (
            "LossParameter",
            "label_smoothing",
            "; NVIDIA/caffe and intel/caffe define it, BVLC Caffe does not",
        ),
        ("LayerParameter.type", "PriorBox", "; SSD (weiliu89/caffe) defines it, BVLC Caffe does not"),
        ("PoolingParameter", "kernel", ""),
        ("Nothing", "kernel", ""),
    ],
)
def test_hint(owner, name, hint):
    assert forks.hint(owner, name) == hint


def known_names(owner: str) -> set[str]:
    if owner == "LayerParameter.type":
        return set(layer_types())
    message, _, enum = owner.partition(".")
    descriptor = pb.DESCRIPTOR.message_types_by_name[message]
    return set(descriptor.enum_types_by_name[enum].values_by_name if enum else descriptor.fields_by_name)


@pytest.mark.parametrize("owner", forks.FIELDS)
def test_what_blobnet_has_is_no_forks(owner):
    assert not known_names(owner).intersection(" ".join(forks.FIELDS[owner].values()).split())


def test_every_remedy_has_its_fork():
    assert all(forks.hint(owner, name) for owner, name in forks.REMEDIES)
