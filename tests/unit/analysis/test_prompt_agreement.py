"""Prompts of the same question must be as long on all servers, or nothing of that dataset can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from helpers.run_fixtures import run
from rllm_serving.analysis.points import experiment_tables
from rllm_serving.analysis.prompt_agreement import prompt_faults
from rllm_serving.analysis.server_data import ServerFiles

Counts = dict[str, int | None]


def write(file: Path, counts: Counts, **keys: str) -> Path:
    """requests.parquet of a start; counts: "dataset/question" -> tokens of its prompt."""
    server = {"experiment": "e", "engine": "vllm", "model": "m", "quantization": "bf16", "setup": "baseline", **keys}
    asked = [(*name.split("/"), tokens) for name, tokens in counts.items()]
    rows: list[dict[str, Any]] = [
        {**server, "dataset": d, "question_id": q, "prompt_tokens": tokens} for d, q, tokens in asked * 3
    ]
    types = {"prompt_tokens": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in rows[0]])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return file


def faults(tmp_path: Path, *servers: tuple[dict[str, str], Counts]) -> dict[tuple[str, str], str]:
    files = {
        "/".join(keys.values()): [write(tmp_path / f"{number}.parquet", counts, **keys)]
        for number, (keys, counts) in enumerate(servers)
    }
    return prompt_faults(files)


def test_equal_prompts_are_no_fault_and_models_are_not_compared_with_each_other(tmp_path: Path) -> None:
    same: Counts = {"a/1": 10, "a/2": 12, "b/1": 30}
    others: Counts = {"a/1": 11, "a/2": 13}
    unknown: Counts = {"a/1": 10, "a/2": None}
    servers = [({"engine": "vllm"}, same), ({"engine": "sglang"}, same), ({"model": "other"}, others)]
    assert faults(tmp_path, *servers, ({"setup": "cold"}, unknown)) == {}


def test_engines_that_differ_make_that_dataset_of_all_servers_invalid(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        ({"engine": "vllm"}, {"a/1": 10, "a/2": 12, "b/1": 30}),
        ({"engine": "sglang"}, {"a/1": 10, "a/2": 14, "b/1": 30}),
        ({"engine": "sglang", "setup": "cold"}, {"a/1": 10, "a/2": 14, "b/1": 30}),
    )
    reason = "prompt tokens of question 2 differ between servers: vllm 12, sglang 14"
    assert found == {("vllm", "a"): reason, ("sglang", "a"): reason, ("sglang/cold", "a"): reason}


def test_what_differs_within_an_engine_is_told_by_server(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        ({"quantization": "bf16"}, {"a/1": 10, "a/2": 12}),
        ({"quantization": "int4"}, {"a/1": 11, "a/2": 14}),
    )
    differ = "vllm/bf16/baseline 10, vllm/int4/baseline 11"
    assert set(found.values()) == {f"prompt tokens of question 1 and of 1 more differ between servers: {differ}"}


def test_the_points_of_both_engines_say_why_they_are_invalid(tmp_path: Path) -> None:
    files: dict[str, list[str]] = {"requests": [], "samples": [], "records": [], "grades": []}
    for engine in ("vllm", "sglang"):
        requests, grades, samples, record = run(engine=engine, budgets=(64,), questions=16)
        table = requests.to_pandas()
        table["reasoning_text"] = table["answer_text"] = ""
        table.loc[(table["dataset"] == "facts-mcq") & (engine == "sglang"), "prompt_tokens"] = 41
        record["points"][0]["invalid"] = "it was late"
        tables: dict[str, Any] = {"requests": table.drop(columns="said"), "samples": samples, "grades": grades}
        tables["grades"] = grades.assign(**record["server"])
        for name, frame in tables.items():
            files[name].append(str(tmp_path / f"{engine}-{name}.parquet"))
            pd.DataFrame(frame).to_parquet(files[name][-1])
        files["records"].append(str(tmp_path / f"{engine}.json"))
        Path(files["records"][-1]).write_text(json.dumps(record))
    servers = ServerFiles(["a", "b"], files["requests"], files["samples"], files["records"], files["grades"])
    points = experiment_tables(servers.all()).points
    wrong = points[points["dataset"] == "facts-mcq"]
    assert len(wrong) == 4 and wrong["invalid"].str.endswith("differ between servers: vllm 40, sglang 41").all()
    late = points[points["dataset"] != "facts-mcq"]["invalid"].dropna()
    assert list(late) == ["it was late"] * 2
    # Compared with another server, it says so as well.
    assert servers.read("a", texts=True).valid().recorded["invalid"].notna().sum() == 3
