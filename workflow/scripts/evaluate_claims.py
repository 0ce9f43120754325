"""Evaluate the claims on what the study measured."""

import json
from pathlib import Path

import pandas as pd
from rllm_serving.claims.definitions import read_claims
from rllm_serving.claims.evaluation import ExperimentRows, evaluate
from rllm_serving.claims.facts import StudyFacts
from rllm_serving.claims.summary import as_json, as_markdown
from rllm_serving.logs import logged

with logged(snakemake.log[0]):
    asked, given = snakemake.params, snakemake.input
    files = zip(asked.experiments, given.points, given.starts, given.questions, strict=True)
    measured = {name: ExperimentRows(*map(pd.read_parquet, rows)) for name, *rows in files}
    claims = {**read_claims(Path(given.claims)), **asked.own}
    rows = evaluate(claims, measured, StudyFacts.from_plain(asked.facts))
    rows.to_parquet(snakemake.output.parquet)
    rows.to_csv(snakemake.output.csv, index=False)
    Path(snakemake.output.md).write_text(as_markdown(rows, claims))
    invalid = sum(one.invalid_points for one in measured.values())
    found = as_json(rows, claims, asked.outputs, invalid)
    Path(snakemake.output.json).write_text(json.dumps(found, indent=1) + "\n")
