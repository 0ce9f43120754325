"""Checkpoints from the hub or a local folder: checked, linked into the study's folder, and described in a record."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError

# Weights other than safetensors are not fetched: they run code when loaded, and double the download.
_FETCHED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken"]
_NOT_FETCHED = ["original/*", "consolidated*", "onnx/*", "*/*.safetensors"]
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model")
_MAX_HEADER_BYTES = 100 << 20


class ModelError(UserError):
    """A model that cannot be used; the message names its key in the config and what to do."""


def prepare_checkpoint(
    name: str, spec: Mapping[str, Any], target: Path, cache_dir: Path | None = None, key: str | None = None
) -> dict[str, Any]:
    """Make model `name` of the config (`spec`) ready for the engines and describe it in `target`/model.json.

    A hub model is downloaded into the hub's cache with the token in HF_TOKEN, if any; with HF_HUB_OFFLINE=1 it must
    be there already. `target`/checkpoint becomes a link to its folder.

    Args:
        name: the model's name in the config.
        spec: `source` hub (`id`, `revision`) or path (`path`); optional `trust_remote_code`.
        target: folder of the record and the link.
        cache_dir: the hub's cache; by default below HF_HOME.
        key: config key for error messages; by default `models.NAME`.

    Returns:
        The record: source, id, revision, commit (null for a folder), path (the folder that engines load), and what
        `describe` returns.

    Raises:
        ModelError: when the model cannot be fetched or is not a whole checkpoint.
    """
    hub = spec["source"] == "hub"
    key = key or f"models.{name}"
    folder = _snapshot(key, spec, cache_dir) if hub else Path(spec["path"]).expanduser().absolute()
    record = {
        "source": spec["source"],
        "id": spec.get("id"),
        "revision": spec.get("revision"),
        "commit": folder.name if hub else None,
        "path": str(target.absolute() / "checkpoint"),
        **describe(name, folder, spec.get("trust_remote_code", False), key),
    }
    target.mkdir(parents=True, exist_ok=True)
    link = target / "checkpoint"
    link.unlink(missing_ok=True)
    link.symlink_to(folder, target_is_directory=True)
    (target / "model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def describe(name: str, folder: Path, trust_remote_code: bool = False, key: str | None = None) -> dict[str, Any]:
    """Check that a folder is a whole checkpoint and describe it.

    Args:
        name: the model's name in the config.
        folder: the checkpoint.
        trust_remote_code: whether the model may bring Python code of its own.
        key: config key for error messages; by default `models.NAME`.

    Returns:
        files ({name, bytes}), bytes, parameters (null for a quantized checkpoint, whose tensors are packed), and from
        config.json (null where it has none): architecture, dtype, num_attention_heads, num_key_value_heads,
        max_position_embeddings.

    Raises:
        ModelError: when config.json, a tokenizer or weights (or one shard) are missing, a weight file is not in
            safetensors format, or the model brings code and `trust_remote_code` is not set.
    """
    key = key or f"models.{name}"
    if not (folder / "config.json").is_file():
        raise ModelError(f"{key}: {folder} has no config.json; give the folder of a Hugging Face checkpoint")
    config = _json(key, folder / "config.json")
    if not any((folder / file).is_file() for file in _TOKENIZERS):
        raise ModelError(f"{key}: {folder} has no tokenizer (one of {', '.join(_TOKENIZERS)})")
    weights = tensors(key, folder)
    if not trust_remote_code and any(
        "auto_map" in _json(key, file)
        for file in (folder / "config.json", folder / "tokenizer_config.json")
        if file.is_file()
    ):
        raise ModelError(
            f"{key}: {folder} brings code of its own (auto_map), which loading it would run; "
            f"read it, then set {key}.trust_remote_code: true, or choose another model"
        )
    parameters = sum(math.prod(tensor["shape"]) for tensor in weights.values())
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    sizes = [{"name": str(file.relative_to(folder)), "bytes": file.stat().st_size} for file in files]
    text = config.get("text_config", config)
    return {
        "files": sizes,
        "bytes": sum(file["bytes"] for file in sizes),
        "parameters": None if "quantization_config" in config else parameters,
        "architecture": next(iter(config.get("architectures") or []), None),
        "dtype": text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype"),
        "num_attention_heads": text.get("num_attention_heads"),
        "num_key_value_heads": text.get("num_key_value_heads"),
        "max_position_embeddings": text.get("max_position_embeddings"),
    }


def tensors(key: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Return every tensor of a checkpoint {name: dtype, shape, data_offsets}, from its safetensors headers.

    Raises:
        ModelError: naming `key`, when weights are missing or are no safetensors files.
    """
    weights = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    shards = set(_json(key, index)["weight_map"].values()) if index.is_file() else set()
    missing = sorted(shards - {file.name for file in weights if file.is_file()})
    if missing or not weights:
        raise ModelError(f"{key}: {folder} lacks weights: {', '.join(missing) or '*.safetensors'}")
    headers = [_header(key, file) for file in weights if not shards or file.name in shards]
    return {name: tensor for header in headers for name, tensor in header.items()}


def stored_parameters(key: str, folder: Path) -> float:
    """Parameters of the checkpoint in `folder`, from its files' headers.

    A quantized checkpoint packs several in a number: there it is how many bf16 ones its bytes would hold.

    Raises:
        ModelError: naming `key`, when weights are missing or are no safetensors files.
    """
    headers = tensors(key, folder).values()
    if "quantization_config" in _json(key, folder / "config.json"):
        return sum(end - start for start, end in (tensor["data_offsets"] for tensor in headers)) / 2
    return float(sum(math.prod(tensor["shape"]) for tensor in headers))


def _json(key: str, file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{key}: {file} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{key}: {file} is no JSON object")
    return content


def _header(key: str, file: Path) -> dict[str, dict[str, Any]]:
    """Return the tensors of a safetensors file from its header: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        # A pointer that Git LFS left in place of the file reads as an absurd length.
        header = stream.read(length) if length <= _MAX_HEADER_BYTES else b""
    try:
        entries = {name: tensor for name, tensor in json.loads(header).items() if name != "__metadata__"}
        if all(isinstance(size, int) for tensor in entries.values() for size in tensor["shape"]):
            return entries
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ModelError(f"{key}: {file} is no safetensors file (cut off, or a Git LFS pointer?)")


def _snapshot(key: str, spec: Mapping[str, Any], cache_dir: Path | None) -> Path:
    """Return the folder of a hub model in the hub's cache, downloaded if need be; its name is the commit."""
    from huggingface_hub import errors, snapshot_download

    description = f"{spec['id']} at revision {spec['revision']}"
    token = os.environ.get("HF_TOKEN")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    try:
        folder = snapshot_download(
            spec["id"],
            revision=spec["revision"],
            cache_dir=cache_dir,
            token=token or False,  # False: send none, not even one that a login left on this machine
            local_files_only=offline,
            allow_patterns=_FETCHED,
            ignore_patterns=_NOT_FETCHED,
        )
    except errors.GatedRepoError:
        access = "the token in HF_TOKEN has no access" if token else "no token is set"
        problem = f"{description} is gated and {access}; accept its terms on its hub page, then export HF_TOKEN"
    except errors.RepositoryNotFoundError:
        problem = f"the hub knows no model {spec['id']}; check {key}.id (a private one needs HF_TOKEN)"
    except errors.RevisionNotFoundError:
        problem = f"{spec['id']} has no revision {spec['revision']}; check {key}.revision"
    except errors.LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be reached ({_one_line(error, token)})"
        problem = (
            f"{description} is not (or not wholly) in the hub's local cache and {reason}; "
            "fetch it once with a network, or give a folder (source: path, path: ...)"
        )
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        problem = f"{description} could not be fetched: {_one_line(error, token)}"
    else:
        return Path(folder)
    raise ModelError(f"{key}: {problem}") from None


def _one_line(error: Exception, token: str | None) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text.replace(token, "***") if token else text
