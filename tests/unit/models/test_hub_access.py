"""What the hub says of models that it gives not to all, told without the token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, errors
from rllm_serving.models.hub_access import refusal

RESPONSE: Any = SimpleNamespace(headers={}, request=None)
"""What the hub's errors want to be made from."""


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the hub answers, to be filled; no token, and a network."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    answers: list[Any] = []

    def answer(self: HfApi, *_: Any, **__: Any) -> None:
        if answers:
            raise answers[0]

    monkeypatch.setattr(HfApi, "auth_check", answer)
    return answers


def test_what_can_be_had_is_not_refused(hub: list[Any]) -> None:
    assert refusal("a/b", "model") is None


@pytest.mark.parametrize(("token", "said"), [(None, "HF_TOKEN is not set"), ("hf_secret", "has no access")])
def test_what_is_gated_is_said_with_what_to_do(
    hub: list[Any], token: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    hub.append(errors.GatedRepoError("gated", response=RESPONSE))
    found = refusal("a/b", "model")
    assert found is not None and said in found and "accept its terms" in found and "hf_secret" not in found
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refusal("a/b", "model") is None


def test_what_is_not_there_is_said_and_a_hub_that_cannot_be_reached_is_no_refusal(hub: list[Any]) -> None:
    hub.append(errors.RepositoryNotFoundError("none", response=RESPONSE))
    assert "does not know it" in str(refusal("a/b", "dataset"))
    hub[:] = [RuntimeError("no network")]
    assert refusal("a/b", "dataset") is None
