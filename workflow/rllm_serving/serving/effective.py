"""Asked against effective: the options that a server was started with beside those that it says it runs with.

Engines change options without failing: one turns the prefix cache off, shrinks the KV pool, or takes another policy. A
study that compares options must not compare what nobody served.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .engines import ServerConfig, Told
from .prefix_probe import has_hits
from .server import Server

DTYPE = "bfloat16"
"""What every server is asked to compute in."""
CHOSEN = ("attention_backend", "kv_block_tokens", "chunked_prefill", "overlap_scheduling")
"""Options that no config sets: each engine chooses them, for itself or because of another option."""
HITS = "prefix_cache_hits"
"""Not an option: whether a prompt that is asked twice is found in a prefix cache that the engine says is on."""
NOT_COMPARED = ("seed",)
"""Options that may differ between servers that are compared: every request brings a seed of its own."""
INFO_TIMEOUT_S = 60.0
TOLD_LINES, TOLD_LENGTH = 40, 300
"""How many lines of a log are kept, and of how many characters, where the engine tells what it changes."""
_CHANGE = re.compile(
    r"\b(?:disabl(?:e|ed|es|ing)|overrid(?:e|es|den|ing)|adjust(?:ed|ing)|reduced|fall(?:s|ing)? back|fallback|ignored"
    r"|not (?:supported|compatible)|(?:re)?set to|instead)\b",
    re.IGNORECASE,
)
_STAMP = re.compile(
    r"^(?:\([\w-]+ pid=\d+\) )?[A-Z]+ [\d-]+ [\d:]+ \[[\w.]+:\d+\] |^\[\d{4}-\d\d-\d\d [\d:.]+(?: [\w ]+)?\] "
)
"""What vLLM, or SGLang, has at the start of a line."""
# The whole config in one line, and warnings of Python.
_OTHER_LINES = re.compile(r"server_args=ServerArgs\(|with config: |non-default args: |^/\S+:\d+: ")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Difference:
    """An option that a server runs with otherwise than asked.

    Attributes:
        option: its name.
        asked: the value that was asked.
        effective: the value that the engine tells.
        compared: whether servers that differ in it must not be compared, so that it marks the run.
    """

    option: str
    asked: Any
    effective: Any
    compared: bool

    def __str__(self) -> str:
        return f"{self.option} asked {json.dumps(self.asked)}, effective {json.dumps(self.effective)}"


def asked(config: ServerConfig) -> dict[str, Any]:
    """Return the options that a server is asked for, by our names; None: left to the engine, or without a meaning."""
    options = asdict(config.options)
    if config.device == "cpu":
        options |= {"gpu_memory_fraction": None, "prefill_chunk_tokens": None}
    if config.options.speculative == "none":
        options["speculative_tokens"] = None
    return {
        **options,
        "dtype": DTYPE,
        "quantization": config.quantization,
        "seed": config.seed,
        HITS: config.options.prefix_cache or None,
        **dict.fromkeys(CHOSEN),
    }


def effective(server: Server) -> dict[str, Any]:
    """Ask a server that is ready for the options that it runs with: the names of `asked`, None where it tells none."""
    engine = server.engine
    told = Told(info=_info(server), metrics=_text(server, "/metrics"), log=server.log_text())
    resolved = engine.resolved(server.config, told)
    resolved.setdefault("attention_backend", "/".join(engine.backends_in(told.log).get("attention", [])) or None)
    if resolved.get("prefix_cache"):
        context = resolved.get("context_length") or server.config.options.context_length
        resolved[HITS] = has_hits(server, resolved.get("kv_block_tokens") or 1, context)
    return {name: resolved.get(name) for name in asked(server.config)}


def _info(server: Server) -> dict[str, Any]:
    if server.engine.info_path is None:
        return {}
    try:
        answer = json.loads(_text(server, server.engine.info_path))
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    log.warning("%s told nothing at %s: its options are not checked", server.engine.title, server.engine.info_path)
    return {}


def _text(server: Server, path: str) -> str:
    try:
        return server.get(path, INFO_TIMEOUT_S).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        log.warning("%s: GET %s failed: %s", server.engine.title, path, error)
        return ""


def differences(asked: Mapping[str, Any], effective: Mapping[str, Any]) -> list[Difference]:
    """Return the options that were asked and run otherwise; what the engine does not tell is no difference."""
    pool = asked.get("kv_cache_tokens") is not None
    found = []
    for option, wanted in asked.items():
        got = effective.get(option)
        if wanted is None or got is None or _same(option, wanted, got, effective):
            continue
        # Where the pool has a size of its own, the share of the memory that it could take says nothing.
        harmless = option in NOT_COMPARED or (option == "gpu_memory_fraction" and pool)
        found.append(Difference(option, wanted, got, not harmless))
    return found


def _same(option: str, wanted: Any, got: Any, effective: Mapping[str, Any]) -> bool:
    if option == "kv_cache_dtype" and wanted == "auto":
        return got in ("auto", effective.get("dtype") or DTYPE)
    if option == "kv_cache_tokens":
        # A pool has whole blocks.
        return abs(got - wanted) < (effective.get("kv_block_tokens") or 1)
    if isinstance(wanted, float):
        return math.isclose(wanted, got, abs_tol=1e-6)
    return bool(wanted == got)


def changes_told(text: str) -> list[str]:
    """Return the lines of a log in which an engine says that it changes or leaves out something; each once."""
    lines = (_STAMP.sub("", line).strip()[:TOLD_LENGTH] for line in text.splitlines() if not _OTHER_LINES.search(line))
    return list(dict.fromkeys(line for line in lines if _CHANGE.search(line)))[:TOLD_LINES]


def describe(server: Server) -> dict[str, Any]:
    """Describe a server's options for run.json: `asked`, `effective`, their `differences` and the `changes_told`."""
    wanted, got = asked(server.config), effective(server)
    return {
        "asked": wanted,
        "effective": got,
        "differences": [asdict(difference) for difference in differences(wanted, got)],
        "changes_told": changes_told(server.log_text()),
    }
