"""The three upgrade tools against what Caffe's own wrote."""

import pytest

from blobnet import cli
from blobnet.io import files
from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from tests import recorded

FILES = recorded.ROOT / "files"


@pytest.mark.parametrize("source", recorded.files("files/upgrade", "*.in.prototxt"), ids=lambda path: path.name)
def test_texts(source, tmp_path):
    of_solver = source.name.startswith("solver")
    message = pb.SolverParameter if of_solver else pb.NetParameter
    tool = "upgrade_solver_proto_text" if of_solver else "upgrade_net_proto_text"
    assert cli.main([tool, str(source), str(tmp_path / "new")]) == 0
    expected = source.with_name(source.name.replace(".in.", ".out."))
    found, expected = (text.strip_source_info(text.read(path, message())) for path in (tmp_path / "new", expected))
    assert found == expected


def test_a_caffemodel(tmp_path):
    assert cli.main(["upgrade_net_proto_binary", str(FILES / "v1.caffemodel"), str(tmp_path / "new")]) == 0
    found, expected = (
        files.read_message(path, pb.NetParameter()) for path in (tmp_path / "new", FILES / "v1_upgraded.caffemodel")
    )
    assert found == expected


def test_a_file_over_itself(tmp_path):
    path = tmp_path / "net"
    path.write_text('name: "n" input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4')
    assert cli.main(["upgrade_net_proto_text", str(path), str(path)]) == 0
    assert 'type: "Input"' in path.read_text()


@pytest.mark.parametrize("tool", ["upgrade_net_proto_text", "upgrade_net_proto_binary", "upgrade_solver_proto_text"])
def test_faults(tool, tmp_path, capsys):
    assert cli.main([tool, str(tmp_path / "none"), str(tmp_path / "new")]) == 1
    (tmp_path / "bad").write_bytes(b"\xff layer {")
    assert cli.main([tool, str(tmp_path / "bad"), str(tmp_path / "new")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 2
    assert not (tmp_path / "new").exists()
