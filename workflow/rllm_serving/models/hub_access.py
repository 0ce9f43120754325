"""Whether models and datasets of the hub can be had, asked before anything large is fetched."""

from __future__ import annotations

import os


def refusal(repository: str, kind: str) -> str | None:
    """Return why the hub does not give something, with what to do; None where it does, or cannot be asked.

    Args:
        repository: its id.
        kind: "model" or "dataset".
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    from huggingface_hub import HfApi, errors

    token = os.environ.get("HF_TOKEN")
    try:
        HfApi(token=token or False).auth_check(repository, repo_type=kind)
    except errors.GatedRepoError:
        access = "the token in HF_TOKEN has no access" if token else "HF_TOKEN is not set"
        return f"it is gated and {access}; accept its terms on its hub page, then export HF_TOKEN"
    except errors.RepositoryNotFoundError:
        return "the hub does not know it; check its id (a private one needs HF_TOKEN)"
    except Exception:  # the HTTP client raises its own errors
        # Rule fetch_model says what is wrong with the network, and what to do without one.
        return None
    return None
