"""Interactive charts of the page: Vega-Lite, made with Altair, with the data in them and no address to load from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from ..analysis.metric import ENDS
from ..analysis.metrics import REGISTRY
from .matrix import server_label, text_of

METRICS = ["accuracy", "answered_rate", "output_throughput", "ttfvt_mean", "tpot_mean", "e2e_latency_mean"]
METRICS += ["output_tokens_mean", "kv_cache_usage_max"]
KEYS = {
    "engine": "Engine",
    "pair": "Pair",
    "dataset": "Dataset",
    "load": "Load",
    "budget": "Budget",
    "server": "Server",
}
"""Fields that a reader may pick a value of."""
ALL = "all"
COLOURS = {"LLM": "#0072B2", "RLLM": "#D55E00"}
"""Of Okabe and Ito (2008), which the colour-blind tell apart."""


def library() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, in the versions that Altair writes charts for."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    # In the page, this would end the element that it stands in.
    bundle = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]  # its stub lacks a default
    return bundle.replace("</script", r"<\/script")


def explorer(summary: pd.DataFrame, pairs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the Vega-Lite chart of every condition of an experiment: one metric against what the experiment varies.

    A reader picks the metric, engine, pair, dataset and whatever else there are several of; a point tells its run
    folders, units and interval.

    Args:
        summary: `points.Tables.summary` of one experiment.
        pairs: pair -> role -> model.
    """
    frame = _rows(summary, pairs)
    metrics = [name for name in METRICS if frame[name].notna().any()]
    axis = next((name for name in ("budget", "load", "server") if frame[name].nunique() > 1), "model")
    order = list(dict.fromkeys(frame[axis]))
    picked = {name: label for name, label in KEYS.items() if name != axis and frame[name].nunique() > 1}
    titles = [REGISTRY[name].title for name in metrics]
    metric = alt.param(
        name="metric",
        value=metrics[0],
        bind=alt.binding_select(options=metrics, labels=titles, name="Metric "),
    )
    selects = [_select(name, label, list(dict.fromkeys(frame[name]))) for name, label in picked.items()]
    base = alt.Chart(_data(frame, metrics)).transform_calculate(**_calculated(str(summary["experiment"].iloc[0])))
    for name in picked:
        base = base.transform_filter(f"pick_{name} == '{ALL}' || datum.{name} == pick_{name}")
    scale = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    base = base.transform_filter("isValid(datum.value)").encode(
        x=alt.X(
            f"{axis}:O",
            sort=order,
            title=KEYS.get(axis, "Model"),
            axis=alt.Axis(labelAngle=0 if len(order) < 7 else -40),
        ),
        xOffset=alt.XOffset("side:N", sort=sorted(set(frame["side"]))),
        tooltip=[alt.Tooltip(f"{field}:N", title=title) for field, title in _tooltips(metrics).items()],
    )
    interval = base.mark_rule(strokeWidth=1.5, opacity=0.8).encode(
        y=alt.Y("low:Q", title=None, scale=alt.Scale(zero=False)),
        y2="high:Q",
        color=alt.Color("role:N", title="Model", scale=scale),
    )
    point = base.mark_point(size=70, strokeWidth=2, opacity=1).encode(
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
        shape=alt.Shape("engine:N", title="Engine"),
        # Both, for the fill of an invalid point is clear.
        fill=alt.Fill("role:N", title="Model", scale=scale),
        stroke=alt.Stroke("role:N", title="Model", scale=scale),
        fillOpacity=alt.condition("datum.invalid", alt.value(0), alt.value(1)),
    )
    names = alt.expr(f"{dict(zip(metrics, titles, strict=True))}[metric]")
    title = alt.Title(text=names, anchor="start", fontSize=13)
    chart = alt.layer(interval, point).add_params(metric, *selects)
    return dict(
        chart.properties(
            width="container",
            height=320,
            title=title,
            description="Every condition of this experiment, one metric at a time; the tables below have its numbers.",
        ).to_dict()
    )


def _select(name: str, label: str, values: list[str]) -> alt.Parameter:
    """A menu of the values of a field; engines and pairs are shown together at first."""
    together = name in ("engine", "pair")
    bind = alt.binding_select(options=[ALL, *values], name=f"{label} ")
    return alt.param(
        name=f"pick_{name}", value=ALL if together else values[-1] if name == "budget" else values[0], bind=bind
    )


def _rows(summary: pd.DataFrame, pairs: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Return the conditions with texts as keys, and metrics in the units that people read."""
    places = {model: (pair, role) for pair, models in pairs.items() for role, model in models.items()}
    frame = summary[summary["model"].isin(places)].sort_values(["load_level", "budget"], kind="stable")
    labels = zip(frame["quantization"], frame["setup"], strict=True)
    frame = frame.assign(
        pair=[places[model][0] for model in frame["model"]],
        role=[places[model][1].upper() for model in frame["model"]],
        budget=[
            text_of(float(budget)) + " (derived)" * pd.notna(source)
            for budget, source in zip(frame["budget"], frame["derived_from"], strict=True)
        ],
        server=[server_label(*label) for label in labels],
        invalid=["" if pd.isna(reason) else str(reason) for reason in frame["invalid"]],
    )
    frame["side"] = frame["role"] + " " + frame["engine"]
    for name in METRICS:
        for end in ENDS:
            column = frame[f"{name}{end}"] if f"{name}{end}" in frame else float("nan")
            frame[f"{name}{end}"] = column * REGISTRY[name].factor
    return frame


def _data(frame: pd.DataFrame, metrics: list[str]) -> alt.InlineData:
    """Return the rows as CSV, which takes a third of the room of JSON."""
    numbers = [f"{name}{end}" for name in metrics for end in ENDS]
    texts = [*KEYS, "model", "role", "side", "quantization", "setup", "num_questions", "starts", "invalid"]
    parse = dict.fromkeys(numbers, "number") | dict.fromkeys(texts, "string")
    text = frame[[*texts, *numbers]].to_csv(index=False, float_format="%.4g")
    return alt.InlineData(values=text, format=alt.CsvDataFormat(type="csv", parse=parse))


def _calculated(experiment: str) -> dict[str, str]:
    """Return the fields that a chart computes from the picked metric, and what it says of a point."""
    run = " + '/' + ".join(f"datum.{name}" for name in ("engine", "model", "quantization", "setup"))
    return {
        "value": "datum[metric]",
        "low": "datum[metric + '_low']",
        "high": "datum[metric + '_high']",
        "runs": f"'results/runs/{experiment}/' + {run} + '/1 to ' + datum.starts",
        "says": "format(datum.value, '.4~g') + (isValid(datum.low) ? "
        "' [' + format(datum.low, '.4~g') + ', ' + format(datum.high, '.4~g') + ']' : ', no interval')",
        "validity": "datum.invalid || 'valid'",
    }


def _tooltips(metrics: list[str]) -> dict[str, str]:
    return {
        "says": "Value",
        **KEYS,
        "model": "Model",
        "num_questions": "Questions (n)",
        "starts": "Starts (n)",
        "validity": "Validity",
        "runs": "Run folders",
    }
