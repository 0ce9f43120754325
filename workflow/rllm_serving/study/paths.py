"""Files and folders that a config names: whether each is there and can be read, told in one line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .config_engines import by_model, engine_entries
from .config_errors import ConfigError


def config_paths(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every local path that a completed config names, as it stands there, with its key."""
    for section in ("models", "datasets"):
        for name, entry in config[section].items():
            if entry["source"] == "path":
                yield f"{section}.{name}.path", entry["path"]
    for name, entry in engine_entries(config["engines"]).items():
        for model, path in by_model(entry.get("tokenizer", {})):
            yield ".".join(["engines", name, "tokenizer", *[model] * bool(model)]), path
    for name, path in config["local_paths"].items():
        yield f"local_paths.{name}", path
    for name, entry in config["traces"].items():
        yield f"traces.{name}.path", entry["path"]
    for name, entry in config["quantizations"].items():
        for model, checkpoint in entry.get("checkpoints", {}).items():
            if "path" in checkpoint:
                yield f"quantizations.{name}.checkpoints.{model}.path", checkpoint["path"]
    if config["compare_with"] is not None:
        yield "compare_with", config["compare_with"]


def check_path(key: str, text: str) -> Path:
    """Return the file or folder that a value of the config means.

    Raises:
        ConfigError: where there is none, or it cannot be read.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}: {text}: no such user's home is known here; write the whole path") from None
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{key}: {path} is not there; give an existing file or folder") from None
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read ({error.strerror}); give another file or folder") from None
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ConfigError(f"{key}: {path} is neither a file nor a folder; give one of these")
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(kind) else 0)):
        raise ConfigError(f"{key}: {path} cannot be read (Permission denied); let this user read it")
    return path
