"""Matplotlib's figures as text and bytes for a page: equal whenever they are drawn, and short.

Words in SVG stay words, which are shorter than outlines and can be found; another font, where DejaVu Sans is missing,
is narrower, so that nothing collides.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any

from fastmlp.plots import make_figure, plain_text

#: Of a picture on the page, in inches: letters of 10 points stay readable when a telephone shows half of it at a time.
WIDTH = 9.0
_SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "fastmlp", "svg.image_inline": True}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def sheet(height: float) -> Any:
    """An empty picture of the page's width; `height` in inches."""
    figure = make_figure()
    figure.set_size_inches(WIDTH, height)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)
    return figure


def svg_of(figure: Any) -> str:
    """The picture without Matplotlib's indents and remarks, and places to a tenth of a point: half as long."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    _save(figure, picture, "svg")
    text = re.sub(r"<!--.*?-->|^\s+|\s+$", "", picture.getvalue().decode(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r'\b(?:d|x|y)="[^"]*"|translate\([^)]*\)', lambda place: re.sub(
        r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", place[0]), text)


def png_of(figure: Any) -> bytes:
    """The picture with 128 colours, which is a third as long."""
    from PIL import Image

    picture, small = io.BytesIO(), io.BytesIO()
    _save(figure, picture, "png")
    with Image.open(picture) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


def _save(figure: Any, picture: io.BytesIO, kind: str) -> None:
    from matplotlib import rc_context

    with rc_context(_SVG), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")      # a name in a script that the font lacks: boxes will do
        figure.savefig(picture, format=kind, **({"metadata": _NO_METADATA} if kind == "svg" else {}))


def handle(label: str, **looks: Any) -> Any:
    """A line for the legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=plain_text(label), **looks)
