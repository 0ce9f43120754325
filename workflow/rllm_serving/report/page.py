"""The study's report: one HTML file with its figures, charts and tables in it, which loads nothing.

Claims first, then a chapter an experiment, the optimisations as a matrix, and what it takes to measure it all again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from . import charts, effective_options, matrix, page_claims, page_facts, page_tables, pictures, table_forms

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Files:
    """What the page is made from.

    Attributes:
        tables: CSV files of the experiments' tables, `{experiment}-{table}.csv`, in the order that they are shown in.
        figures: their figures, likewise, `{experiment}-{figure}.png`, with the PDF beside them.
        points: results/points.parquet.
        summary: results/summary.parquet.
        runs: of `run_records.collect`.
        options: of `effective_options.collect`.
        false_positives: of the servers that are the same as their baseline; [] where there are none.
        claims: results/claims.json; [] where there is none.
        captions: templates of the captions of figures and tables, of Snakemake's own report.
    """

    tables: Sequence[Path]
    figures: Sequence[Path]
    points: Sequence[Path]
    summary: Sequence[Path]
    runs: Sequence[Path]
    options: Sequence[Path]
    false_positives: Sequence[Path]
    claims: Sequence[Path]
    captions: Sequence[Path]


@dataclass(frozen=True)
class StudyFacts:
    """What the page takes from the config.

    Attributes:
        experiments: in the order of their chapters.
        pairs: pair -> role -> model.
        identical: servers ("experiment/engine/model/quantization/setup") that are the same as their baseline.
        config: the whole config as YAML.
    """

    experiments: Sequence[str]
    pairs: Mapping[str, Mapping[str, str]]
    identical: Sequence[str]
    config: str


def render(files: Files, study: StudyFacts) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dash"] = lambda value: table_forms.DASH if value is None or value == "" else value
    return environment.get_template("page.html.jinja").render(
        **context(files, study),
        style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
        vega=charts.library(),
    )


def context(files: Files, study: StudyFacts) -> dict[str, Any]:
    """Return what the templates show, by the names that they use."""
    points, summary = (pd.concat(map(pd.read_parquet, part)) for part in (files.points, files.summary))
    # Derived points are measured ones again, cut.
    points = points[points["derived_from"].isna()]
    runs = pd.concat(map(pd.read_csv, files.runs), ignore_index=True)
    by_name = {file.name: file for file in (*files.tables, *files.figures)}
    captions = {file.stem: _captions(file) for file in files.captions}
    embedded = {file.name: picture for file, picture in pictures.embed(files.figures).items()}
    return {
        "study": _line(study.config, "study"),
        "pairs": study.pairs,
        "machines": page_facts.machines(runs),
        "versions": page_facts.versions(runs),
        "models": page_facts.models(runs),
        "lone_models": page_facts.lone_models(study.pairs),
        "measured": page_facts.measured(runs, points, study.experiments),
        "options": effective_options.notable(pd.concat(map(pd.read_csv, files.options), ignore_index=True)),
        "invalid": page_facts.invalid_reasons(points),
        "missing_metrics": page_facts.missing_metrics(runs),
        "span": page_facts.span(runs),
        "fingerprints": page_facts.fingerprints(runs),
        "commits": page_facts.unique(runs, "git_commit"),
        "seeds": page_facts.unique(runs, "seed"),
        "config": study.config,
        "claims": page_claims.read(files.claims),
        "chapters": [
            {
                "name": name,
                "figures": _figures(name, embedded, captions.get("figure", {})),
                "tables": _tables(name, by_name, captions.get("table", {})),
                "chart": _chart(summary[summary["experiment"] == name], study.pairs),
            }
            for name in study.experiments
        ],
        "matrices": [part for name in study.experiments for part in _matrices(name, by_name, study)],
        "noise": [
            page_tables.shown(by_name[f"{name}-noise.csv"], f"tables/{name}-noise.csv") | {"experiment": name}
            for name in study.experiments
            if f"{name}-noise.csv" in by_name
        ],
        "false_positives": [
            page_tables.plain(pd.read_csv(file), f"tables/{file.name}") for file in files.false_positives
        ],
    }


def _line(config: str, key: str) -> str:
    """The text of a key at the top of a YAML file, whose values there are plain."""
    return next(
        (line.partition(": ")[2] for line in config.splitlines() if line.startswith(f"{key}: ")), table_forms.DASH
    )


def _captions(file: Path) -> Mapping[str, str]:
    """Return what a template of Snakemake's report calls each figure or table; the template sets `captions`."""
    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, autoescape=False)
    found: Mapping[str, str] = vars(environment.from_string(file.read_text(encoding="utf-8")).module)["captions"]
    return found


def _outputs(experiment: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (figure or table, name of its file) of those of an experiment, in the order of the files."""
    parts = [(name, *Path(name).stem.rpartition("-")) for name in names]
    return [(output, name) for name, of, _, output in parts if of == experiment]


def _figures(
    experiment: str, embedded: Mapping[str, dict[str, Any]], captions: Mapping[str, str]
) -> list[dict[str, Any]]:
    return [
        embedded[file]
        | {
            "id": f"figure-{experiment}-{name}",
            "link": f"figures/{experiment}-{name}.pdf",
            "caption": captions.get(name, name),
        }
        for name, file in _outputs(experiment, embedded)
    ]


def _tables(experiment: str, files: Mapping[str, Path], captions: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        page_tables.shown(files[file], f"tables/{file}") | {"name": name, "caption": captions.get(name, name)}
        for name, file in _outputs(experiment, files)
        if file.endswith(".csv")
    ]


def _chart(summary: pd.DataFrame, pairs: Mapping[str, Mapping[str, str]]) -> str | None:
    """Return an experiment's interactive chart as JSON that may stand in a script element; None without a pair."""
    paired = {model for models in pairs.values() for model in models.values()}
    if not summary["model"].isin(paired).any():
        return None
    return json.dumps(charts.explorer(summary, pairs), separators=(",", ":")).replace("</", r"<\/")


def _matrices(experiment: str, files: Mapping[str, Path], study: StudyFacts) -> list[dict[str, Any]]:
    """Return an experiment's matrices of setups and metrics; none where it compares none."""
    file = files.get(f"{experiment}-optimisations.csv")
    if file is None:
        return []
    start = f"{experiment}/"
    identical = [server.removeprefix(start) for server in study.identical if server.startswith(start)]
    link = f"tables/{file.name}"
    return [
        {"experiment": experiment, "link": link, **part}
        for part in matrix.matrices(page_tables.read(file), study.pairs, identical)
    ]
