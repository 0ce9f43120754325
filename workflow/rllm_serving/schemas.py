"""The columns that name a row, in the order that every file has them."""

SERVER_KEYS = ("experiment", "engine", "model", "quantization", "setup")
"""Name a server of an experiment."""

START_KEYS = ("start", "restart")
"""Name one start of a server: the number of its run, from 1, and how often that run had to start it again before."""

CONDITION_KEYS = ("dataset", "load", "load_level", "budget")
"""Name what is asked of a server; the repeats of a condition are its points."""

ENGINE_COLUMNS = (
    *("kv_cache_usage", "running", "waiting", "preemptions", "prefix_queries", "prefix_hits"),
    *("spec_drafted", "spec_accepted", "spec_steps", "prompt_tokens", "generated_tokens"),
)
"""The columns of server.parquet that come from the engine's own metrics."""

OWN_ENGINES = ("vllm", "sglang")
"""Engines that the workflow starts. All others are servers that already run: nothing of them is controlled, and what
tables call starts are sessions with them."""
