"""Servers that already run as engines of a study: what they are asked, what they cannot be told, how much is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.studies import REMOVED, TINY, changed, load
from rllm_serving.schemas import OWN_ENGINES
from rllm_serving.serving.engines import ENGINES
from rllm_serving.study.config import complete_config
from rllm_serving.study.config_errors import ConfigError
from rllm_serving.study.design import Run
from rllm_serving.study.estimate import Plan
from rllm_serving.study.paths import config_paths
from rllm_serving.study.sent import notes, sent_to

FAR: dict[str, Any] = {
    "type": "openai",
    "url": "https://far.example/v1",
    "model": {"tiny-llm": "chat", "tiny-rllm": "reasoner"},
    "max_in_flight": 8,
    "max_requests": 1000,
}
HOSTED = changed(("engines", {"vllm": {}, "far": FAR}))
SERVED = {"source": "served", "role": "rllm", "reasoning_parser": "qwen3"}
ALONE = changed(
    ("models", {"alone": SERVED}),
    ("engines", {"far": {**FAR, "model": "theirs"}}),
    ("experiments.single.models", "all"),
)


def far(*changes: tuple[str, Any], **entry: Any) -> dict[str, Any]:
    return changed(("engines.far", {**FAR, **entry}), *changes, base=HOSTED)


def test_the_list_and_the_mapping_of_our_engines_mean_the_same() -> None:
    names = load(changed(("engines", ["vllm", "sglang"])))
    mapped = load(changed(("engines", {"sglang": {}, "vllm": {}})))
    assert names.engines == mapped.engines == ["vllm", "sglang"]
    assert {k: v.to_dict() for k, v in names.runs.items()} == {k: v.to_dict() for k, v in mapped.runs.items()}
    assert set(OWN_ENGINES) == set(ENGINES)
    config = complete_config(HOSTED)
    assert complete_config(config) == config and list(load(HOSTED).engines) == ["vllm", "far"]


def test_a_run_on_it_knows_where_and_how_and_nothing_else() -> None:
    study = load(HOSTED)
    run = study.runs["budget/far/tiny-rllm/bf16/baseline/1"]
    assert run.endpoint is not None
    assert (run.endpoint["url"], run.endpoint["model"]) == ("https://far.example/v1", "reasoner")
    assert "max_requests" not in run.endpoint and run.gpus("cuda") == 0
    plain = run.to_dict()
    assert plain["options"] == {"context_length": 512, "max_running_requests": 8}
    assert Run.from_dict(json.loads(json.dumps(plain)), run.points) == run
    # Runs on engines of ours are what they were.
    assert "endpoint" not in study.runs["budget/vllm/tiny-rllm/bf16/baseline/1"].to_dict()
    assert study.environments(study.experiments) == ["train-cpu", "vllm-cpu"]
    assert study.checkpoints(study.experiments) == ["tiny-llm", "tiny-rllm"]


def test_a_study_of_one_model_on_it_needs_nothing_here() -> None:
    study = load(ALONE)
    assert study.pairs == {"alone": {"rllm": "alone"}}
    assert study.checkpoints(study.experiments) == study.environments(study.experiments) == []
    assert Plan(study).run(next(iter(study.runs.values()))) is not None


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (
            far(("setups", {"small": {"kv_cache_tokens": 1024}}), ("experiments.single.setups", ["small"])),
            ["setups.small.kv_cache_tokens (model 'tiny-rllm'", "far already runs: it is not started with options"],
        ),
        (
            far(("experiments.single.serving", {"max_running_requests": 4})),
            ["experiments.single.serving.max_running_requests", "far already runs"],
        ),
        (
            far(("quantizations", {"w8": {"method": "int8"}}), ("experiments.single.quantizations", ["w8"])),
            ["quantizations.w8 (model", "far already runs: its weights are what they are"],
        ),
        (far(model={"tiny-llm": "chat"}), ["engines.far.model (model 'tiny-rllm'", "far does not serve tiny-rllm"]),
        (
            far(
                (
                    "experiments.single.loads",
                    [{"type": "trace", "trace": "t", "rate": 1, "replay_output_lengths": True}],
                ),
                ("traces", {"t": {"source": "azure", "path": __file__}}),
            ),
            ["experiments.single.loads", "cannot replay lengths", "extras lacks ignore_eos"],
        ),
        (
            changed(("engines", {"vllm": {}}), ("models.x", {**SERVED, "pair": "x"})),
            ["models.x.source", "no checkpoint of it that vllm"],
        ),
    ],
)
def test_what_needs_control_is_refused_or_marked(config: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config)
    assert all(part in str(caught.value) for part in parts), caught.value
    study = load({**config, "on_unsupported": "mark"})
    assert any(parts[1].split(": ")[0] in row["reason"] for row in study.unsupported)


def test_a_model_that_thinks_on_request_needs_a_field_that_the_server_knows() -> None:
    config = changed(("models.alone.thinking", True), base=ALONE)
    with pytest.raises(ConfigError, match=r"^models\.alone\.thinking .*extras lacks chat_template_kwargs"):
        load(config)
    assert load(changed(("engines.far.extras", ["chat_template_kwargs"]), base=config)).runs


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (far(model="one"), ["engines.far.model: ", "'one' would be both tiny-llm and tiny-rllm", "a mapping"]),
        (far(model={"nobody": "x"}), ["engines.far.model: ", "'nobody'", "allowed: tiny-llm, tiny-rllm"]),
        (far(max_in_flight=2), ["experiments.budget.loads.1.size: ", "3 at once", "max_in_flight", "up to 2"]),
        (far(tokenizer="no/such"), ["engines.far.tokenizer: ", "no/such", "existing"]),
        (far(url="ftp://far"), ["engines.far: ", "url is no address", "http(s)://HOST"]),
        (far(url="https://me:secret@far/v1"), ["engines.far: ", "api_key_env"]),
        (far(url="https://far/v1?key=secret"), ["engines.far: ", "a query"]),
        (far(url="https://far/v1/chat/completions"), ["engines.far: ", "/v1"]),
        (far(url="https://far:99999/v1"), ["engines.far: ", "out of range"]),
        (far(extras=["min_p"]), ["engines.far.extras.0: ", "'min_p'", "seed"]),
        (far(api_key_env="sk-123"), ["engines.far.api_key_env: ", "environment variable"]),
        (far(metrics_url="https://far/metrics"), ["engines.far: ", "'metrics'"]),
        (far(type="tgi"), ["engines.far.type: ", "openai"]),
        (changed(("engines.far.max_requests", REMOVED), base=HOSTED), ["engines.far: ", "'max_requests'"]),
        (changed(("engines", {"tgi": {}})), ["engines.tgi: ", "'type', 'url'"]),
        (changed(("engines", {"vllm": {"url": "x"}})), ["engines.vllm: ", "'url'"]),
        (changed(("engines", {})), ["engines: ", "empty"]),
        (changed(("models.alone", {"source": "served", "role": "draft"}), base=ALONE), ["models.alone: ", "draft"]),
        (changed(("models.alone.id", "a/b"), base=ALONE), ["models.alone: ", "'id'", "source served"]),
    ],
)
def test_a_mistake_is_one_line_without_any_secret(config: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(config)
    line = str(caught.value)
    assert all(part in line for part in parts), line
    assert "\n" not in line and "secret" not in line


def test_a_tokenizer_is_a_path_of_the_config(tmp_path: Path) -> None:
    config = complete_config(far(tokenizer={"tiny-rllm": str(tmp_path)}))
    assert ("engines.far.tokenizer.tiny-rllm", str(tmp_path)) in list(config_paths(config))
    runs = load(config).runs
    found = {run.model: run.endpoint["tokenizer"] for run in runs.values() if run.endpoint}
    assert found == {"tiny-llm": None, "tiny-rllm": str(tmp_path)}


def test_the_dry_run_says_what_will_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(load(far(api_key_env="FAR_KEY")))
    # 16 points of 4 questions on two models, 8 questions of the other; of each run a proof and a round of the largest.
    requests = 2 * (16 * 4 + 1 + 3) + 8 + 1 + 8
    assert sent_to(plan, "far").requests == requests
    [line] = notes(plan)
    assert line.startswith(f"engines.far: {requests} requests will be sent to https://far.example/v1, about ")
    assert "tokens with their answers" in line and "nothing of it is controlled; export FAR_KEY" in line
    monkeypatch.setenv("FAR_KEY", "x")
    assert "FAR_KEY" not in notes(plan)[0] and notes(Plan(load(TINY))) == []
    with pytest.raises(ConfigError, match=rf"^engines\.far\.max_requests: .* {requests} requests.* up to 100; "):
        notes(Plan(load(far(max_requests=100))))


def test_requests_that_cannot_be_counted_are_not_sent() -> None:
    unknown = {"source": "path", "format": "gsm8k", "prompt": "number", "path": __file__}
    config = far(("datasets.open", unknown), ("experiments.single.datasets", ["open"]))
    plan = Plan(load(config))
    plan.requests = lambda point: None if point.dataset == "open" else 1  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"^experiments\.budget\.num_questions: missing, but needed"):
        notes(plan)
