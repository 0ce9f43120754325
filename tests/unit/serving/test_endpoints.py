"""Servers that already run: addresses, what they are sent, the key, and that one run at a time measures one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from helpers.endpoint_server import EndpointServer
from helpers.mock_server import eventually
from rllm_serving.serving import running
from rllm_serving.serving.endpoints import Address, Endpoint, EndpointError, hide

OURS = {
    "model": "m",
    "messages": [{"role": "user", "content": "1"}],
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "return_token_ids": True,
    "max_tokens": 8,
    "seed": 1,
    "temperature": 0.6,
    "top_p": 0.95,
    "priority": 3,
}


def endpoint(**options: Any) -> Endpoint:
    return Endpoint(
        **{"name": "far", "url": "https://far.example/v1", "model": "theirs", "max_in_flight": 4, **options}
    )


@pytest.mark.parametrize(
    ("url", "authority", "address"),
    [
        ("https://far.example/v1", "far.example", Address("far.example", 443, "/v1/chat/completions", True)),
        ("http://far.example/", "far.example", Address("far.example", 80, "/chat/completions", False)),
        ("http://[::1]:8000/v1/", "[::1]:8000", Address("::1", 8000, "/v1/chat/completions", False)),
        ("https://far:8443/a/v1", "far:8443", Address("far", 8443, "/a/v1/chat/completions", True)),
    ],
)
def test_an_address_is_that_of_the_url(url: str, authority: str, address: Address) -> None:
    found = endpoint(url=url).completions
    assert found == address and found.authority == authority
    assert (found.context() is not None) == address.tls and found.local == (address.host == "::1")


def test_metrics_are_at_the_root_of_the_server_unless_told() -> None:
    assert endpoint().metrics_page is None
    assert endpoint(metrics="vllm").metrics_page == Address("far.example", 443, "/metrics", True)
    other = endpoint(metrics="vllm", metrics_url="http://near:9000/m").metrics_page
    assert other == Address("near", 9000, "/m", False)


def test_only_what_openai_defines_is_sent_unless_the_config_adds_it() -> None:
    plain = endpoint().body(OURS)
    assert plain == {
        "model": "theirs",
        "messages": OURS["messages"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 8,
        "temperature": 0.6,
        "top_p": 0.95,
    }
    more = endpoint(extras=("seed", "return_token_ids", "continuous_usage_stats")).body(OURS)
    assert set(OURS) - set(more) == {"priority"} and more["stream_options"] == OURS["stream_options"]
    less = endpoint(omit=("temperature", "top_p", "stream_options"), budget_field="max_completion_tokens").body(OURS)
    assert set(less) == {"model", "messages", "stream", "max_completion_tokens"}


def test_the_key_comes_from_the_environment_and_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint().headers("a/b") == {"X-Experiment-Id": "a/b"}
    monkeypatch.setenv("FAR", " sk-secret\n")
    headers = endpoint(api_key_env="FAR").headers("a/b")
    assert headers["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(endpoint(api_key_env="FAR"))
    assert hide("you sent sk-secret!", "sk-secret") == "you sent ***!" and hide("x", None) == "x"
    for value in ("", "two words", "kl\u00e9"):
        monkeypatch.setenv("FAR", value)
        with pytest.raises(EndpointError, match=r"^engines\.far\.api_key_env: FAR "):
            endpoint(api_key_env="FAR").key()


def test_what_a_server_says_of_itself_may_be_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with EndpointServer() as server:
        told = running.reported(endpoint(url=server.url, model="chat"))
        assert told["models"] == [{"id": "chat", "owned_by": "somebody"}] and told["server"]
        assert running.reported(endpoint(url=server.url + "/none"))["models"] is None
    assert running.reported(endpoint(url=server.url)) == {"server": None, "models": None}


def test_one_run_at_a_time_measures_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(running, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(running, "LOCK_POLL_S", 0.01)
    order: list[str] = []

    def second() -> None:
        with running.alone("http://a/v1"):
            order.append("second")

    with running.alone("http://a/v1"):
        with running.alone("http://b/v1"):
            order.append("another server")
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    assert eventually(lambda: len(order) == 3) and order == ["another server", "first", "second"]
    thread.join()
