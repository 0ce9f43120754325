"""Whole runs on a server that already runs, over TLS and with a key: what it receives, what is kept, what is told."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.endpoint_server import EndpointServer, make_certificate
from helpers.needs import needs
from helpers.run_harness import BUDGETS, QUESTIONS, RUN, RunHarness
from rllm_serving.analysis.gates import GATES
from rllm_serving.measurement.endpoint import EndpointMeasurement
from rllm_serving.measurement.invalid_points import RunError
from rllm_serving.serving import running
from rllm_serving.serving.endpoints import EndpointError
from rllm_serving.study.design import Load, Point, Run

pytestmark = needs(None if shutil.which("openssl") else "openssl, which makes the server's certificate")
KEY = "sk-a-secret-of-somebody"
PAGE = b"""\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running 3.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total 40.0
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def surroundings(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("SOMEBODYS_KEY", KEY)
    monkeypatch.setattr(running, "LOCKS", tmp_path / "locks")


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[EndpointServer]:
    with EndpointServer(certificate, KEY) as server:
        yield server


class Case:
    """Runs on a server, with the files of a run harness."""

    def __init__(self, harness: RunHarness, url: str) -> None:
        self.harness, self.url = harness, url
        self.paths = replace(harness.paths, python=None, environment=None, model=None)

    def run(self, model: str = "reasoner", run: Run = RUN, **endpoint: Any) -> Run:
        chosen = {"name": "hosted", "url": self.url, "model": model, "api_key_env": "SOMEBODYS_KEY", "max_in_flight": 2}
        return replace(run, engine="hosted", endpoint={**chosen, "extras": [], **endpoint})

    def execute(self, run: Run) -> list[dict[str, Any]]:
        EndpointMeasurement(run, self.paths, "cpu", "trial").execute()
        return list(pq.read_table(self.paths.requests).to_pylist())

    def record(self) -> dict[str, Any]:
        return dict(json.loads(self.paths.record.read_text()))

    def samples(self) -> pa.Table:
        return pq.read_table(self.paths.server)


@pytest.fixture
def case(harness: RunHarness, server: EndpointServer) -> Case:
    return Case(harness, server.url)


def test_a_run_is_measured_without_anything_being_started(case: Case, server: EndpointServer) -> None:
    rows = case.execute(case.run())
    assert len(rows) == QUESTIONS * len(BUDGETS) and {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert row["sent"] < row["first_token"] <= row["first_visible_token"] <= row["last_token"] <= row["closed"]
        assert (row["output_tokens"], row["reasoning_tokens"], row["tokens_source"]) == (19, 9, "usage at the end")
        assert row["chunk_tokens"] == [None] * 4 and row["answer_text"].endswith("\\boxed{7}.")
    # What OpenAI defines and nothing else; one that proves that the server answers, and a round of warming up.
    assert {tuple(sorted(body)) for body in server.bodies} == {
        ("max_tokens", "messages", "model", "stream", "stream_options", "temperature", "top_p")
    }
    assert len(server.bodies) == 1 + 2 + len(rows) and server.most == 2
    asked = [sent for sent in server.headers if "x-experiment-id" in sent]
    assert asked[-1]["x-experiment-id"] == "trial/e/hosted/m/bf16/baseline/1/sums__batch-2__256__0"
    assert {sent["host"] for sent in asked} == {f"localhost:{server.port}"}
    record = case.record()
    [session] = record["sessions"]
    assert session["controlled"] is False and session["command"] is None and session["startup_seconds"] is None
    assert [entry["id"] for entry in session["endpoint"]["models"]] == ["reasoner"]
    assert record["device"] is None and record["metrics"] == {} and record["environment"]["packages"] == {}
    assert record["config"]["options"].keys() == {"context_length", "max_running_requests"}
    assert record["points"][0]["served"] == [{"model": "served-1", "system_fingerprint": "fp_1"}]
    assert record["points"][0]["validity"]["missing_samples_rate"] is None
    samples = case.samples()
    for name in ("running", "kv_cache_usage", "generated_tokens", "host_rss_bytes", "host_cpu_cores", "host_energy_j"):
        assert samples[name].null_count == samples.num_rows


def test_the_key_is_in_no_file(case: Case, server: EndpointServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    case.execute(case.run())
    assert any(KEY in sent["authorization"] for sent in server.headers)
    for extras in (["seed"], []):
        server.key = KEY if extras else "another"  # the server then repeats the key that it refuses
        with pytest.raises(EndpointError) as caught:
            case.execute(replace(case.run(extras=extras), start=2))
        assert "HTTP 40" in str(caught.value) and "Bearer ***" in str(caught.value)
        assert KEY not in str(caught.value)
    assert KEY not in caplog.text
    for path in case.harness.folder.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_a_server_without_usage_or_metrics_gives_what_it_has(case: Case) -> None:
    rows = case.execute(case.run("bare"))
    assert {(row["status"], row["finish_reason"], row["output_tokens"]) for row in rows} == {("ok", "eos_token", None)}
    assert all(row["last_token"] is not None and row["prompt_tokens"] is None for row in rows)


def test_metrics_are_sampled_where_the_server_has_them(case: Case, server: EndpointServer) -> None:
    server.metrics = PAGE
    case.execute(case.run(metrics="vllm"))
    assert set(case.samples()["running"].to_pylist()) == {3.0}
    assert case.record()["metrics"]["running"] == "vllm:num_requests_running"
    assert case.record()["points"][0]["validity"]["missing_samples_rate"] == 0


def test_a_page_of_metrics_elsewhere_does_not_get_the_key(case: Case, server: EndpointServer) -> None:
    with EndpointServer(metrics=PAGE) as other:
        case.execute(case.run(metrics="vllm", metrics_url=other.url.replace("/v1", "/metrics")))
        assert other.headers and not any("authorization" in sent for sent in other.headers)
    assert set(case.samples()["running"].to_pylist()) == {3.0}


def test_extras_are_sent_where_the_config_turns_them_on(case: Case, server: EndpointServer) -> None:
    server.extras = frozenset({"seed", "chat_template_kwargs", "continuous_usage_stats"})
    run = replace(RUN, thinking=False)
    case.execute(case.run(run=run, extras=sorted(server.extras), omit=["top_p"], budget_field="max_completion_tokens"))
    body = server.bodies[-1]
    assert body["chat_template_kwargs"] == {"enable_thinking": False} and isinstance(body["seed"], int)
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert body["max_completion_tokens"] == 256 and not {"max_tokens", "top_p", "return_token_ids"} & set(body)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("busy", r"HTTP 429 \(rate limit\): .*slow down"),
        ("moved", "HTTP 307: a redirect to https://elsewhere.example/v1, which is not followed"),
        ("whole", "content type .* is no stream of events"),
        ("nobody", "HTTP 404: .*no such model"),
    ],
)
def test_a_server_that_does_not_answer_is_told_before_anything_is_measured(
    case: Case, server: EndpointServer, model: str, words: str
) -> None:
    with pytest.raises(EndpointError, match=rf"(?s)^engines\.hosted: https://.* did not answer as '{model}': {words}"):
        case.execute(case.run(model))
    assert len(server.bodies) == 1 and not case.paths.requests.exists()


def test_rate_limits_are_failed_requests(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndpointMeasurement, "_prove", lambda self: None)
    with pytest.raises(RunError, match=r"4 of 4 failed: http: HTTP 429 \(rate limit\)"):
        case.execute(case.run("busy", warm_up_rounds=0))


def test_an_open_load_never_has_more_in_flight_than_is_allowed(case: Case, server: EndpointServer) -> None:
    rows = [{"time": 0.01 * n, "question": n % 4, "sample": 0, "output_tokens": None} for n in range(8)]
    point = Point("sums", Load("open", rate=100.0, burstiness=1.0), 64, 0, QUESTIONS)
    keys = {name: value for name, value in point.keys.items() if name != "load_level"}
    arrivals = case.harness.folder / "arrivals.parquet"
    pq.write_table(pa.Table.from_pylist([{**keys, "index": n, **row} for n, row in enumerate(rows)]), arrivals)
    case.paths = replace(case.paths, arrivals=arrivals)
    measurement = {**RUN.measurement, "max_failed_rate": 1.0, "gates": dict.fromkeys(GATES, math.inf)}
    run = replace(RUN, points=(point,), measurement=measurement)
    found = case.execute(case.run("slow", run=run, max_in_flight=3, warm_up_rounds=0))
    assert [row["status"] for row in found] == ["ok"] * 3 + ["limit"] * 5 and server.most == 3
    assert all(row["sent"] is None and "not sent: 3 requests" in row["error"] for row in found[3:])


def test_a_certificate_that_nobody_vouches_for_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(EndpointError, match=r"cannot connect: .*certificate verify failed"):
        case.execute(case.run())
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    with pytest.raises(EndpointError, match=r"^SSL_CERT_FILE: /nowhere\.pem is no file of certificates"):
        case.execute(case.run())


def test_a_key_that_is_not_there_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOMEBODYS_KEY")
    with pytest.raises(EndpointError, match=r"^engines\.hosted\.api_key_env: SOMEBODYS_KEY is not set"):
        case.execute(case.run())
    monkeypatch.setenv("SOMEBODYS_KEY", "two\nlines")
    with pytest.raises(EndpointError, match="characters that no key has") as caught:
        case.execute(case.run())
    assert "two" not in str(caught.value)


def test_points_are_kept_while_what_was_asked_is_the_same(case: Case, server: EndpointServer) -> None:
    case.execute(case.run())
    asked = len(server.bodies)
    case.execute(case.run(warm_up_rounds=3))
    assert len(server.bodies) == asked
    case.execute(case.run("chat"))
    assert len(server.bodies) > asked
