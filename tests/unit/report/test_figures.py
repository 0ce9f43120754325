"""Figures made of a made-up study, with one engine and with two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.study_fixtures import Study
from PIL import Image
from rllm_serving.report import figures
from rllm_serving.report.catalogue import FIGURES
from rllm_serving.report.figures import style
from rllm_serving.report.figures.pareto import dominated, pareto


def draw(study: Study, name: str, pdf: Path, png: Path) -> None:
    frames = {
        "budget": lambda: [study.summary],
        "batch": lambda: [study.summary],
        "timeline": lambda: [study.server, study.points],
        "stragglers": lambda: [study.requests, study.summary],
        "difficulty": lambda: [study.by["difficulty"]],
        "domain": lambda: [study.by["domain"]],
        "engines": lambda: [study.versus],
        "optimisations": lambda: [study.changes],
        "decomposition": lambda: [study.parts],
        "traffic": lambda: [study.stream],
        "pareto": lambda: [study.setups],
    }
    figures.draw(FIGURES[name].function, frames[name](), study.pairs, pdf, png)


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


@pytest.mark.slow
def test_a_stream_of_one_role_alone_is_drawn(plain: Study, tmp_path: Path) -> None:
    stream = plain.stream[plain.stream["model"].str.endswith("_rllm")]
    figures.draw("traffic:traffic", [stream], plain.pairs, tmp_path / "a.pdf", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_figures_are_the_same_bytes_again(both: Study, tmp_path: Path) -> None:
    paths = [(tmp_path / f"{i}.pdf", tmp_path / f"{i}.png") for i in range(2)]
    for pair in paths:
        draw(both, "domain", *pair)
    for first, second in zip(*paths, strict=True):
        assert first.read_bytes() == second.read_bytes()
    assert b"CreationDate" not in paths[0][0].read_bytes()


def test_a_server_is_beaten_by_one_that_is_as_good_in_both_and_surely_where_an_interval_lies_apart() -> None:
    servers = pd.DataFrame({"x": [1.0, 2.0, 3.0, 3.0], "accuracy": [0.5, 0.5, 0.4, 0.4]})
    wide = servers.assign(x_low=servers["x"] - 2, x_high=servers["x"] + 2, accuracy_low=0.1, accuracy_high=0.9)
    narrow = wide.assign(x_low=servers["x"] - 0.1, x_high=servers["x"] + 0.1)
    unknown = wide.assign(**dict.fromkeys(("x_low", "x_high", "accuracy_low", "accuracy_high"), np.nan))
    for frame, surely in ((wide, False), (narrow, True), (unknown, False)):
        more, less = dominated(frame, more_is_better=True), dominated(frame, more_is_better=False)
        assert more[0].tolist() == [True, False, False, False] and more[1].tolist() == [surely, False, False, False]
        assert less[0].tolist() == [False, True, True, True] and less[1].tolist() == [False, surely, surely, surely]


@pytest.mark.parametrize("missing", ["energy_per_answer", "accuracy"])
def test_a_panel_is_left_out_where_no_server_has_its_metric_and_empty_without_accuracy(
    plain: Study, missing: str
) -> None:
    ends = [f"{missing}{end}" for end in ("", "_low", "_high")]
    figure = pareto(plain.setups.assign(**dict.fromkeys(ends, np.nan)), plain.pairs)
    labels = [ax.get_xlabel().split("\n")[0] for ax in figure.axes]
    assert ("Energy an answer (J)" in labels) == (missing == "accuracy")
    empty = [text.get_text() for ax in figure.axes for text in ax.texts if text.get_text() == "no data"]
    assert len(empty) == (len(figure.axes) if missing == "accuracy" else 0)


def test_what_is_too_high_for_a_page_becomes_a_page_a_pair(
    plain: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pair, roles), *_ = plain.pairs.items()
    twins = {name: f"twin-{name}" for name in roles.values()}
    domain = plain.by["domain"]
    frame = pd.concat([domain, domain.assign(model=domain["model"].map(twins))], ignore_index=True)
    pairs = {pair: roles, "twin": {role: twins[name] for role, name in roles.items()}, "not measured": {"llm": "other"}}
    sizes = {}
    for height in (100.0, 1.0):
        monkeypatch.setattr(style, "HEIGHT", height)
        pdf, png = tmp_path / f"{height}.pdf", tmp_path / f"{height}.png"
        figures.draw(FIGURES["domain"].function, [frame], pairs, pdf, png)
        with Image.open(png) as picture:
            sizes[height] = (pdf.read_bytes().count(b"/Type /Page "), picture.width)
    assert sizes[100.0][0] == 1 and sizes[1.0] == (2, sizes[100.0][1])


def test_figure_of_two_setups_is_refused(both: Study) -> None:
    other = both.summary.assign(setup="kv-fp8")
    with pytest.raises(ValueError, match="setup"):
        style.with_roles(pd.concat([both.summary, other]), both.pairs)


def test_a_model_of_two_pairs_is_shown_in_both() -> None:
    frame = pd.DataFrame({"experiment": ["e"], "quantization": ["q"], "setup": ["s"], "model": ["base"]})
    pairs = {"a": {"llm": "base", "rllm": "x"}, "b": {"llm": "base", "rllm": "y"}}
    assert style.with_roles(frame, pairs)[["pair", "role"]].to_numpy().tolist() == [["a", "llm"], ["b", "llm"]]
