"""Figures: each function takes the frames of one experiment and its pairs, and returns a Matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pandas as pd
from matplotlib import rc_context

from . import style


def draw(function: str, frames: Sequence[pd.DataFrame], pairs: style.Pairs, pdf: Path | str, png: Path | str) -> None:
    """Draw a figure and write it without dates and versions: the same data give the same bytes.

    Args:
        function: `module:function` of this package.
        frames: what the function takes, in its order.
        pairs: {pair: {role: model}}.
        pdf: file to write.
        png: file to write.
    """
    module, name = function.split(":")
    with rc_context(style.RC):
        figure = getattr(import_module(f"{__name__}.{module}"), name)(*frames, pairs)
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
