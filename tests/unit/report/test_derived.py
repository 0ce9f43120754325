"""Derived budgets in tables and figures: marked, without times."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.study_fixtures import Study
from matplotlib.figure import Figure
from rllm_serving.analysis.derived_check import COLUMNS
from rllm_serving.analysis.metrics import METRICS, REGISTRY
from rllm_serving.report import page_tables, table_forms, tables
from rllm_serving.report.catalogue import TABLES as CATALOGUE
from rllm_serving.report.figures import style, sweep

OVER_STARTS = [name + end for name, m in METRICS.items() if m.units == "starts" for end in ("", "_low", "_high")]


@pytest.fixture(scope="module")
def derived(plain: Study) -> pd.DataFrame:
    """The summary as if its smaller budget had been derived."""
    frame = plain.summary.copy()
    small = frame["budget"] == 32
    frame.loc[small, OVER_STARTS] = np.nan
    return frame.assign(derived_from=np.where(small, 512.0, np.nan))


def test_a_derived_row_is_marked_and_has_no_times(derived: pd.DataFrame) -> None:
    table = tables.main(derived)
    assert table.keys[-2:] == ["budget", "derived_from"]
    rows = table_forms.for_reading(table)
    small = rows[rows["Budget (tokens)"] == "32"]
    assert set(small["Cut from (tokens)"]) == {"512"} and set(small["TPOT mean (ms)"]) == {table_forms.DASH}
    assert set(rows["Cut from (tokens)"]) == {"512", table_forms.DASH} and table_forms.DASH not in set(
        small["Accuracy (%)"]
    )
    raw = pd.read_csv(StringIO(table_forms.csv(table)))
    assert raw.loc[raw["budget"] == 32, "tpot_mean"].isna().all()


def test_a_study_that_derives_nothing_has_no_such_column(plain: Study) -> None:
    assert "derived_from" not in tables.main(plain.summary).keys


def test_tables_of_times_have_measured_rows_alone(derived: pd.DataFrame) -> None:
    assert set(tables.stragglers(derived).frame["budget"]) == {512}


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_figure_over_budgets_marks_what_was_derived(plain: Study, derived: pd.DataFrame) -> None:
    figure = sweep.budget(derived, plain.pairs)
    assert any("derived" in text for text in legend_texts(figure))
    assert not any("derived" in text for text in legend_texts(sweep.budget(plain.summary, plain.pairs)))
    accuracy, throughput = figure.axes[0], figure.axes[8]
    marked = [
        {str(line.get_marker()) for line in ax.lines if np.size(line.get_xdata())} & {*style.DERIVED_MARKERS.values()}
        for ax in (accuracy, throughput)
    ]
    assert marked == [{*style.DERIVED_MARKERS.values()}, set()]


def test_a_line_of_times_goes_on_over_derived_budgets(plain: Study) -> None:
    frame = plain.summary.copy()
    middle = frame[frame["budget"] == 32].assign(budget=64, derived_from=512.0)
    middle[OVER_STARTS] = np.nan
    figure = sweep.budget(pd.concat([frame, middle], ignore_index=True), plain.pairs)
    lines = [line for line in figure.axes[8].lines if line.get_linestyle() == "-"]
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in lines]
    assert drawn and all(len(values) == 2 and not np.isnan(values).any() for values in drawn)


def test_the_check_of_derived_budgets_is_a_table(tmp_path: Path) -> None:
    shares = {name: 3 if REGISTRY[name].unit in table_forms.COUNTED else 0.5 for name in COLUMNS if name in REGISTRY}
    server = {"experiment": "e", "engine": "vllm", "quantization": "bf16", "setup": "baseline", "draws": "same"}
    rows = [
        server | shares | {"model": "all", "dataset": "all", "load": "all", "quantization": "all", "setup": "all"},
        server | shares | {"model": "m", "dataset": "d", "load": "batch-4", "budget": 32, "derived_from": 512},
    ]
    table = tables.derived_budgets(pd.DataFrame(rows, columns=COLUMNS))
    assert table.keys == ["engine", "model", "dataset", "load", "budget", "derived_from", "draws"]
    read = table_forms.for_reading(table)
    assert read["Cut from (tokens)"].tolist() == [table_forms.DASH, "512"] and set(read["Same text (%)"]) == {"50.0"}
    assert set(read["Identical cells"]) == set(read["Cells"]) == {"3"}
    table_forms.write(table, *(tmp_path / f"a.{kind}" for kind in ("csv", "md", "tex")))
    again = page_tables.read(tmp_path / "a.csv")
    assert (again.keys, again.metrics) == (table.keys, table.metrics)
    assert CATALOGUE["derived_budgets"].sources == ("derived_budgets",)
