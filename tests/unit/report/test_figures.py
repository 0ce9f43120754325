"""Figures made of a made-up study, with one engine and with two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.study_fixtures import Study
from rllm_serving.report.figures import (
    batch,
    budget,
    difficulty,
    domain,
    engines,
    optimisations,
    stragglers,
    style,
    timeline,
    traffic,
)

FIGURES = ["budget", "batch", "timeline", "stragglers", "difficulty", "domain", "engines", "optimisations", "traffic"]


def draw(study: Study, name: str, pdf: Path, png: Path) -> None:
    frames: dict[str, tuple[Any, ...]] = {
        "budget": (budget, study.summary),
        "batch": (batch, study.summary),
        "timeline": (timeline, study.server, study.summary),
        "stragglers": (stragglers, study.requests, study.summary),
        "difficulty": (difficulty, study.by["difficulty"]),
        "domain": (domain, study.by["domain"]),
        "engines": (engines,),
        "optimisations": (optimisations,),
        "traffic": (traffic, study.stream),
    }
    module, *data = frames[name]
    if name in ("engines", "optimisations"):
        data = [study.versus if name == "engines" else study.changes]
    module.draw(*data, study.pairs, pdf, png)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written(study: Study, name: str, tmp_path: Path) -> None:
    if name == "engines" and study.versus is None:
        pytest.skip("one engine")
    if name == "optimisations" and len(study.runs) > 2:
        pytest.skip("the same panels as with one engine and one pair")
    pdf, png = tmp_path / "a.pdf", tmp_path / "a.png"
    draw(study, name, pdf, png)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert min(pdf.stat().st_size, png.stat().st_size) > 5000


def test_a_stream_of_one_role_alone_is_drawn(plain: Study, tmp_path: Path) -> None:
    stream = plain.stream[plain.stream["model"].str.endswith("_rllm")]
    traffic.draw(stream, plain.pairs, tmp_path / "a.pdf", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_figures_are_the_same_bytes_again(plain: Study, tmp_path: Path) -> None:
    paths = [(tmp_path / f"{i}.pdf", tmp_path / f"{i}.png") for i in range(2)]
    for pair in paths:
        draw(plain, "domain", *pair)
    for first, second in zip(*paths, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert b"CreationDate" not in paths[0][0].read_bytes()


def test_figure_of_two_setups_is_refused(plain: Study) -> None:
    other = plain.summary.assign(setup="kv-fp8")
    with pytest.raises(ValueError, match="setup"):
        style.roles(pd.concat([plain.summary, other]), plain.pairs)


def test_a_model_of_two_pairs_is_shown_in_both() -> None:
    frame = pd.DataFrame({"experiment": ["e"], "quantization": ["q"], "setup": ["s"], "model": ["base"]})
    pairs = {"a": {"llm": "base", "rllm": "x"}, "b": {"llm": "base", "rllm": "y"}}
    assert style.roles(frame, pairs)[["pair", "role"]].to_numpy().tolist() == [["a", "llm"], ["b", "llm"]]
