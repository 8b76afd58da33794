"""The graph of a net as PNG: what ``draw.to_svg`` draws, in pixels."""

import io
from collections.abc import Iterator, Sequence
from itertools import pairwise

from blobnet.tools import draw, layout

_CURVE_STEPS = 12
_LINE_COLOR, _TEXT_COLOR = "#555", "#000"


def to_png(net: "draw.Graph") -> bytes:
    """The bytes of a PNG file."""
    from PIL import Image, ImageDraw, ImageFont

    sizes, places = draw.placed(net)
    width, height = (round(extent + 2 * draw.MARGIN) for extent in places.size)
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=12)
    for points in draw.arrow_points(net, sizes, places):
        inside = [layout.Point(point.x + draw.MARGIN, point.y + draw.MARGIN) for point in points]
        pen.line(list(_curve(inside)), fill=_LINE_COLOR)
        tip = inside[-1]
        pen.polygon([(tip.x - 3, tip.y - 7), (tip.x + 3, tip.y - 7), (tip.x, tip.y)], fill=_LINE_COLOR)
    for box, size, centre in zip(net.boxes, sizes, places.centres, strict=True):
        middle, top = centre.x + draw.MARGIN, centre.y + draw.MARGIN - size.height / 2
        corners = (middle - size.width / 2, top, middle + size.width / 2, top + size.height)
        pen.rounded_rectangle(corners, 5, box.color, _LINE_COLOR)
        for number, line in enumerate(box.lines):
            place = (middle, top + (draw.PADDING + draw.LINE) / 2 + number * draw.LINE)
            pen.text(place, line, _TEXT_COLOR, font, anchor="mm")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _curve(points: Sequence[layout.Point]) -> Iterator[tuple[float, float]]:
    """Points on the curve that leaves and enters every given point straight down."""
    for before, after in pairwise(points):
        for step in range(_CURVE_STEPS + 1):
            part = step / _CURVE_STEPS
            bend = part * part * (3 - 2 * part)
            down = 1.5 * part * (1 - part) + part**3
            yield before.x + (after.x - before.x) * bend, before.y + (after.y - before.y) * down
