"""The table and the figure of two studies side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from helpers.analysed import MARGINS
from helpers.two_studies import study
from rllm_serving.analysis.studies import compare
from rllm_serving.report import figures, studies
from rllm_serving.report.figures import studies as drawing

PAIRS = {"tiny": {"llm": "m_llm", "rllm": "m_rllm"}}


@pytest.fixture(scope="module")
def comparison() -> pd.DataFrame:
    then = study({}, ["a", "b"], setups=("baseline", "fast"))
    now = study({"e2e_latency": 1.5}, ["a", "b"], setups=("baseline", "fast"), right=0.6, seed=1)
    late = now.summary.assign(invalid=pd.Series("late", now.summary.index).where(now.summary.index == 0))
    return compare(then, replace(now, summary=late), MARGINS)[0]


def test_the_table_is_for_reading_and_has_its_raw_numbers(comparison: pd.DataFrame, tmp_path: Path) -> None:
    paths = [tmp_path / f"t.{end}" for end in ("csv", "md", "tex")]
    studies.write(comparison, *paths)
    read = pd.read_csv(paths[0])
    assert len(read) == len(comparison) and {"ratio_low", "how", "p_adjusted", "smallest_effect"} <= set(read.columns)
    lines = paths[1].read_text().splitlines()
    assert lines[0].split("|")[9].strip() == "Metric" and len(lines) == len(comparison) + 2
    rows = [[text.strip() for text in line.strip("| ").split("|")] for line in lines[2:]]
    accuracy = next(row for row in rows if row[8] == "Accuracy (%)")
    assert accuracy[9] == "50.0 [40.0, 60.0]" and accuracy[11].startswith("10.0 [") and accuracy[11].endswith("points")
    slower = [row for row in rows if row[8] == "E2E latency (s)"]
    assert all(row[11].startswith("x1.") for row in slower) and slower[-1][12] == "changed"
    assert sum("†" in " ".join(row) for row in rows) == (comparison["invalid"].notna()).sum() > 0
    assert paths[2].read_text().count(r"\toprule") == 1


@pytest.mark.filterwarnings("error")
def test_the_figure_has_a_line_a_server_and_dataset(comparison: pd.DataFrame, tmp_path: Path) -> None:
    figure = drawing.studies(comparison, PAIRS)
    texts = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert texts == ["e, vLLM", "a", "a, fast", "b", "b, fast"]
    figures.draw("studies:studies", [comparison], PAIRS, tmp_path / "a.pdf", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000


def test_studies_with_nothing_in_common_have_a_figure_that_says_so(comparison: pd.DataFrame) -> None:
    figure = drawing.studies(comparison.iloc[:0], PAIRS)
    assert [text.get_text() for text in figure.texts] == ["The two studies have nothing that may be compared"]
