"""Whole runs with the mock server as engine: what it receives, and what is written."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.run_harness import BUDGETS, POINTS, QUESTIONS, RUN, RunHarness
from helpers.sse_fixtures import EOS
from rllm_serving import logs
from rllm_serving.measurement.prompt_check import PromptError
from rllm_serving.measurement.rows import REQUESTS, SERVER
from rllm_serving.measurement.run import RunError, log_progress
from rllm_serving.study.design import request_seed


def test_a_metric_that_the_engine_has_no_more_is_null_and_said(
    harness: RunHarness, caplog: pytest.LogCaptureFixture
) -> None:
    page = harness.folder / "page"
    page.write_bytes(page.read_bytes().replace(b"kv_cache_usage_perc", b"kv_cache_use"))
    with caplog.at_level(logging.WARNING):
        harness.execute(replace(RUN, points=POINTS[:1]))
    reason = "the engine has no metric vllm:kv_cache_usage_perc"
    record = json.loads(harness.paths.record.read_text())
    assert record["missing_metrics"] == {"kv_cache_usage": reason}
    assert [line for line in caplog.messages if line.startswith("kv_cache_usage ") and line.endswith(reason)]
    samples = pq.read_table(harness.paths.server)
    assert samples["kv_cache_usage"].null_count == samples.num_rows > samples["running"].null_count == 0
    assert record["points"][0]["validity"]["missing_samples_rate"] == 0
    assert record["points"][0]["telemetry"]["damaged"] == 0


def test_a_whole_run_writes_its_three_files(harness: RunHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_a-secret")
    harness.execute()
    requests, samples = pq.read_table(harness.paths.requests), pq.read_table(harness.paths.server)
    assert requests.schema.equals(REQUESTS) and samples.schema.equals(SERVER)
    rows = requests.to_pylist()
    assert len(rows) == QUESTIONS * len(BUDGETS)
    assert [(row["budget"], row["index"]) for row in rows] == [(b, i) for b in BUDGETS for i in range(QUESTIONS)]
    for row in rows:
        assert {name: row[name] for name in RUN.keys} == RUN.keys
        assert (row["dataset"], row["load"], row["load_level"], row["repeat"]) == ("sums", "batch-2", 2, 0)
        assert row["question_id"] == f"id-{row['index']}" and row["batch"] == row["index"] // 2
        assert row["seed"] == request_seed(7, "sums", row["question_id"], 0)
        assert (row["status"], row["http_status"], row["error"], row["finish_reason"]) == ("ok", 200, None, "stop")
        counts = [row[f"{kind}_tokens"] for kind in ("prompt", "output", "reasoning", "answer")]
        assert counts == [11, 9, 5, 2] and row["reasoning_source"] == "token_ids"
        known = ("scheduled", "sent", "first_token", "first_visible_token", "last_token")
        assert sorted(row[name] for name in known) == [row[name] for name in known]
        assert len(row["chunk_times"]) == len(row["chunk_tokens"]) and row["scheduled"] >= 0
    assert {row["generated_tokens"] for row in samples.to_pylist()} == {28698.0}
    assert set(samples["budget"].to_pylist()) == set(BUDGETS)

    record = json.loads(harness.paths.record.read_text())
    assert record["server"] == RUN.keys and record["device"] == "cpu" and record["model"]["digest"] == "d"
    assert record["config"]["seed"] == 7 and record["config"]["sampling"] == RUN.sampling
    assert record["environment"]["packages"] == {"fake": "1.0"}
    [session] = record["sessions"]
    assert "--record" in session["command"] and session["environment"] == {"FAKE_ENGINE": "here"}
    assert session["startup_seconds"] > 0 and session["server_log"] == str(harness.paths.server_log)
    assert {"cpu", "gpus", "driver", "memory_bytes"} <= set(session["hardware"]) and "git_commit" in session
    assert [entry["point"] for entry in record["points"]] == [asdict(point) for point in POINTS]
    assert all(entry["session"] == session["id"] and entry["duration_s"] > 0 for entry in record["points"])
    assert not harness.paths.partial.exists()
    for path in harness.folder.rglob("*"):
        assert path.is_dir() or b"hf_a-secret" not in path.read_bytes()


def test_what_is_asked_of_the_engine(harness: RunHarness) -> None:
    harness.execute(replace(RUN, points=POINTS[:1]))
    bodies = {body["messages"][0]["content"]: body for body in harness.sent()}
    assert set(bodies) == {f"q{i} ok" for i in range(QUESTIONS)}
    assert bodies["q1 ok"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "q1 ok"}],
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "return_token_ids": True,
        "max_tokens": 64,
        "seed": request_seed(7, "sums", "id-1", 0),
        "temperature": 0.6,
        "top_p": 0.95,
    }


def test_a_model_that_thinks_on_request_is_reported_so(harness: RunHarness) -> None:
    harness.execute(replace(RUN, points=POINTS[:1], thinking=False))
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in harness.sent())


def test_failures_within_the_limit_are_kept_as_failures(harness: RunHarness) -> None:
    harness.fail(q1_64="http-500", q2_64="close")
    run = replace(RUN, points=POINTS[:1], measurement={**RUN.measurement, "max_failed_rate": 0.5})
    harness.execute(run)
    rows = pq.read_table(harness.paths.requests).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "http", "truncated", "ok"]
    for row in rows[1:3]:
        assert row["last_token"] is None and row["first_visible_token"] is None and row["error"]
    assert rows[1]["first_token"] is None and rows[1]["output_tokens"] is None and rows[1]["chunk_times"] == []


def test_without_a_reasoning_parser_every_token_but_the_last_is_the_answers(harness: RunHarness) -> None:
    harness.execute(replace(RUN, reasoning_parser=None, points=POINTS[:1]))
    for row in pq.read_table(harness.paths.requests).to_pylist():
        assert (row["reasoning_tokens"], row["answer_tokens"]) == (0, 8)
        assert row["reasoning_source"] == "no reasoning parser"


def test_answers_are_read_with_the_tokens_that_the_models_folder_names(harness: RunHarness) -> None:
    (harness.folder / "model" / "tokenizer.json").write_text(json.dumps({"model": {}}))
    (harness.folder / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": EOS + 1}))
    harness.execute(replace(RUN, points=POINTS[:1]))
    for row in pq.read_table(harness.paths.requests).to_pylist():
        assert row["reasoning_tokens"] is None and row["answer_tokens"] is None
    harness.execute(replace(RUN, points=POINTS[:1], reasoning_parser=None))
    assert pq.read_table(harness.paths.requests)["answer_tokens"].to_pylist() == [9] * QUESTIONS


def test_progress_tells_the_time_left_at_the_pace_so_far(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("rllm_serving"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="rllm_serving"):
        log_progress("a", 1, 4, 10.0)
        log_progress("b", 2, 4, 30.0)
    assert [record.getMessage() for record in caplog.records] == [
        "point 1/4 a done, 30 s left",
        "point 2/4 b done, 30 s left",
    ]


def test_an_error_for_users_is_logged_once_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for error, shown in ((RunError("too many failed"), False), (ZeroDivisionError("a bug"), True)):
        with pytest.raises(SystemExit) as caught, logs.logged(tmp_path / "log") as logger:
            logger.info("begun")
            raise error
        assert caught.value.code == 1
        for text in ((tmp_path / "log").read_text(), capfd.readouterr().err):
            assert text.count("begun") == 1 == text.count(str(error.args[0])) and ("Traceback" in text) == shown
    assert not logging.getLogger("rllm_serving").handlers


def test_a_server_that_makes_other_tokens_of_a_prompt_measures_nothing(harness: RunHarness) -> None:
    harness.write_model("d", prompt=[5, 6, 8])
    with pytest.raises(PromptError, match=r"the server for 'm' makes 3 tokens of a question, but .* make 3, or other"):
        harness.execute()
    assert not any(harness.outputs()) and not harness.measured()
