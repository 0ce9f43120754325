"""Tables of single servers and comparisons, as an experiment of nothing else would have them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rllm_serving.analysis import comparison
from rllm_serving.analysis.comparison import Rules
from rllm_serving.analysis.points import Slo, experiment_tables, noise_table, start_table
from rllm_serving.analysis.server_data import ServerData
from rllm_serving.analysis.verdicts import with_verdicts

MARGINS = {"accuracy": 0.05, "output_throughput": 0.1, "latency": 0.1, "tokens": 0.1, "kv_cache_usage": 0.1}


def points(server: ServerData, slo: Slo | None = None) -> pd.DataFrame:
    """A row a point."""
    return experiment_tables([server], slo).points


def summary(*servers: ServerData, slo: Slo | None = None, price_per_hour: float | None = None) -> pd.DataFrame:
    """A row a server and condition."""
    return experiment_tables(servers, slo, price_per_hour=price_per_hour).summary


def breakdown(server: ServerData, by: str) -> pd.DataFrame:
    """A row a condition and difficulty or domain."""
    return getattr(experiment_tables([server]), by)


def rules(*servers: ServerData) -> Rules:
    """What comparisons of these servers are judged by."""
    starts = pd.concat([start_table(server) for server in servers], ignore_index=True)
    return Rules(noise_table(starts), starts, MARGINS)


def compare(candidate: ServerData, baseline: ServerData, *others: ServerData) -> pd.DataFrame:
    """The comparison of two servers of an experiment that may have others, with verdicts."""
    servers = {id(one): one for one in (candidate, baseline, *others)}
    return comparisons([(candidate, baseline)], rules(*servers.values()))


def comparisons(pairs: Sequence[tuple[ServerData, ServerData]], judged_by: Rules) -> pd.DataFrame:
    """The comparisons of an experiment, with verdicts."""
    return with_verdicts(pd.concat([comparison.compare(*pair, judged_by) for pair in pairs], ignore_index=True))
