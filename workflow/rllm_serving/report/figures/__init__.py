"""Figures: each function takes the frames of one experiment and its pairs, and returns a Matplotlib figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from PIL import Image

from . import style


def draw(function: str, frames: Sequence[pd.DataFrame], pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Draw a figure and write it without dates and versions: the same data give the same bytes.

    What is too high for a printed page becomes a page a pair: in the PDF, and one below the other in the PNG.

    Args:
        function: `module:function` of this package.
        frames: what the function takes, in its order.
        pairs: {pair: {role: model}}.
        pdf: file to write.
        png: file to write.
    """
    module, name = function.split(":")
    with rc_context(style.RC):
        pages = _pages(getattr(import_module(f"{__name__}.{module}"), name), frames, pairs)
        with PdfPages(pdf, metadata={"CreationDate": None, "Producer": None, "Creator": None}) as file:
            for page in pages:
                file.savefig(page)
        pictures = [_picture(page) for page in pages]
    _below_each_other(pictures).save(png, "PNG")


def _pages(function: Callable[..., Figure], frames: Sequence[pd.DataFrame], pairs: style.Pairs) -> list[Figure]:
    """The figure, or one a pair, whose legend names the pair, where it is higher than a page."""
    whole = function(*frames, pairs)
    measured = set(frames[0]["model"])
    own = {pair: roles for pair, roles in pairs.items() if measured & set(roles.values())}
    if whole.get_figheight() <= style.HEIGHT or len(own) < 2:
        return [whole]
    pages = []
    for pair, roles in own.items():
        page = function(*frames, {pair: roles})
        for legend in page.legends:
            legend.set_title(f"{pair}: {legend.get_title().get_text()}")
        pages.append(page)
    return pages


def _picture(page: Figure) -> Image.Image:
    buffer = BytesIO()
    page.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return Image.open(buffer).convert("RGB")


def _below_each_other(pictures: Sequence[Image.Image]) -> Image.Image:
    size = max(picture.width for picture in pictures), sum(picture.height for picture in pictures)
    whole, top = Image.new("RGB", size, "white"), 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole
