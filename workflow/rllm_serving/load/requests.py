"""What is sent: the request body of each question of a point, and the bytes that carry it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..datasets import prompts
from ..study.design import Point, Run, request_seed


class PlannedRequest(NamedTuple):
    """One request of a point: a row of its dataset, the sampling seed, and what the arrivals say of it.

    time: s since the point's start, None where the load is not open-loop; output_tokens: length that the
    answer is made to have, None for its own.
    """

    question: Mapping[str, Any]
    seed: int
    time: float | None = None
    output_tokens: int | None = None


def plan_requests(
    run: Run,
    point: Point,
    questions: Sequence[Mapping[str, Any]],
    arrivals: Sequence[Mapping[str, Any]] | None = None,
) -> list[PlannedRequest]:
    """The requests of a point, in the order that they are sent; arrivals: its rows of `arrivals.SCHEMA`, if any."""
    if arrivals is None:
        plain = (
            (question, sample) for question in questions[: point.num_questions] for sample in range(point.n_samples)
        )
        return [PlannedRequest(question, _seed(run, point, question, sample)) for question, sample in plain]
    planned = []
    for row in arrivals:
        question = questions[row["question"]]
        planned.append(
            PlannedRequest(question, _seed(run, point, question, row["sample"]), row["time"], row["output_tokens"])
        )
    return planned


def _seed(run: Run, point: Point, question: Mapping[str, Any], sample: int) -> int:
    return request_seed(run.seed, point.dataset, question["question_id"], point.repeat, sample)


def build_bodies(run: Run, point: Point, asks: Sequence[PlannedRequest], template: Path) -> list[dict[str, Any]]:
    """Bodies of /v1/chat/completions, one a request of `plan_requests`, in its order.

    Streamed, with running usage and, where the engine has them, token ids; a seed a request. Under shortest-prompt
    scheduling a request's priority is the length of its prompt in characters, lower first. A model that thinks on
    request is told so by the variable of its chat template that Qwen3's has. An answer that is made to have a length
    neither ends before it nor goes on after it.
    """
    result = []
    for ask in asks:
        text = prompts.render(template, ask.question["question"], ask.question["choices"])
        body = {
            "model": run.model,
            "messages": [{"role": "user", "content": text}],
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "return_token_ids": True,
            "max_tokens": point.budget,
            "seed": ask.seed,
            **run.sampling,
        }
        if run.thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": run.thinking}
        if ask.output_tokens is not None:
            body |= {"max_tokens": ask.output_tokens, "ignore_eos": True}
        if run.options.scheduling == "shortest-prompt":
            body["priority"] = len(text)
        result.append(body)
    return result


def build_http_request(
    host: str, port: int, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> bytes:
    """A complete HTTP/1.1 POST request, ready to be written to a socket.

    Args:
        host: of the server.
        port: of the server.
        path: of the resource.
        body: sent as JSON.
        headers: further ones, or others in place of Host.
    """
    payload = msgspec.json.encode(body)
    fields = {"Host": f"{host}:{port}", "Content-Type": "application/json", "Accept": "text/event-stream"}
    fields |= {**(headers or {}), "Content-Length": str(len(payload))}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + payload
