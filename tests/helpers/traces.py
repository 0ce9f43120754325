"""Traces in the forms that others publish, made small."""

from __future__ import annotations

import json
from pathlib import Path

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"


def servegen(folder: Path) -> Path:
    """Two ServeGen clients, one silent in the first window."""
    folder.mkdir()
    (folder / "chunk-0-trace.csv").write_text("0,2,1,Gamma,1.0,0.5\n600,2,1,Gamma,1.0,0.5\n")
    (folder / "chunk-1-trace.csv").write_text("0,0,0,,0,0\n600,1,1,Weibull,1.0,1.0\n")
    for client, length in ((0, 100), (1, 900)):
        lengths = {"input_tokens": f"{{{length}: 1.0}}", "output_tokens": f"{{{length}: 0.5, {length * 2}: 0.5}}"}
        (folder / f"chunk-{client}-dataset.json").write_text(json.dumps({"0": lengths}))
    return folder


def clients(folder: Path, *windows: list[str]) -> Path:
    """A ServeGen folder of clients without lengths, of each the rows of its windows."""
    folder.mkdir()
    for number, rows in enumerate(windows):
        (folder / f"chunk-{number}-trace.csv").write_text("\n".join(rows))
        (folder / f"chunk-{number}-dataset.json").write_text("{}")
    return folder


def gamma(start: float, rate: float, shape: float) -> str:
    """A window's row whose scale agrees with its rate."""
    return f"{start:g},{rate},{shape**-0.5},Gamma,{shape},{1 / rate / shape}"
