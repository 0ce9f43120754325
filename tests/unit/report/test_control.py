"""Tables and figures say which servers were not started here, and only where there are such."""

from __future__ import annotations

import pandas as pd
from rllm_serving.report import table_forms
from rllm_serving.report.control import with_control
from rllm_serving.report.figures import style
from rllm_serving.report.page_facts import lone_models


def table(**columns: list[str]) -> table_forms.Table:
    frame = pd.DataFrame({"engine": ["vllm", "far"], "model": ["m", "m"], **columns})
    keys = ["engine", *(name for name in ("against", "model") if name in frame)]
    return table_forms.Table(keys, [], frame)


def test_a_column_says_what_is_not_controlled() -> None:
    found = with_control(table())
    assert found.keys == ["engine", "control", "model"]
    assert list(found.frame["control"]) == ["started here", "not controlled"]
    assert table_forms.csv(found).splitlines()[0] == "engine,control,model"
    assert "| far      | not controlled | m       |" in table_forms.markdown(found)


def test_a_comparison_is_controlled_if_both_sides_are() -> None:
    frame = table(against=["far/bf16/baseline", "vllm/bf16/baseline"])
    assert list(with_control(frame).frame["control"]) == ["not controlled"] * 2


def test_without_such_servers_there_is_no_column() -> None:
    ours = table()
    ours = table_forms.Table(ours.keys, [], ours.frame.assign(engine=["vllm", "sglang"]))
    assert with_control(ours) is ours


def test_figures_name_them() -> None:
    assert style.ENGINES["vllm"] == "vLLM" and style.ENGINES["far"] == "far (not controlled)"
    frame = pd.DataFrame({"engine": ["far"], "role": ["rllm"], "pair": ["p"]})
    assert [entry.get_label() for entry in style.legend_handles(frame, True)] == ["RLLM", "far (not controlled)"]
    many = pd.DataFrame({"engine": [f"e{n}" for n in range(7)], "role": ["rllm"] * 7})
    assert len(style.series(many)) == 7  # more engines than line styles


def test_the_page_says_who_is_alone() -> None:
    pairs = {"a": {"llm": "x", "rllm": "y"}, "b": {"rllm": "z"}}
    assert lone_models(pairs) == [{"model": "z", "role": "LLM"}]
