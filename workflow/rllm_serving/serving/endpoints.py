"""Servers that already run: where they are, what they are sent, and the key that they ask for."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..errors import UserError

LOCAL = ("localhost", "127.0.0.1", "::1")
HIDDEN = "***"
"""Stands for a key wherever a text would show it."""


class EndpointError(UserError):
    """A server that already runs cannot be measured; the message names its key in the config."""


@dataclass(frozen=True)
class Address:
    """Where requests go.

    Attributes:
        host: its name or number, as the certificate has it.
        port: its TCP port.
        path: of the resource.
        tls: whether the connection is encrypted.
    """

    host: str
    port: int
    path: str
    tls: bool

    @classmethod
    def of(cls, url: str, below: str = "") -> Address:
        """Return that of a URL, or of a path below it."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls(str(parts.hostname), port, parts.path.rstrip("/") + below or "/", tls)

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether it is an address of this machine alone."""
        return self.host in LOCAL

    def context(self) -> ssl.SSLContext | None:
        """What checks its certificate: the system's authorities, or those that SSL_CERT_FILE names; None without TLS.

        Raises:
            EndpointError: when that file cannot be read.
        """
        if not self.tls:
            return None
        named = os.environ.get("SSL_CERT_FILE")
        try:
            context = ssl.create_default_context(cafile=named or None)
        except OSError as error:
            raise EndpointError(f"SSL_CERT_FILE: {named} is no file of certificates: {error}") from None
        context.set_alpn_protocols(["http/1.1"])
        return context


@dataclass(frozen=True)
class Endpoint:
    """A server that already runs, as a run asks it.

    Attributes:
        name: of the engine in the config.
        url: below which `/chat/completions` is.
        model: what it calls the model.
        api_key_env: variable that holds its key; None: it asks for none.
        tokenizer: tokenizer.json that counts what it does not; None: nothing does.
        thinking: "fields" or "tags": how thinking is told from answer.
        metrics: engine whose names its metrics have; None: it has none.
        metrics_url: where they are.
        extras: fields of requests beyond OpenAI's that it is sent.
        omit: fields of requests that it is not sent.
        budget_field: what it calls the token budget.
        max_in_flight: requests that it is sent at once, at most.
        warm_up_rounds: rounds of the largest load before a session.
    """

    name: str
    url: str
    model: str
    max_in_flight: int
    api_key_env: str | None = None
    tokenizer: str | None = None
    thinking: str = "fields"
    metrics: str | None = None
    metrics_url: str | None = None
    extras: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    budget_field: str = "max_tokens"
    warm_up_rounds: int = 1

    @property
    def completions(self) -> Address:
        """Where chat completions are."""
        return Address.of(self.url, "/chat/completions")

    @property
    def metrics_page(self) -> Address | None:
        """Where its metrics are; None where it has none."""
        if self.metrics is None:
            return None
        if self.metrics_url is not None:
            return Address.of(self.metrics_url)
        address = self.completions
        return Address(address.host, address.port, "/metrics", address.tls)

    def key(self) -> str | None:
        """The key, from the environment; None where it needs none.

        Raises:
            EndpointError: when it is not there, or cannot stand in a header.
        """
        if self.api_key_env is None:
            return None
        place = f"engines.{self.name}.api_key_env: {self.api_key_env}"
        found = os.environ.get(self.api_key_env, "").strip()
        if not found:
            raise EndpointError(f"{place} is not set in the environment, or empty; export it")
        if not found.isascii() or not found.isprintable() or " " in found:
            raise EndpointError(f"{place} holds blanks or characters that no key has; export the key alone")
        return found

    def headers(self, experiment_id: str) -> dict[str, str]:
        """Headers of its requests: which measurement they are of, and the key.

        Raises:
            EndpointError: as `key`.
        """
        key = self.key()
        own = {"X-Experiment-Id": experiment_id}
        return own if key is None else {**own, "Authorization": f"Bearer {key}"}

    def body(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body as this server takes it.

        Args:
            own: the body that an engine of ours gets. What OpenAI does not define is left out, unless it is one of
                `extras`.
        """
        body = {name: value for name, value in own.items() if name in (*OPENAI_FIELDS, *self.extras)}
        if "stream_options" in body and "continuous_usage_stats" not in self.extras:
            body["stream_options"] = {"include_usage": True}
        body["model"] = self.model
        body = {name: value for name, value in body.items() if name not in self.omit}
        if self.budget_field != "max_tokens":
            body[self.budget_field] = body.pop("max_tokens")
        return body


OPENAI_FIELDS = ("model", "messages", "stream", "stream_options", "max_tokens", "temperature", "top_p")
"""Of those that we send: what every server takes. OpenAI defines `seed` as well, which not all of them know."""


def hide(text: str, key: str | None) -> str:
    """Return a text without the key, which servers repeat when they refuse it."""
    return text.replace(key, HIDDEN) if key else text
