import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import blobnet.pycaffe
from blobnet.errors import BlobnetError


def test_every_way_of_importing(installed):
    import caffe
    import caffe.coord_map
    import caffe.proto.caffe_pb2
    from caffe import layers, params
    from caffe.io import Transformer
    from caffe.proto import caffe_pb2
    from caffe.pycaffe import Net

    assert caffe is blobnet.pycaffe
    assert (layers, params) == (caffe.layers, caffe.params)
    assert Transformer is caffe.io.Transformer
    assert caffe_pb2 is caffe.proto.caffe_pb2
    assert Net is caffe.Net
    assert caffe.coord_map.crop
    with pytest.raises(ModuleNotFoundError):
        import caffe.model_libs  # noqa: F401


def test_names_where_pycaffe_defines_them(installed):
    import caffe
    from caffe import _caffe, pycaffe
    from caffe.proto import caffe_pb2

    for name in (
        "Net",
        "SGDSolver",
        "NesterovSolver",
        "AdaGradSolver",
        "RMSPropSolver",
        "AdaDeltaSolver",
        "AdamSolver",
    ):
        assert getattr(_caffe, name) is getattr(pycaffe, name) is getattr(caffe, name)
    assert isinstance(caffe.Net, type)
    assert issubclass(caffe.AdamSolver, _caffe.Solver)
    assert (_caffe.Layer, _caffe.log, _caffe.layer_type_list) == (caffe.Layer, caffe.log, caffe.layer_type_list)
    assert _caffe.RawBlobVec is list
    assert caffe_pb2._LAYERPARAMETER is caffe_pb2.LayerParameter.DESCRIPTOR
    with pytest.raises(AttributeError, match="LabelMap"):
        caffe_pb2.LabelMap  # noqa: B018


def test_installing_again_changes_nothing(installed):
    before = {name: module for name, module in sys.modules.items() if name.startswith("caffe")}
    blobnet.pycaffe.install()
    assert before == {name: module for name, module in sys.modules.items() if name.startswith("caffe")}


def test_another_caffe_is_left_alone(monkeypatch):
    other = types.ModuleType("caffe")
    other.__file__ = "/opt/caffe/python/caffe/__init__.py"
    monkeypatch.setitem(sys.modules, "caffe", other)
    with pytest.raises(BlobnetError, match="another caffe is imported already, from /opt/caffe"):
        blobnet.pycaffe.install()
    assert sys.modules["caffe"] is other


def test_importing_the_package_alone_installs_nothing():
    code = "import blobnet.pycaffe, sys; sys.exit('caffe' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_the_page_about_it_runs(installed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "pycaffe.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(program, {})
    assert capsys.readouterr().out == "(2, 4)\n"
