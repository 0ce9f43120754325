"""Tables made of a made-up study: what stands in them, with one engine and with two."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.study_fixtures import Study
from rllm_serving.analysis.decomposition import decompose, with_intervals
from rllm_serving.analysis.interaction import interactions
from rllm_serving.analysis.server_data import ServerData
from rllm_serving.analysis.verdicts import with_verdicts
from rllm_serving.report import table_forms, tables


def test_csv_keeps_raw_numbers_and_blanks(plain: Study) -> None:
    frame = plain.summary.copy()
    frame.loc[0, ["ttfvt_mean", "ttfvt_mean_low", "ttfvt_mean_high"]] = np.nan
    table = tables.main(frame)
    read = pd.read_csv(StringIO(table_forms.csv(table)))
    assert read["output_throughput"].to_numpy() == pytest.approx(table.frame["output_throughput"].to_numpy())
    assert {"output_throughput_low", "output_throughput_high"} <= set(read.columns)
    assert read["ttfvt_mean"].isna().sum() == table.frame["ttfvt_mean"].isna().sum() > 0


def cells(line: str) -> list[str]:
    """A row of a pipe table without its padding."""
    return [text.strip() for text in line.strip("| ").split("|")]


def test_missing_is_a_dash_for_readers(plain: Study) -> None:
    table = tables.main(plain.summary.assign(output_throughput=np.nan).iloc[:1])
    column = table.metrics.index("output_throughput") + len(table.keys)
    assert cells(table_forms.markdown(table).splitlines()[2])[column] == table_forms.DASH
    assert " -- " in table_forms.latex(table)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.12345, 0.1, 0.15), "0.123 [0.100, 0.150]"),
        ((1234.5, 1200.0, 1300.0), "1234 [1200, 1300]"),
        ((12.345,), "12.3"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((0.0, 0.0, 0.265), "0.000 [0.000, 0.265]"),
        ((0.0, -2.49, 2.49), "0.00 [-2.49, 2.49]"),
        ((float("nan"),), table_forms.DASH),
    ],
)
def test_cells(numbers: tuple[float, ...], text: str) -> None:
    assert table_forms.cell(*numbers) == text


def test_counts_are_whole_numbers(plain: Study) -> None:
    table = tables.difficulty(plain.by["difficulty"])
    column = table.metrics.index("num_requests") + len(table.keys)
    counts = [cells(line)[column] for line in table_forms.markdown(table).splitlines()[2:]]
    assert counts == [str(count) for count in table.frame["num_requests"]]


def test_latex_is_escaped(plain: Study) -> None:
    table = tables.main(plain.summary.assign(dataset="50%_of & {a}#1$^~\\").iloc[:1])
    text = table_forms.latex(table)
    assert r"50\%\_of \& \{a\}\#1\$\textasciicircum \textasciitilde \textbackslash " in text
    assert r"Accuracy (\%)" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_markdown_cells_cannot_break_the_table(plain: Study) -> None:
    lines = table_forms.markdown(tables.main(plain.summary.assign(dataset="a|b").iloc[:1])).splitlines()
    assert "a\\|b" in lines[2]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_setup_is_a_column_only_where_it_varies(plain: Study) -> None:
    other = plain.summary.assign(setup="kv-fp8")
    assert "setup" not in tables.main(plain.summary).keys
    assert "setup" in tables.main(pd.concat([plain.summary, other])).keys


def test_tables_of_parts_and_stragglers_are_written(study: Study, tmp_path: Path) -> None:
    made = [tables.stragglers(study.summary), tables.difficulty(study.by["difficulty"])]
    made += [tables.domain(study.by["domain"]), tables.worth(study.summary)]
    made += [] if study.versus is None else [tables.engines(study.versus), tables.agreement(study.versus)]
    for table in made:
        paths = [tmp_path / f"t.{end}" for end in ("csv", "md", "tex")]
        table_forms.write(table, *paths)
        counts = [len(path.read_text().splitlines()) for path in paths]
        assert counts == [len(table.frame) + extra for extra in (1, 2, 6)]


def test_what_a_dollar_buys_is_told_only_where_there_is_a_price(plain: Study) -> None:
    assert "correct_per_dollar" not in tables.worth(plain.summary).metrics
    priced = tables.worth(plain.summary.assign(correct_per_dollar=1000.0))
    assert "correct_per_dollar" in priced.metrics and "Correct a dollar (1/$)" in table_forms.markdown(priced)
    assert r"Correct a dollar (1/\$)" in table_forms.latex(priced)


def test_a_row_tells_the_thinking_tokens_and_their_part_of_the_change(plain: Study) -> None:
    table = tables.decomposition(plain.parts)
    names = table.metrics
    assert names.index("thinking") == names.index("thinking_ratio") + 1
    thinks = table.frame[table.frame["model"] == "micro_rllm"]
    assert thinks[["thinking_ratio_low", "thinking_ratio_high"]].notna().all(axis=None)
    assert "reasoning_tokens_mean" in tables.optimisations(plain.changes).metrics


def test_a_comparison_says_its_verdict(both: Study) -> None:
    assert both.versus is not None
    table = tables.engines(both.versus)
    assert table.keys[:3] == ["engine", "against", "model"] and len(table.frame) == 2 * 4 * 2 * 2
    slow = table.frame[table.frame["budget"] == 512]
    assert (slow["tpot_ratio"] > 1).all() and slow["tpot_ratio_low"].notna().all()
    assert all(f"] {word} " in table_forms.markdown(table) for word in ("changed", "undecided"))
    assert "changed" in table_forms.latex(table)
    raw = pd.read_csv(StringIO(table_forms.csv(table)))
    assert raw["tpot_ratio_verdict"].tolist() == table.frame["tpot_ratio_verdict"].tolist()
    assert "accuracy_difference_low" in raw.columns
    agreement = tables.agreement(both.versus)
    assert set(agreement.metrics) < set(agreement.frame.columns) and (agreement.frame["same_answer"] == 1).all()


def test_an_interaction_has_a_verdict_and_the_noise_floor_a_row_a_model(plain: Study) -> None:
    found = with_verdicts(interactions(plain.changes.drop(columns=["verdict", "p_adjusted"]), plain.pairs, plain.rules))
    table = tables.interaction(found)
    assert len(table.frame) == 4 * 2 * 2 * 2 and table.frame["tpot_interaction_verdict"].notna().any()
    assert "Accuracy, RLLM - LLM (points)" in table_forms.markdown(table).splitlines()[0]
    floor = tables.noise(plain.starts)
    lines = table_forms.markdown(floor).splitlines()
    assert len(lines) == 2 + 2 and cells(lines[2])[2] == "2"
    assert (floor.frame["noise_e2e_latency"] > 0).all()


def test_a_server_that_cannot_be_stands_in_the_table_with_its_reason(plain: Study) -> None:
    marked = {"experiment": "pilot-budget", "engine": "sglang", "model": "micro_llm", "quantization": "bf16"}
    marked |= {"setup": "spec", "reason": "needs CUDA"}
    table = tables.main(pd.concat([plain.summary, pd.DataFrame([marked])], ignore_index=True))
    (line,) = [line for line in table_forms.markdown(table).splitlines() if "sglang" in line]
    assert "not supported: needs CUDA" in line and line.count(f" {table_forms.DASH} ") == len(table.metrics) - 1 + 3
    other = next(line for line in table_forms.markdown(table).splitlines() if "vllm" in line)
    # A row without a budget does not make the other rows' budgets decimals.
    assert cells(other)[len(table.keys) - 1] in ("32", "512")
    assert "needs CUDA" in table_forms.csv(table)


def test_the_papers_table_starts_with_the_baseline_and_tells_changes(plain: Study) -> None:
    reason = {"experiment": "pilot-budget", "engine": "vllm", "model": "micro_llm", "quantization": "fp4"}
    reason |= {"setup": "baseline", "reason": "no kernel"}
    table = tables.optimisations(pd.concat([plain.changes, pd.DataFrame([reason])], ignore_index=True))
    assert len(table.frame) == 2 * 4 * 2 * 2 * 3 + 1
    first = table.frame.groupby(["model", "dataset", "load_level", "budget"])["setup"].first()
    assert (first == "baseline").all()
    lines = table_forms.markdown(table).splitlines()
    spec = next(line for line in lines if "spec" in cells(line))
    assert "(x1." in spec and ("undecided)" in spec or "changed)" in spec)
    assert not any("(" in line for line in lines[2:] if cells(line)[5:7] == ["bf16", "baseline"])
    assert sum("not supported: no kernel" in line for line in lines) == 1
    raw = pd.read_csv(StringIO(table_forms.csv(table)))
    assert {
        "output_throughput",
        "output_throughput_low",
        "output_throughput_ratio",
        "output_throughput_ratio_high",
        "accuracy_difference_low",
        "memory_max",
    } <= set(raw.columns)
    changed = raw[raw["setup"] == "spec"]
    assert (changed["e2e_latency_mean_ratio"] > 1).all() and changed["e2e_latency_mean_ratio_verdict"].notna().all()
    assert raw[(raw["setup"] == "baseline") & (raw["quantization"] == "bf16")]["output_throughput_ratio"].isna().all()


def test_the_reasons_stand_in_a_table_with_what_the_engine_chose(plain: Study) -> None:
    fast = [ServerData(*run[:3]) for run in plain.runs]
    split = pd.concat([decompose(one, one) for one in fast], ignore_index=True)
    reasons = with_intervals(split).assign(setup="spec", kernels="linear Fast")
    table = tables.decomposition(reasons)
    lines = table_forms.markdown(table).splitlines()
    assert len(lines) == 2 + len(reasons) and all("linear Fast" in cells(line) for line in lines[2:])
    assert "x" not in lines[2].split("linear Fast")[1]
    raw = pd.read_csv(StringIO(table_forms.csv(table)))
    parts = raw[["queue_and_prefill", "thinking", "answer", "speed"]].sum(axis=1)
    assert parts.to_numpy() == pytest.approx(raw["delta_e2e_latency"].to_numpy())
