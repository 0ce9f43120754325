"""The table of options: a row a server and option, beside the baseline, and what of it the page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from helpers.page_study import run_record
from rllm_serving.report import effective_options
from rllm_serving.serving.effective import differences

ASKED = {"prefix_cache": True, "kv_cache_dtype": "auto", "kv_cache_tokens": None, "attention_backend": None}
TOLD = {"prefix_cache": True, "kv_cache_dtype": "bfloat16", "kv_cache_tokens": 4096, "attention_backend": "FLASH_ATTN"}


def collected(folder: Path, *runs: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]) -> pd.DataFrame:
    """The table of runs: changes of the server's keys, of what is asked, and of what is told."""
    files = []
    for number, (server, asked, told) in enumerate(runs):
        record = run_record(**server)
        asked, told = {**ASKED, **asked}, {**TOLD, **told}
        found = [vars(difference) for difference in differences(asked, told)]
        record["sessions"][0] |= {"asked": asked, "effective": told, "differences": found}
        files.append(folder / f"{number}.json")
        files[-1].write_text(json.dumps(record))
    table = folder / "options.csv"
    effective_options.collect(files).to_csv(table, index=False)
    return pd.read_csv(table)


def row(options: pd.DataFrame, option: str, setup: str = "baseline") -> dict[str, Any]:
    [found] = options[(options["option"] == option) & (options["setup"] == setup)].to_dict("records")
    return {str(name): value for name, value in found.items()}


def test_a_server_that_runs_as_asked(tmp_path: Path) -> None:
    options = collected(tmp_path, ({}, {}, {}), ({}, {}, {"kv_cache_tokens": 4090}))
    assert list(options) == effective_options.COLUMNS and len(options) == len(ASKED)
    assert not options["differs"].any() and not options["side_effect"].any()
    assert (row(options, "prefix_cache")["asked"], row(options, "prefix_cache")["effective"]) == ("true", "true")
    pool = row(options, "kv_cache_tokens")
    assert pd.isna(pool["asked"]) and pool["effective"] == pool["baseline"] == "4096 / 4090"
    assert effective_options.notable(options) == []


def test_a_run_of_an_earlier_version_has_no_options(tmp_path: Path) -> None:
    record = run_record()
    record["sessions"][0].pop("asked")
    (tmp_path / "run.json").write_text(json.dumps(record))
    effective_options.collect([tmp_path / "run.json"]).to_csv(tmp_path / "options.csv", index=False)
    assert effective_options.notable(pd.read_csv(tmp_path / "options.csv")) == []


def test_what_ran_otherwise_and_what_a_setup_brought_along(tmp_path: Path) -> None:
    fp8 = ({"setup": "kv-fp8"}, {"kv_cache_dtype": "fp8-e4m3"})
    told = {"prefix_cache": False, "kv_cache_dtype": "fp8-e4m3", "attention_backend": "FLASHINFER"}
    options = collected(
        tmp_path,
        ({}, {}, {"kv_cache_tokens": None}),
        (*fp8, {**told, "kv_cache_tokens": 8192}),
        ({"model": "another", "setup": "kv-fp8"}, {"kv_cache_dtype": "fp8-e4m3"}, told),
    )
    cache = row(options[options["model"] != "another"], "prefix_cache", "kv-fp8")
    assert (cache["asked"], cache["effective"], cache["baseline"]) == ("true", "false", "true")
    assert cache["differs"] and cache["compared"] and cache["side_effect"]
    dtype = row(options[options["model"] != "another"], "kv_cache_dtype", "kv-fp8")
    assert (dtype["baseline"], dtype["differs"], dtype["side_effect"]) == ("bfloat16", False, False)  # it was asked for
    # A server without its baseline brings nothing along; what the baseline does not tell is not known to differ.
    assert not options.loc[options["model"] == "another", "side_effect"].any()
    assert not row(options[options["model"] != "another"], "kv_cache_tokens", "kv-fp8")["side_effect"]

    shown = {(entry["option"], entry["means"]): entry for entry in effective_options.notable(options)}
    marked = shown["prefix_cache", "otherwise than asked; its points are invalid"]
    assert marked["setup"] == "kv-fp8" and marked["servers"] == 1 and "experiment" not in marked
    brought = shown["attention_backend", "comes with the setup or the weights"]
    assert (brought["asked"], brought["effective"], brought["baseline"]) == (None, "FLASHINFER", "FLASH_ATTN")
    assert len(shown) == 2 and len(effective_options.notable(options)) == 3


def test_a_difference_that_nothing_is_compared_by(tmp_path: Path) -> None:
    options = collected(tmp_path, ({}, {"seed": 7}, {"seed": 8}))
    assert effective_options.notable(options) == [
        {
            **{"engine": "vllm", "quantization": "bf16", "setup": "baseline", "option": "seed"},
            **{"asked": "7", "effective": "8", "baseline": "8"},
            **{"means": "otherwise than asked; compares nothing", "servers": 1},
        }
    ]
