import io

from PIL import Image

from blobnet.proto import blobnet_pb2 as pb
from blobnet.proto import text
from blobnet.tools import draw, raster

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "left" type: "InnerProduct" bottom: "data" top: "left" inner_product_param { num_output: 2 } }
layer { name: "right" type: "ReLU" bottom: "data" top: "right" }
layer { name: "both" type: "Eltwise" bottom: "left" bottom: "right" top: "both" }
"""


def test_boxes_stand_where_the_svg_has_them():
    net = draw.graph(text.parse(NET, pb.NetParameter()))
    picture = Image.open(io.BytesIO(raster.to_png(net)))
    sizes, places = draw.placed(net)
    assert picture.format == "PNG"
    assert picture.size == tuple(round(extent + 2 * draw.MARGIN) for extent in places.size)
    for box, size, centre in zip(net.boxes, sizes, places.centres, strict=True):
        corner = round(centre.x - size.width / 2 + draw.MARGIN + 6), round(centre.y + draw.MARGIN)
        assert "#{:02x}{:02x}{:02x}".format(*picture.getpixel(corner)) == box.color
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_the_ending_of_the_name_chooses_the_format(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    beginnings = {"png": b"\x89PNG", "svg": b"<svg", "dot": b"digraph"}
    for ending, beginning in beginnings.items():
        draw.draw(tmp_path / "net.prototxt", tmp_path / f"net.{ending}")
        assert (tmp_path / f"net.{ending}").read_bytes().startswith(beginning)
