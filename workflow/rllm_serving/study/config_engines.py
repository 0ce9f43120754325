"""Sections of the config about engines: those that the workflow starts, and servers that already run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag

from .config_base import VARIABLE, Count, Name, Names, Rule, Section, Text, key

Extra = Literal["seed", "return_token_ids", "continuous_usage_stats", "chat_template_kwargs", "ignore_eos"]
TextOfModel = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[dict[Name, Text], Field(min_length=1), Tag("<mapping>")],
    Discriminator(lambda value: "<mapping>" if isinstance(value, Mapping) else "<text>"),
]
"""One text for every model, or one for each that is named."""


class OwnEngine(Section):
    """An engine that the workflow starts itself: it has no keys."""


class Endpoint(Section):
    """A server that already runs."""

    type: Literal["openai"]
    """what it speaks: OpenAI's chat completions, streamed"""
    url: Text = key(..., allowed="address as OpenAI's clients take it, as a rule `http(s)://HOST[:PORT]/v1`")
    """requests go to `/chat/completions` below it, directly, whatever proxies the environment names. Of `https` the
    certificate is checked; the environment's SSL_CERT_FILE names another file of authorities. Redirects are not
    followed"""
    api_key_env: str = key(allowed="name of an environment variable", shown="no key is sent", pattern=VARIABLE)
    """where the key is, which is sent as a bearer token and stands in no file"""
    model: TextOfModel = key(allowed="text, or mapping: a text for each model that it serves", shown="the model's name")
    """what the server calls the model. Models that a mapping leaves out cannot be served there"""
    tokenizer: TextOfModel = key(allowed="a `tokenizer.json` or its folder, or mapping: one for each model")
    """counts tokens of the streamed texts where the server tells only their sum at the end, or nothing; without it such
    numbers are missing. `tokens_source` says where each number comes from"""
    thinking: Literal["fields", "tags"] = "fields"
    """how a model with a `reasoning_parser` tells thinking from answer: by fields of its own (`reasoning_content` or
    `reasoning`), or in its text, where thinking ends with `</think>`"""
    metrics: Literal["vllm", "sglang"] | None = None
    """whose names the server's page of metrics has; null: it has none, and those columns are missing"""
    metrics_url: Text = key(allowed="address of a page", shown="`/metrics` of the same server")
    """where that page is"""
    extras: list[Extra] = key([], allowed=f"list of {', '.join(f'`{name}`' for name in get_args(Extra))}")
    """fields of requests beyond OpenAI's that the server knows; others are not sent. `chat_template_kwargs` is needed
    by models with `thinking`, `ignore_eos` by loads that replay lengths"""
    omit: list[Literal["temperature", "top_p", "stream_options"]] = key(
        [], allowed="list of `temperature`, `top_p`, `stream_options`"
    )
    """fields of requests that the server refuses; how tokens are drawn is then its own matter"""
    budget_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """what it calls the token budget"""
    max_in_flight: Count = key(...)
    """requests that it is sent at once, at most: no load may be larger. One of an open-loop load that would be one more
    is not sent, and has failed"""
    max_requests: Count = key(...)
    """requests that all experiments of the study send it together, optional ones and warming up included, at most; what
    is measured again comes on top"""
    warm_up_rounds: int = key(1, ge=0, le=100)
    """rounds of the largest load that are sent before a session, unrecorded"""

    rules: ClassVar[tuple[Rule, ...]] = (Rule("metrics_url", required=("metrics",)),)

    @classmethod
    def problem(cls, data: Mapping[Any, Any]) -> str | None:
        """Refuse addresses that cannot be requested, and such that hold secrets."""
        problem = super().problem(data)
        for name in ("url", "metrics_url"):
            if problem is None and isinstance(data.get(name), str):
                problem = _address_problem(name, data[name])
        return problem


def _address_problem(name: str, text: str) -> str | None:
    # The text itself is not repeated where it may hold a secret.
    try:
        address = urlsplit(text)
        port = address.port
    except ValueError as error:
        return f"{name} is no address: {error}; give http(s)://HOST[:PORT]/PATH"
    if address.username or address.password:
        return f"{name} holds a user or password; give the name of an environment variable as api_key_env"
    if address.scheme not in ("http", "https") or not address.hostname or port == 0 or not text.isascii():
        return f"{name} is no address; give http(s)://HOST[:PORT]/PATH"
    if address.query or address.fragment:
        return f"{name} has a query or a fragment; give the address without them"
    if name == "url" and address.path.rstrip("/").endswith("/completions"):
        return f"{name} ends in /completions; give the address above it, which ends in /v1 as a rule"
    return None


class Engines(Section, extra="allow"):
    """Engines by name."""

    vllm: OwnEngine = key(allowed="`{}`")
    """vLLM, started by the workflow"""
    sglang: OwnEngine = key(allowed="`{}`")
    """SGLang, likewise"""
    __pydantic_extra__: dict[Name, Endpoint]
    entry: ClassVar[type[Section]] = Endpoint

    @classmethod
    def problem(cls, data: Mapping[Any, Any]) -> str | None:
        """Refuse a study without engines."""
        return super().problem(data) if data else "must not be empty; name vllm, sglang or a server that runs"


EnginesOrNames = Annotated[
    Annotated[Engines, Tag("<mapping>")] | Annotated[Names, Tag("<names>")],
    Discriminator(lambda value: "<mapping>" if isinstance(value, Mapping | Section) else "<names>"),
]


def engine_entries(engines: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the entry of each engine of a completed config, in the order of the study; those of a list are empty."""
    if not isinstance(engines, Mapping):
        return {name: {} for name in engines}
    own = [name for name in Engines.model_fields if name in engines]
    return {name: engines[name] for name in [*own, *sorted(set(engines) - set(own))]}


def by_model(texts: str | Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (model, text) of a TextOfModel; the model of a text for all is empty."""
    return [("", texts)] if isinstance(texts, str) else sorted(texts.items())
