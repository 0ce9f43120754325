"""Quantization: texts that are looked at, checks that a checkpoint must pass, the job around them, and the engines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from rllm_serving.child import ChildError, follow
from rllm_serving.config import ConfigError
from rllm_serving.engines import ENGINES, Launch, Options
from rllm_serving.micro.questions import SUITES, generate
from rllm_serving.models import ModelError
from rllm_serving.prompts import render
from rllm_serving.quantization import job as quantizing
from rllm_serving.quantization.calibration import CHECKED, dataset_questions, digest, micro_questions, plain_text, texts
from rllm_serving.quantization.checks import agreement, sizes
from rllm_serving.quantization.methods import METHODS
from studies import changed, load

TEMPLATES = {
    kind: ROOT / f"resources/prompts/{name}.jinja" for kind, name in (("number", "arith"), ("choice", "facts"))
}
HUB = {"source": "hub", "role": "llm", "pair": "x", "id": "owner/name", "revision": "main"}


def tensor(dtype: str, *shape: int) -> dict[str, Any]:
    size = {"BF16": 2, "F8_E4M3": 1, "I8": 1, "I32": 4, "I64": 8}[dtype]
    for length in shape:
        size *= length
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, size]}


BEFORE = {
    "model.embed_tokens.weight": tensor("BF16", 1000, 256),
    "model.layers.0.norm.weight": tensor("BF16", 256),
    "model.layers.0.mlp.up_proj.weight": tensor("BF16", 512, 256),
    "lm_head.weight": tensor("BF16", 1000, 256),
}
PACKED = {
    "model.layers.0.mlp.up_proj.weight_packed": tensor("I32", 512, 32),
    "model.layers.0.mlp.up_proj.weight_scale": tensor("BF16", 512, 2),
    "model.layers.0.mlp.up_proj.weight_shape": tensor("I64", 2),
}
KEPT = {name: entry for name, entry in BEFORE.items() if "up_proj" not in name}


# The texts.


def test_micro_models_calibrate_on_training_questions_of_every_suite_and_are_checked_on_others() -> None:
    calibrating, checking = micro_questions(66, 7)
    assert (len(calibrating), len(checking)) == (66, CHECKED)
    train = [q.question for suite in SUITES for q in generate(suite, 17, 7, "train")]
    assert {row["question"] for row in calibrating} <= set(train)
    assert not {row["question"] for row in checking if row["kind"] == "number"} & {r["question"] for r in calibrating}
    assert {row["kind"] for row in checking} == {"number", "choice"}
    assert (calibrating, checking) == micro_questions(66, 7) != micro_questions(66, 8)


def test_a_dataset_is_divided_and_must_be_large_enough() -> None:
    rows = [{"question": str(n)} for n in range(50)]
    calibrating, checking = dataset_questions("quantizations.q", rows, 20, 1)
    assert len(calibrating) == 20 and len(checking) == 30
    assert not {r["question"] for r in calibrating} & {r["question"] for r in checking}
    assert dataset_questions("quantizations.q", rows, 20, 1)[0] == calibrating
    with pytest.raises(ModelError, match=r"^quantizations\.q\.dataset: 50 questions are too few for 45 .*samples"):
        dataset_questions("quantizations.q", rows, 45, 1)


def test_texts_with_reasoning_are_the_models_own_and_plain_ones_have_none() -> None:
    question = {"gold": "42"}

    def complete(prompts: Sequence[str]) -> list[str]:
        return [f"a={n} </think> 42" for n in range(len(prompts))]

    prompts = ["Q?<think>\n", "R?<think>\n"]
    assert texts("reasoning", prompts, [question] * 2, complete) == [
        "Q?<think>\na=0 </think> 42",
        prompts[1] + "a=1 </think> 42",
    ]
    assert texts("plain", prompts, [question] * 2, complete)[0] == plain_text(prompts[0], question)
    assert plain_text("Q?<think>\n", question) == "Q?<think>\n\n</think>\nThe answer is \\boxed{42}."
    assert plain_text("Q?", question) == "Q?The answer is \\boxed{42}."
    assert digest(["ab", "c"]) != digest(["a", "bc"])


# The checks.


def test_a_layer_counts_with_its_scales_and_embeddings_do_not() -> None:
    found = sizes("k", BEFORE, KEPT | PACKED, METHODS["gptq-int4"].ratio or 0)
    expected = 512 * 32 * 4 + 512 * 2 * 2 + 16
    assert found == {
        **{"layers": 1, "kept": 0, "bytes": expected, "bf16_bytes": 2 * 512 * 256},
        **{"ratio": round(expected / (2 * 512 * 256), 4), "expected_ratio": 0.2578},
    }


@pytest.mark.parametrize(
    ("after", "ratio", "problem"),
    [
        (BEFORE, 0.5, "none of 3 weight matrices is quantized"),
        (KEPT | PACKED, 0.5, r"0\.258 of the 262144 in bf16; its method gives about 0\.500"),
        (KEPT | {"model.layers.0.mlp.up_proj.weight": tensor("I8", 512, 256)}, 0.25, r"0\.500 of the"),
    ],
)
def test_a_checkpoint_that_has_not_shrunk_as_its_method_says_is_refused(
    after: dict[str, Any], ratio: float, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        sizes("k", BEFORE, after, ratio)


def test_answers_are_compared_where_bf16_has_one() -> None:
    bf16 = [r"x </think> \boxed{1}", r"\boxed{2}", "no idea", r"\boxed{4}"]
    mine = [r"y </think> \boxed{1}", r"\boxed{3}", r"\boxed{9}", r"\boxed{4}"]
    assert agreement("k", ["number"] * 4, mine, bf16) == {
        **{"asked": 4, "answered": 3, "equal_answers": 0.6667, "equal_texts": 0.25}
    }
    assert agreement("k", ["number"], ["a"], ["b"])["equal_answers"] is None


def test_a_model_that_no_longer_answers_as_bf16_does_is_refused() -> None:
    bf16 = [rf"\boxed{{{n}}}" for n in range(10)]
    with pytest.raises(ModelError, match=r"^k: of 10 held-out questions .* same greedy answer to 1, fewer than 20%"):
        agreement("k", ["number"] * 10, [bf16[0], *["noise"] * 9], bf16)


# The job around them, with a stand-in for the tool's environment.


def checkpoint(folder: Path, tensors: dict[str, Any], quant_method: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 2048}
    config |= {"quantization_config": {"quant_method": quant_method}} if quant_method else {}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """model.json of a bf16 checkpoint."""
    folder = checkpoint(tmp_path / "m" / "checkpoint", BEFORE)
    record = {"source": "micro", "id": None, "revision": None, "commit": None, "path": str(folder), "bytes": 1000}
    file = tmp_path / "m" / "model.json"
    file.write_text(json.dumps(record | {"max_position_embeddings": 2048}))
    return file


Jobs = list[dict[str, Any]]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Jobs]:
    """Puts a tool in place that writes these tensors and answers; gives the jobs that it was asked to do."""

    def install(tensors: dict[str, Any], right: bool = True) -> Jobs:
        jobs: Jobs = []

        def work(name: str, python: Path, module: str, arguments: Sequence[str], **variables: str) -> None:
            job = json.loads(Path(arguments[0]).read_text())
            jobs.append(job)
            if job["scheme"] is not None:
                checkpoint(Path(job["out"]), tensors, "compressed-tensors")
            bf16 = [rf"\boxed{{{row['gold']}}}" for row in job["held_out"]]
            told = {"bf16": bf16, "quantized": bf16 if right else ["?"] * len(bf16), "seconds": 1.0, "versions": {}}
            told["calibration"] = {"kind": job["calibration"]} if job["calibration"] else None
            Path(job["answers"]).write_text(json.dumps(told))

        monkeypatch.setattr(quantizing, "follow", work)
        return jobs

    return install


def request(**spec: Any) -> quantizing.Request:
    return quantizing.Request(
        model="m",
        quantization="q",
        spec={"method": "gptq-int4", **spec},
        model_spec={"source": "micro", "role": "rllm"},
        rows=None,
        templates=TEMPLATES,
        seed=7,
        sampling={"temperature": 0.6, "top_p": 0.95},
        device="cpu",
    )


def test_a_quantized_model_is_recorded_with_all_that_made_it(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool(KEPT | PACKED)
    target = tmp_path / "m" / "q"
    checkpoint(target / "checkpoint", {}).joinpath("stale.safetensors").write_text("")
    record = quantizing.quantize(request(samples=8, calibration="plain"), base, Path("python"), target)
    assert json.loads((target / "model.json").read_text()) == record
    assert record["path"] == str(target / "checkpoint") and not (target / "checkpoint" / "stale.safetensors").exists()
    made = record["quantization"]
    assert (made["method"], made["scheme"], made["seconds"]) == ("gptq-int4", "W4A16", 1.0)
    assert made["calibration"] == {"kind": "plain", "source": "micro training questions"}
    assert made["agreement"]["equal_answers"] == 1.0 and made["size"]["layers"] == 1
    assert made["size"]["bf16_checkpoint_bytes"] == 1000 and made["size"]["checkpoint_bytes"] == record["bytes"]
    (job,) = jobs
    assert (job["modifier"], job["longest"], job["seed"], len(job["questions"])) == ("gptq", 512, 7, 8)
    first = micro_questions(8, 7)[0][0]
    assert job["questions"][0]["prompt"] == render(TEMPLATES["number"], first["question"], first["choices"])


def test_a_method_that_looks_at_no_texts_gets_none(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool(KEPT | {"model.layers.0.mlp.up_proj.weight": tensor("F8_E4M3", 512, 256)})
    record = quantizing.quantize(request(method="fp8"), base, Path("python"), tmp_path / "q")
    assert jobs[0]["calibration"] is None and record["quantization"]["calibration"] is None


def test_nothing_is_recorded_of_a_model_that_fails_its_checks(base: Path, tmp_path: Path, tool: Any) -> None:
    tool(KEPT | PACKED, right=False)
    with pytest.raises(ModelError, match=r"^quantizations\.q \(model 'm'\): .*fewer than 20%"):
        quantizing.quantize(request(), base, Path("python"), tmp_path / "q")
    assert not (tmp_path / "q" / "model.json").exists()


def test_a_ready_made_checkpoint_is_linked_and_checked(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool({})
    ready = checkpoint(tmp_path / "ready", KEPT | PACKED, "compressed-tensors")
    record = quantizing.quantize(request(checkpoints={"m": {"path": str(ready)}}), base, Path("python"), tmp_path / "q")
    assert (tmp_path / "q" / "checkpoint").resolve() == ready and record["source"] == "path"
    assert jobs[0]["scheme"] is None and record["quantization"]["agreement"]["equal_answers"] == 1.0


def test_a_ready_made_checkpoint_of_another_tool_is_judged_by_its_size(base: Path, tmp_path: Path, tool: Any) -> None:
    jobs = tool({})
    ready = checkpoint(tmp_path / "ready", KEPT | PACKED, "gptq")
    spec = request(checkpoints={"m": {"path": str(ready)}})
    record = quantizing.quantize(spec, base, Path("python"), tmp_path / "q")
    assert jobs == [] and record["quantization"]["agreement"] is None and record["quantization"]["size"]["layers"] == 1
    checkpoint(ready, KEPT | PACKED, "awq")
    with pytest.raises(ModelError, match=r"^quantizations\.q\.checkpoints\.m: .*'awq'; gptq-int4 is one of"):
        quantizing.quantize(spec, base, Path("python"), tmp_path / "q")


def test_a_tool_that_fails_is_told_with_its_last_lines(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*arguments: Any, **variables: str) -> None:
        raise ChildError("ended with code 1: out of memory")

    monkeypatch.setattr(quantizing, "follow", fail)
    with pytest.raises(ModelError, match=r"^quantizations\.q \(model 'm'\): .*code 1: out of memory"):
        quantizing.quantize(request(), base, Path("python"), tmp_path / "q")


def test_a_program_of_another_environment_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        follow("it", Path(sys.executable), "rllm_serving.logs", [], SOME="1")
        with pytest.raises(ChildError, match=r"(?s)ended with code 1: .*No module named rllm_serving\.nowhere"):
            follow("it", Path(sys.executable), "rllm_serving.nowhere", [])
    assert "it: " in caplog.text


# The engines and the study.


def words(engine: str, method: str, device: str = "cpu") -> list[str]:
    launch = Launch(Path("py"), Path("m"), None, "m", device, Options(), None, False, 1, method)
    return ENGINES[engine].command(launch, 1)


def test_engines_are_told_of_methods_that_no_checkpoint_tells() -> None:
    for engine in ENGINES:
        assert words(engine, "int8") == words(engine, "bf16")
    assert words("sglang", "torchao-int8-dynamic")[-2:] == ["--torchao-config", "int8dq"]
    assert words("sglang", "bnb-nf4", "cuda")[-4:] == [
        "--quantization",
        "bitsandbytes",
        "--load-format",
        "bitsandbytes",
    ]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_served_or_refused_with_a_reason(engine: str, device: str, method: str) -> None:
    told = dict(ENGINES[engine].refusals({"quantization": method}, device))
    on_cpu = {
        "vllm": {"bf16", "fp8", "int8", "gptq-int4", "awq-int4"},
        "sglang": {"bf16", "torchao-int8-weight", "torchao-int8-dynamic", "torchao-fp8-weight"},
    }
    if device == "cpu":
        assert bool(told) == (method not in on_cpu[engine])
    assert all(len(reason) > 40 and "it has" not in reason for reason in told.values())


def test_the_study_knows_what_a_quantized_run_serves() -> None:
    study = load(
        changed(
            ("quantizations", {"w4": {"method": "gptq-int4"}}), ("experiments.single.quantizations", ["bf16", "w4"])
        )
    )
    assert {run.quantization: run.method for run in study.runs.values()} == {"bf16": "bf16", "w4": "gptq-int4"}
    assert study.has_checkpoint("w4") and not study.has_checkpoint("bf16")
    assert next(r for r in study.runs.values() if r.quantization == "w4").served["quantization"] == "gptq-int4"


def test_a_method_that_an_engine_does_not_serve_is_an_error_or_marked() -> None:
    changes: list[tuple[str, Any]] = [
        ("quantizations", {"nf4": {"method": "bnb-nf4"}}),
        ("experiments.single.quantizations", ["bf16", "nf4"]),
    ]
    with pytest.raises(ConfigError, match=r"^quantizations\.nf4\.method \(model 'tiny-rllm'.*bitsandbytes"):
        load(changed(*changes))
    study = load(changed(*changes, ("on_unsupported", "mark")))
    assert [row["quantization"] for row in study.unsupported] == ["nf4"]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ({}, ["quantizations.q: ", "'method'", "gptq-int4"]),
        ({"method": "fp7"}, ["quantizations.q.method: ", "'fp7'", "awq-int4"]),
        ({"method": "fp8", "samples": 4}, ["quantizations.q: ", "'samples'", "looks at no texts"]),
        ({"method": "bnb-nf4", "dataset": "easy"}, ["quantizations.q: ", "'dataset'", "without a checkpoint"]),
        ({"method": "int8", "dataset": "gsm8k"}, ["quantizations.q.dataset: ", "'gsm8k'", "easy, facts"]),
        ({"method": "int8", "checkpoints": {}}, ["quantizations.q.checkpoints: ", "empty"]),
        ({"method": "int8", "checkpoints": {"x": {"path": "."}}}, ["quantizations.q.checkpoints: ", "'x'", "tiny-llm"]),
        (
            {"method": "int8", "checkpoints": {"tiny-llm": {"id": "a/b"}}},
            ["quantizations.q.checkpoints.tiny-llm: ", "'revision'"],
        ),
        (
            {"method": "int8", "checkpoints": {"tiny-llm": {"path": "no/such"}}},
            ["quantizations.q.checkpoints.tiny-llm.path: ", "no/such", "existing"],
        ),
        (
            {"method": "int8", "checkpoints": {"tiny-llm": {"path": ".", "id": "a/b"}}},
            ["quantizations.q.checkpoints.tiny-llm: ", "'id'", "beside path"],
        ),
    ],
)
def test_a_mistake_in_a_quantization_is_one_line(spec: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(changed(("quantizations", {"q": spec})))
    line = str(caught.value)
    assert line.startswith(parts[0]) and all(part in line for part in parts) and "\n" not in line, line


def test_a_folder_of_the_models_own_is_no_name_for_a_quantization() -> None:
    with pytest.raises(ConfigError, match=r"^quantizations: the key 'checkpoint' has no meaning as the name"):
        load(changed(("quantizations", {"checkpoint": {"method": "fp8"}})))


def test_a_model_that_is_not_micro_needs_questions_to_be_quantized_with() -> None:
    changes: list[tuple[str, Any]] = [
        ("models.x", HUB),
        ("quantizations", {"q": {"method": "int8"}}),
        ("experiments.budget.quantizations", ["q"]),
    ]
    with pytest.raises(ConfigError, match=r"^quantizations\.q\.dataset: missing.*'x'.*allowed: easy, facts$"):
        load(changed(*changes))
    assert load(changed(*changes, ("quantizations.q.dataset", "easy"))).runs
