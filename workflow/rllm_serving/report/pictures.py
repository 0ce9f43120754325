"""Figures inside the page: as PNG in the text of the page, with fewer colours and pixels where there are many."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

MAX_BYTES = 6_000_000
"""Of all figures together, as text; the page's charts and tables need their share of the 12 MB that it may have."""
WIDTHS = (1800, 1300, 900, 600)
"""Largest widths in pixels, tried one after the other until the figures fit."""
COLOURS = 96


def embed(files: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """Return of each figure its `source` (a data URI), `width` and `height`, all below MAX_BYTES if at all possible."""
    found: dict[Path, dict[str, Any]] = {}
    for width in WIDTHS:
        found = {file: _embedded(file, width) for file in files}
        if sum(len(picture["source"]) for picture in found.values()) <= MAX_BYTES:
            break
    return found


def _embedded(file: Path, max_width: int) -> dict[str, Any]:
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    if picture.width > max_width:
        size = (max_width, round(picture.height * max_width / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    text = base64.b64encode(buffer.getvalue()).decode()
    return {"source": f"data:image/png;base64,{text}", "width": picture.width, "height": picture.height}
