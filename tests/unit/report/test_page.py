"""What the page shows of a made-up study; how it behaves in a browser is tested in tests/browser."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.page_study import EXPERIMENT, write
from helpers.study_fixtures import Study
from rllm_serving.report import matrix, page, page_claims, page_facts, page_tables, pictures, table_forms, tables


@pytest.fixture(scope="module")
def made(both: Study, tmp_path_factory: pytest.TempPathFactory) -> tuple[page.Files, page.StudyFacts]:
    return write(both, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def context(made: tuple[page.Files, page.StudyFacts]) -> dict[str, Any]:
    return page.context(*made)


def test_the_page_is_one_file_that_loads_nothing(made: tuple[page.Files, page.StudyFacts]) -> None:
    text = page.render(*made)
    assert 'src="http' not in text and '<link rel="stylesheet' not in text and 'src="figures' not in text
    for words in ("Study <strong>made-up", "x0.86 [0.83, 0.88]", "not tested", "A/A", "Measure it again"):
        assert words in text


def test_a_study_without_claims_and_without_identical_servers_says_so(
    made: tuple[page.Files, page.StudyFacts],
) -> None:
    files, study = made
    text = page.render(dataclasses.replace(files, claims=[], false_positives=[], tables=[], figures=[]), study)
    for words in ("no claims to test", "compares no setups", "No server of this study is the same"):
        assert words in text


def test_what_was_measured_is_counted(context: dict[str, Any], both: Study) -> None:
    total = context["measured"][-1]
    assert (total["servers"], total["starts"], total["points"]) == (4, 4, len(both.starts))
    assert total["requests"] == both.starts["num_requests"].sum()
    assert total["starting"] == "40 s" and total["measuring"] == "8 min"
    assert context["span"]["took"] == "6 min" and context["seeds"] == ["7"] and context["commits"] == ["abc123"]


def test_invalid_points_are_counted_by_reason() -> None:
    reasons = ["steal_rate 5 %, allowed 2 %", "steal_rate 3 %; loop_lag_p99_s 90 ms", "something new", None]
    reasons += ["served otherwise than asked: prefix_cache asked true, effective false; loop_lag_p99_s 90 ms"]
    rows = page_facts.invalid_reasons(pd.DataFrame({"invalid": reasons}))
    assert [(row["gate"], row["points"], row["share"]) for row in rows] == [
        ("steal_rate", 2, "40%"),
        ("loop_lag_p99_s", 2, "40%"),
        ("served otherwise than asked", 1, "20%"),
        ("other", 1, "20%"),
    ]


def test_options_that_ran_otherwise_are_shown(made: tuple[page.Files, page.StudyFacts], tmp_path: Path) -> None:
    assert "Every server ran with the options that it was asked for" in page.render(*made)
    files, study = made
    options = pd.concat(map(pd.read_csv, files.options)).assign(effective="false", differs=True, compared=True)
    options.to_csv(tmp_path / "options.csv", index=False)
    text = page.render(dataclasses.replace(files, options=[tmp_path / "options.csv"]), study)
    assert "otherwise than asked; its points are invalid" in text and "tables/effective-options.csv" in text


def test_verdicts_have_their_own_hypotheses_as_evidence(context: dict[str, Any]) -> None:
    memory, untested = context["claims"]["claims"]
    vllm, sglang = memory["verdicts"]
    assert [row["hypothesis"] for row in vllm["rows"]] == ["C1a"] and sglang["rows"] == []
    assert vllm["rows"][0]["effect_text"] == "x0.86 [0.83, 0.88]"
    assert untested["verdicts"][0]["mark"] == page_claims.MARKS["not tested"]


def test_a_table_read_again_reads_as_it_was_written(both: Study, tmp_path: Path) -> None:
    for table in (tables.main(both.summary), tables.optimisations(both.changes), tables.noise(both.starts)):
        (tmp_path / "table.csv").write_text(table_forms.csv(table))
        read = page_tables.read(tmp_path / "table.csv")
        assert (read.keys, read.metrics, read.changes) == (table.keys, table.metrics, table.changes)
        assert table_forms.markdown(read) == table_forms.markdown(table)


def test_cells_are_sorted_by_their_number_and_missing_ones_apart(both: Study, tmp_path: Path) -> None:
    table = tables.main(both.summary.assign(output_throughput=float("nan")))
    (tmp_path / "table.csv").write_text(table_forms.csv(table))
    shown = page_tables.shown(tmp_path / "table.csv", "link")
    cells = dict(zip((cell["text"] for cell in shown["head"]), shown["body"][0], strict=True))
    accuracy = cells["Accuracy (%)"]
    assert accuracy["text"].startswith(accuracy["sort"] + " [")
    assert cells["Throughput (tokens/s)"] == {"text": table_forms.DASH, "sort": ""}


def test_a_long_table_is_a_link(both: Study, tmp_path: Path) -> None:
    table = tables.main(pd.concat([both.summary] * 3))
    (tmp_path / "table.csv").write_text(table_forms.csv(table))
    shown = page_tables.shown(tmp_path / "table.csv", "tables/long.csv")
    assert shown["rows"] > page_tables.MAX_ROWS and shown["body"] == [] and shown["link"] == "tables/long.csv"


def test_the_matrix_has_both_models_of_a_pair_side_by_side(context: dict[str, Any], both: Study) -> None:
    (found,) = context["matrices"]
    assert (found["engine"], found["pair"], found["experiment"]) == ("vllm", "micro", EXPERIMENT)
    assert {(row["label"], row["identical"]) for row in found["rows"]} == {("spec", True), ("int8", False)}
    row = found["rows"][0]
    llm, rllm = row["cells"][found["metrics"].index("E2E latency mean")]
    assert llm["value"].startswith("x") and llm != rllm
    assert {cell["verdict"] for row in found["rows"] for pair in row["cells"] for cell in pair if cell} <= {
        *("changed", "equivalent", "undecided"),
        None,
    }


@pytest.mark.parametrize(
    ("ratio", "verdict", "mark"),
    [(1.2, "changed", "▲"), (0.8, "changed", "▼"), (1.0, "equivalent", "="), (1.0, None, "")],
)
def test_a_change_has_a_sign_beside_its_colour(ratio: float, verdict: str | None, mark: str) -> None:
    keys = {"engine": "vllm", "model": "a", "dataset": "d", "load": "l", "budget": 32.0, "quantization": "bf16"}
    row = keys | {"setup": "fast", "tpot_mean": 1.0, "tpot_mean_ratio": ratio, "tpot_mean_ratio_verdict": verdict}
    row |= {"tpot_mean_ratio_low": ratio - 0.1, "tpot_mean_ratio_high": ratio + 0.1}
    table = table_forms.Table(list(keys), ["tpot_mean"], pd.DataFrame([row]), changes=True)
    (found,) = matrix.matrices(table, {"pair": {"llm": "a", "rllm": "b"}}, [])
    assert found["rows"][0]["cells"][0][1] is None
    assert found["rows"][0]["cells"][0][0]["mark"] == mark


def test_figures_shrink_until_they_fit(
    made: tuple[page.Files, page.StudyFacts], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = made[0].figures
    whole = pictures.embed(figures)
    assert {picture["width"] for picture in whole.values()} == {pictures.WIDTHS[0]}
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)
    assert {picture["width"] for picture in pictures.embed(figures).values()} == {pictures.WIDTHS[-1]}
