"""The files of a run: schemas of requests.parquet and server.parquet, and rows from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..load.client import HttpExchange
from ..load.requests import PlannedRequest
from ..load.stream import RequestResult
from ..schemas import ENGINE_COLUMNS, SERVER_KEYS, START_KEYS

_KEYS = [
    *((name, pa.string()) for name in SERVER_KEYS),
    *((name, pa.int32()) for name in START_KEYS),
    ("dataset", pa.string()),
    ("load", pa.string()),
    ("load_level", pa.float64()),
    ("budget", pa.int32()),
    ("repeat", pa.int32()),
]

REQUESTS = pa.schema(
    [
        *_KEYS,
        ("index", pa.int32()),
        ("batch", pa.int32()),
        *((name, pa.string()) for name in ("question_id", "kind", "domain", "difficulty")),
        ("seed", pa.int64()),
        ("forced_output_tokens", pa.int32()),
        *(
            (name, pa.float64())
            for name in ("scheduled", "sent", "first_token", "first_visible_token", "last_token", "closed")
        ),
        ("chunk_times", pa.list_(pa.float64())),
        *((name, pa.list_(pa.int32())) for name in ("chunk_tokens", "chunk_reasoning_chars", "chunk_answer_chars")),
        ("token_ids", pa.list_(pa.int32())),
        *((name, pa.int64()) for name in ("prompt_tokens", "output_tokens", "reasoning_tokens", "answer_tokens")),
        *((name, pa.int64()) for name in ("streamed_ids", "streamed_reasoning")),
        ("tokens_source", pa.string()),
        ("reasoning_source", pa.string()),
        ("finish_reason", pa.string()),
        ("status", pa.string()),
        ("http_status", pa.int32()),
        ("error", pa.string()),
        ("reasoning_text", pa.string()),
        ("answer_text", pa.string()),
        ("undecoded", pa.bool_()),
    ]
)
"""A row a request. load_level: see `Load.level`. Times: seconds since the point's start on one monotonic clock, null
when it never happened; last_token: of a request that ended well, closed: of any. forced_output_tokens: output tokens
that the answer was made to have, null for its own. chunk_reasoning_chars, chunk_answer_chars: characters of either text
that came with a chunk. token_ids: of the output, empty where none came in the stream; streamed_ids: their number, null
where none came. streamed_reasoning: thinking tokens by the chunks that they came with, see `RequestResult`. undecoded:
whether the texts have characters that only a vocabulary has (`stream.UNDECODED`)."""

SERVER = pa.schema(
    [
        *_KEYS,
        ("in_window", pa.bool_()),
        *((name, pa.float64()) for name in ("time", *ENGINE_COLUMNS)),
        *((name, pa.float64()) for name in ("device_memory_bytes", "device_utilisation")),
        *((name, pa.float64()) for name in ("device_power_w", "device_energy_j")),
        *((name, pa.float64()) for name in ("device_throttled", "device_other_processes")),
        *((name, pa.float64()) for name in ("host_rss_bytes", "host_cpu_cores")),
        *((name, pa.float64()) for name in ("host_others_cores", "host_steal_cores", "host_energy_j")),
    ]
)
"""A row a sample. time: seconds since the point's start (negative before it); in_window: whether it was taken while the
load lasted; kv_cache_usage and device_utilisation: 0-1; preemptions to generated_tokens: counters since the server's
start; spec_steps: steps in which drafts of a request were checked; device_energy_j: a counter since the driver was
loaded; device_throttled: 1 where a GPU was slowed down for heat or lack of power; device_other_processes: number of
processes on its GPUs that are not the server's. In cores since the previous sample: host_cpu_cores, CPU time of the
server's processes; host_others_cores, of all processes but the server's and the client, on the cores that these may
use; host_steal_cores, what a hypervisor took from those. host_energy_j: a counter since the point's first sample, of
the machine's processors and memory, whoever uses them. Null where a source has none."""


def requests_table(
    keys: Mapping[str, Any],
    start: float,
    planned: Sequence[PlannedRequest],
    exchanges: Sequence[tuple[HttpExchange, int | None]],
    decode: Callable[[HttpExchange], RequestResult],
) -> pa.Table:
    """Make the rows of requests.parquet of one point.

    Args:
        keys: columns that name the run and the point.
        start: the point's start on the client's clock (s).
        planned: the requests.
        exchanges: of each request, what was sent and received when, and the number of its batch.
        decode: reads an answer.
    """

    def since(stamp: float | None) -> float | None:
        return None if stamp is None else stamp - start

    rows = []
    for index, (request, (exchange, batch)) in enumerate(zip(planned, exchanges, strict=True)):
        result = decode(exchange)
        rows.append(
            {
                **keys,
                "index": index,
                "batch": batch,
                **{name: request.question[name] for name in ("question_id", "kind", "domain", "difficulty")},
                "seed": request.seed,
                "forced_output_tokens": request.output_tokens,
                **{name: since(getattr(exchange, name)) for name in ("scheduled", "sent", "closed")},
                **{name: since(getattr(result, name)) for name in ("first_token", "first_visible_token", "last_token")},
                "chunk_times": [stamp - start for stamp in result.chunk_times],
                **{name: getattr(result, name) for name in _RESULT_COLUMNS},
            }
        )
    return to_table(rows, REQUESTS)


_RESULT_COLUMNS = REQUESTS.names[REQUESTS.names.index("chunk_tokens") :]


def to_table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Make a table of exactly the schema's columns and types; values that a row lacks are null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def rows_with(table: pa.Table, keys: Mapping[str, Any]) -> pa.Table:
    """Select the rows whose columns have the values of `keys`."""
    for name, value in keys.items():
        table = table.filter(pc.equal(table[name], value))
    return table
