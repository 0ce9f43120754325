"""Tables and figures made of a synthetic study: what stands in them, with one engine and with two."""

from __future__ import annotations

from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import run_fixtures as synthetic
from rllm_serving.analysis.comparison import compare
from rllm_serving.analysis.decomposition import why
from rllm_serving.analysis.points import breakdown, summary
from rllm_serving.analysis.request_metrics import latencies
from rllm_serving.analysis.run_data import Observed
from rllm_serving.report import comparison_tables as comparisons
from rllm_serving.report import tables
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

TWO_PAIRS = synthetic.PAIRS | {"big": {"llm": "big_llm", "rllm": "big_rllm"}}
CASES: dict[str, dict[str, Any]] = {
    "one-engine": {"engines": ("vllm",), "pairs": synthetic.PAIRS},
    "two-engines": {"engines": ("vllm", "sglang"), "pairs": synthetic.PAIRS},
    "two-pairs": {"engines": ("vllm", "sglang"), "pairs": TWO_PAIRS},
    "some-failed": {"engines": ("vllm",), "pairs": synthetic.PAIRS, "fail": 0.4},
    "all-failed": {"engines": ("vllm",), "pairs": synthetic.PAIRS, "fail": 1.1},
}


def _as_setup(run: tuple, setup: str, quantization: str = "bf16") -> tuple:
    """The same run under the name of another setup and weight format."""
    names = {"setup": setup, "quantization": quantization}
    frame = run[0].to_pandas().assign(**names)
    frame["finished"] += 0.01
    return pa.Table.from_pandas(frame, preserve_index=False), *(part.assign(**names) for part in run[1:])


FIGURES = ["budget", "batch", "timeline", "stragglers", "difficulty", "domain", "engines", "optimisations", "traffic"]


class Study:
    def __init__(self, **options: Any) -> None:
        small = {"loads": (4, 8), "budgets": (32, 512), "repeats": 1, "questions": 8}
        self.pairs, runs = options["pairs"], synthetic.study(**(small | options))
        self.summary = pd.concat([summary(Observed(*run)) for run in runs], ignore_index=True)
        self.requests = pd.concat([latencies(run[0]) for run in runs])
        self.server = pd.concat([run[2] for run in runs])
        self.by = {
            by: pd.concat([breakdown(Observed(*run[:2]), by) for run in runs]) for by in ("difficulty", "domain")
        }
        self.runs = runs

    @cached_property
    def versus(self) -> pd.DataFrame | None:
        """SGLang against vLLM."""
        sides = {run[3]["server"]["engine"] + run[3]["server"]["model"]: Observed(*run[:3]) for run in self.runs}
        models = [model for pair in self.pairs.values() for model in pair.values()]
        both = [compare(sides["sglang" + name], sides["vllm" + name]) for name in models if "sglang" + name in sides]
        return pd.concat(both, ignore_index=True) if both else None

    @cached_property
    def changes(self) -> pd.DataFrame:
        """A setup and a weight format against the baseline."""
        fast = [run[:3] for run in self.runs if run[3]["server"]["engine"] == "vllm"]
        setups = [_as_setup(run, "spec") for run in fast] + [_as_setup(run, "baseline", "int8") for run in fast]
        return pd.concat([compare(Observed(*one), Observed(*base)) for one, base in zip(setups, fast * 2, strict=True)])

    @cached_property
    def stream(self) -> pd.DataFrame:
        """The summary as if its batches had been streams, one of them beyond a gate."""
        names = {1: "open-0.7x-gamma1", 4: "open-0.7x-gamma0.25", 16: "trace-2rps-real"}
        frame = self.summary.assign(load=[names.get(size, "open-0.7x-gamma0.1") for size in self.summary["load_size"]])
        late = frame["load"] == "open-0.7x-gamma0.25"
        return frame.assign(goodput_share=0.5, invalid=np.where(late, "schedule_lag_p99_s 90 ms, allowed 20 ms", None))

    def draw(self, name: str, pdf: Path, png: Path) -> None:
        frames: dict[str, tuple[Any, ...]] = {
            "budget": (budget, self.summary),
            "batch": (batch, self.summary),
            "timeline": (timeline, self.server, self.summary),
            "stragglers": (stragglers, self.requests, self.summary),
            "difficulty": (difficulty, self.by["difficulty"]),
            "domain": (domain, self.by["domain"]),
            "engines": (engines,),
            "optimisations": (optimisations,),
            "traffic": (traffic, self.stream),
        }
        module, *data = frames[name]
        data += {"engines": lambda: [self.versus], "optimisations": lambda: [self.changes]}.get(name, list)()
        module.draw(*data, self.pairs, pdf, png)


@pytest.fixture(scope="module")
def both() -> Study:
    return Study(**CASES["two-engines"])


@pytest.fixture(scope="module", params=CASES)
def study(request: pytest.FixtureRequest) -> Study:
    return Study(**CASES[request.param])


@pytest.fixture(scope="module")
def plain() -> Study:
    return Study(**CASES["one-engine"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_written(study: Study, name: str, tmp_path: Path) -> None:
    if name == "engines" and study.versus is None:
        pytest.skip("one engine")
    if name == "optimisations" and len(study.runs) > 2:
        pytest.skip("the same panels as with one engine and one pair")
    pdf, png = tmp_path / "a.pdf", tmp_path / "a.png"
    study.draw(name, pdf, png)
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
        plain.draw("domain", *pair)
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


def test_csv_keeps_raw_numbers_and_blanks(plain: Study) -> None:
    frame = plain.summary.copy()
    frame.loc[0, ["ttfvt_mean", "ttfvt_mean_low", "ttfvt_mean_high"]] = np.nan
    table = tables.main(frame)
    read = pd.read_csv(StringIO(tables.csv(table)))
    assert read["tps"].to_numpy() == pytest.approx(table.frame["tps"].to_numpy())
    assert {"tps_low", "tps_high"} <= set(read.columns)
    assert read["ttfvt_mean"].isna().sum() == table.frame["ttfvt_mean"].isna().sum() > 0


def test_missing_is_a_dash_for_readers(plain: Study) -> None:
    table = tables.main(plain.summary.assign(tps=np.nan).iloc[:1])
    column = table.metrics.index("tps") + len(table.keys)
    assert tables.markdown(table).splitlines()[2].split(" | ")[column] == tables.DASH
    assert " -- " in tables.latex(table)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.12345, 0.1, 0.15), "0.123 [0.100, 0.150]"),
        ((1234.5, 1200.0, 1300.0), "1234 [1200, 1300]"),
        ((12.345,), "12.3"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((float("nan"),), tables.DASH),
    ],
)
def test_cells(numbers: tuple[float, ...], text: str) -> None:
    assert tables.cell(*numbers) == text


def test_latex_is_escaped(plain: Study) -> None:
    table = tables.main(plain.summary.assign(dataset="50%_of & {a}#1$^~\\").iloc[:1])
    text = tables.latex(table)
    assert r"50\%\_of \& \{a\}\#1\$\textasciicircum{}\textasciitilde{}\textbackslash{}" in text
    assert r"Accuracy (\%)" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_markdown_cells_cannot_break_the_table(plain: Study) -> None:
    lines = tables.markdown(tables.main(plain.summary.assign(dataset="a|b").iloc[:1])).splitlines()
    assert "a\\|b" in lines[2]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_setup_is_a_column_only_where_it_varies(plain: Study) -> None:
    other = plain.summary.assign(setup="kv-fp8")
    assert "setup" not in tables.main(plain.summary).keys
    assert "setup" in tables.main(pd.concat([plain.summary, other])).keys


def test_tables_of_parts_and_stragglers_are_written(study: Study, tmp_path: Path) -> None:
    made = [tables.stragglers(study.summary), tables.difficulty(study.by["difficulty"])]
    made += [tables.domain(study.by["domain"])]
    made += [] if study.versus is None else [comparisons.engines(study.versus), comparisons.agreement(study.versus)]
    for table in made:
        paths = [tmp_path / f"t.{end}" for end in ("csv", "md", "tex")]
        tables.write(table, *paths)
        counts = [len(path.read_text().splitlines()) for path in paths]
        assert counts == [len(table.frame) + extra for extra in (1, 2, 6)]


def test_a_comparison_says_where_nothing_changed(both: Study) -> None:
    assert tables.cell(1.01, 0.97, 1.05, no_change=1.0) == f"{tables.ABOUT} 1.01 [0.97, 1.05]"
    assert tables.cell(1.03, 1.01, 1.05, no_change=1.0) == "1.03 [1.01, 1.05]"
    assert tables.cell(1.03, no_change=1.0) == "1.03"
    assert both.versus is not None
    table = comparisons.engines(both.versus)
    assert table.keys[:3] == ["engine", "against", "model"] and len(table.frame) == 2 * 4 * 2 * 2
    slow = table.frame[table.frame["budget"] == 512]
    assert (slow["tpot_ratio_low"] > 1).all()
    assert tables.ABOUT in tables.markdown(table) and r"$\approx$" in tables.latex(table)
    assert "accuracy_difference_low" in tables.csv(table).splitlines()[0]
    agreement = comparisons.agreement(both.versus)
    assert set(agreement.metrics) < set(agreement.frame.columns) and (agreement.frame["same_answer"] == 1).all()


def test_a_server_that_cannot_be_stands_in_the_table_with_its_reason(plain: Study) -> None:
    marked = {"experiment": "pilot-budget", "engine": "sglang", "model": "micro_llm", "quantization": "bf16"}
    marked |= {"setup": "spec", "reason": "needs CUDA"}
    table = tables.main(pd.concat([plain.summary, pd.DataFrame([marked])], ignore_index=True))
    (line,) = [line for line in tables.markdown(table).splitlines() if "sglang" in line]
    assert "not supported: needs CUDA" in line and line.count(f" {tables.DASH} ") == len(table.metrics) - 1 + 3
    other = next(line for line in tables.markdown(table).splitlines() if "vllm" in line)
    assert "512" in other or "32 |" in other
    assert ".0 |" not in other.split("batch")[1].split("|")[1]
    assert "needs CUDA" in tables.csv(table)


def test_the_papers_table_starts_with_the_baseline_and_tells_changes(plain: Study) -> None:
    reason = {"experiment": "pilot-budget", "engine": "vllm", "model": "micro_llm", "quantization": "fp4"}
    reason |= {"setup": "baseline", "reason": "no kernel"}
    table = comparisons.optimisations(pd.concat([plain.changes, pd.DataFrame([reason])], ignore_index=True))
    assert len(table.frame) == 2 * 4 * 2 * 2 * 3 + 1
    first = table.frame.groupby(["model", "dataset", "load_size", "budget"])["setup"].first()
    assert (first == "baseline").all()
    lines = tables.markdown(table).splitlines()
    spec = next(line for line in lines if "| spec |" in line)
    assert f"({tables.ABOUT} 0 [0, 0])" in spec and "(x1." in spec
    assert not any("(" in line for line in lines[2:] if "bf16 | baseline" in line)
    assert sum("not supported: no kernel" in line for line in lines) == 1
    raw = pd.read_csv(StringIO(tables.csv(table)))
    assert {"tps", "tps_low", "tps_ratio", "tps_ratio_high", "accuracy_difference_low", "memory_max"} <= set(
        raw.columns
    )
    changed = raw[raw["setup"] == "spec"]
    assert (changed["e2e_mean_ratio_low"] > 1).all()
    assert raw[(raw["setup"] == "baseline") & (raw["quantization"] == "bf16")]["tps_ratio"].isna().all()


def test_the_reasons_stand_in_a_table_with_what_the_engine_chose(plain: Study) -> None:
    fast = [Observed(*run[:3]) for run in plain.runs]
    reasons = pd.concat([why(one, one) for one in fast]).assign(setup="spec", kernels="linear Fast")
    table = comparisons.why(reasons)
    lines = tables.markdown(table).splitlines()
    assert len(lines) == 2 + len(reasons) and all("| linear Fast |" in line for line in lines[2:])
    assert "x" not in lines[2].split("linear Fast")[1]
    raw = pd.read_csv(StringIO(tables.csv(table)))
    parts = raw[["first_token", "thinking", "answer", "speed"]].sum(axis=1)
    assert parts.to_numpy() == pytest.approx(raw["delta_e2e"].to_numpy())
