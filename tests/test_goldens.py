"""Every layer case and small net recorded from Caffe, held against the engine."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from blobnet.net import Net
from blobnet.proto import blobnet_pb2 as pb
from blobnet.testing import net_from_text
from tests.recorded import assert_close, files, load

LAYER_CASES = [path for path in files("layers", "*.npz") if not path.name.startswith("Net__")]
NET_CASES = files("layers", "Net__*.npz")

# Caffe's faults that blobnet does not share (see docs/differences-from-caffe.md), each with a test of its own.
REFUSED = {
    "Pooling__max_empty_window": "window",
    "Pooling__ave_empty_window": "window",
}
ACCUMULATES = {"Scale__axis0_all_2runs", "Scale__axis0_2runs"}
SQUARED_GRADIENT = "Power__p1_inplace"  # Caffe multiplies its derivative by itself instead of by the top's diff


def name(path: Path) -> str:
    return path.stem


def build(golden: dict, folder: Path) -> Net:
    """The recorded net; files that it names by their path where it was recorded lie in the folder."""
    prototxt = re.sub(r'source: ".*/', 'source: "', str(golden["prototxt"]))
    return net_from_text(prototxt, pb.Phase.Value(str(golden["phase"])), folder=folder, seed=1)


@pytest.mark.parametrize("path", [path for path in LAYER_CASES if path.stem not in REFUSED], ids=name)
def test_layer(path):
    golden = load(path)
    net = build(golden, path.parent)
    for run in range(1, int(golden["n_runs"]) + 1):
        run_layer(net, golden, "" if run == 1 else f"_r{run}", path.stem)


def run_layer(net: Net, golden: dict, suffix: str, case: str) -> None:
    layer = net.layers[net.layer_index("l")]
    before = [blob.diff.copy() for blob in layer.blobs]
    if suffix and bool(golden["cleared_between"]):
        net.clear_param_diffs()
    for index, blob_name in enumerate(golden["input_names"]):
        net.set_input(str(blob_name), golden[f"bottom_{index}{suffix}"])
    for index, blob in enumerate(layer.blobs):
        if f"param_{index}{suffix}" in golden:
            blob.data[...] = golden[f"param_{index}{suffix}"]
    loss = net.forward_from_to(0, len(net.layers) - 1)
    if bool(golden["random"]):
        check_dropout(net, golden, suffix)
        return
    tops = [net.blobs[str(top)] for top in golden["top_names"]]
    for index, top in enumerate(tops):
        assert_close(top.data, golden[f"top_{index}{suffix}"], f"top {index}{suffix}")
    assert_close(np.float32(loss), golden[f"loss{suffix}"], f"loss{suffix}")
    for index, blob in enumerate(layer.blobs):
        if f"param_after_{index}{suffix}" in golden:
            assert_close(blob.data, golden[f"param_after_{index}{suffix}"], f"param after {index}{suffix}")
    if not bool(golden["backward"]):
        return
    for index, top in enumerate(tops):
        if f"top_diff_{index}{suffix}" in golden:
            top.diff[...] = golden[f"top_diff_{index}{suffix}"]
    net.backward()
    for index, bottom in enumerate(golden["bottom_names"]):
        if f"bottom_diff_{index}{suffix}" in golden:
            expected = golden[f"bottom_diff_{index}{suffix}"]
            if case == SQUARED_GRADIENT:
                expected = golden["top_diff_0"] * layer.param.power_param.scale
            assert_close(net.blobs[str(bottom)].diff, expected, f"bottom diff {index}{suffix}")
    for index, blob in enumerate(layer.blobs):
        if f"param_diff_{index}{suffix}" in golden:
            expected = golden[f"param_diff_{index}{suffix}"]
            if suffix and case in ACCUMULATES:
                expected = expected + before[index]
            assert_close(blob.diff, expected, f"param diff {index}{suffix}")


def check_dropout(net: Net, golden: dict, suffix: str) -> None:
    """Each element is dropped or scaled by 1 / (1 - ratio), and its gradient likewise."""
    layer = net.layers[net.layer_index("l")]
    ratio = layer.param.dropout_param.dropout_ratio
    bottom, top = golden[f"bottom_0{suffix}"], net.blobs[str(golden["top_names"][0])]
    kept = top.data != 0
    assert_close(top.data, np.where(kept, bottom / (1 - ratio), 0), "top")
    assert 0 < kept.mean() < 1 or ratio in (0, 1)
    if bool(golden["backward"]):
        top_diff = golden[f"top_diff_0{suffix}"]
        top.diff[...] = top_diff
        net.backward()
        bottom_diff = net.blobs[str(golden["bottom_names"][0])].diff
        assert_close(bottom_diff, np.where(kept, top_diff / (1 - ratio), 0), "bottom diff")


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refused_case_is_an_error_at_construction(case):
    from blobnet import BlobnetError

    [path] = [path for path in LAYER_CASES if path.stem == case]
    with pytest.raises(BlobnetError, match=REFUSED[case]):
        build(load(path), path.parent)


@pytest.mark.parametrize("path", NET_CASES, ids=name)
def test_net(path):
    golden = load(path)
    net = build(golden, path.parent)
    assert net.layer_names == list(golden["layer_names"])
    assert [layer.type for layer in net.layers] == list(golden["layer_types"])
    assert [[blob.name for blob in top] for top in net.tops] == json.loads(str(golden["layer_tops"]))
    assert [[blob.name for blob in bottom] for bottom in net.bottoms] == json.loads(str(golden["layer_bottoms"]))
    assert list(net.blobs) == list(golden["blob_names"])
    assert net.inputs == list(golden["inputs"])
    assert net.outputs == list(golden["outputs"])
    assert [net.loss_weights.get(blob, 0.0) for blob in net.blobs] == golden["loss_weights"].tolist()
    for key in golden:
        if key.startswith("param__"):
            _, layer, index = key.split("__")
            net.params[layer][int(index)].data[...] = golden[key]
    for run in range(1, int(golden["n_runs"]) + 1):
        check_net_run(net, golden, "" if run == 1 else f"_r{run}")


def check_net_run(net: Net, golden: dict, suffix: str) -> None:
    for blob in net.inputs:
        net.set_input(blob, golden[f"input__{blob}{suffix}"])
    assert_close(np.float32(net.forward_from_to(0, len(net.layers) - 1)), golden[f"loss{suffix}"], "loss")
    net.backward()
    for key, expected in golden.items():
        if key.endswith("_r2") != bool(suffix):
            continue
        kind, *place = key.removesuffix("_r2").split("__")
        if kind == "blob":
            assert_close(net.blobs[place[0]].data, expected, key)
        elif kind == "diff":
            assert_close(net.blobs[place[0]].diff, expected, key)
        elif kind == "pdiff":
            assert_close(net.params[place[0]][int(place[1])].diff, expected, key)
