"""Metrics of single requests: pure functions over the columns of requests.parquet. Times are in seconds.

Arrival a: the scheduled time for open-loop loads (open, trace), so that a late client cannot
hide queueing; the send time for loads that wait for the server (batch, closed). Only requests with status
"ok" have latencies: a failure is counted, never averaged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..schemas import CONDITION_KEYS, SERVER_KEYS, START_KEYS
from .intervals import Array, Codes

SERVER = list(SERVER_KEYS)
CONDITION = list(CONDITION_KEYS)
NUMERIC = ["scheduled", "sent", "first_token", "first_visible_token", "last_token", "batch"]
NUMERIC += ["prompt_tokens", "output_tokens", "reasoning_tokens", "answer_tokens", "forced_output_tokens"]
TEXT = ["question_id", "domain", "difficulty", "status", "finish_reason"]
CHUNKS = ["chunk_times", "chunk_tokens"]
WRITTEN = ["reasoning_text", "answer_text"]
ASKED = [*SERVER, *START_KEYS, *CONDITION, "repeat", "index"]
POINT = ["dataset", "load", "budget", "repeat"]
"""Name a point of a server."""
DERIVED = ["derived_from", "cut", "has_visible_text"]
"""Columns of cut answers, see `grading.cutting`."""
GRADED = ["correct", "failure_mode", "extracted"]
"""What a grade says."""


def read(path: Path | str, texts: bool = False) -> pa.Table:
    """The columns of a requests.parquet that the analysis needs; with `texts` also `said`, batch by batch."""
    return _read(path, [*ASKED, *TEXT, *NUMERIC, "closed", *CHUNKS], texts)


def read_derived(path: Path | str, texts: bool) -> pa.Table:
    """The same of a file of cut answers: without chunks, with DERIVED and GRADED."""
    return _read(path, [*ASKED, *TEXT, *NUMERIC, "closed", *DERIVED, *GRADED], texts)


def _read(path: Path | str, columns: list[str], texts: bool) -> pa.Table:
    if not texts:
        return pq.read_table(path, columns=columns)
    file = pq.ParquetFile(path)
    parts = [with_text_hash(pa.Table.from_batches([part])) for part in file.iter_batches(columns=[*columns, *WRITTEN])]
    return pa.concat_tables(parts)


def with_text_hash(requests: pa.Table) -> pa.Table:
    """The table with `said`, 64 bits that stand for what the model thought and answered, in place of both texts.

    Equal texts have equal hashes; that different ones do has a chance of 1 in 2^64.
    """
    texts = [pc.fill_null(requests.column(name).cast(pa.string()), "") for name in WRITTEN]
    joined = pc.binary_join_element_wise(*texts, "\0").to_numpy()
    said = pd.util.hash_array(np.asarray(joined, dtype=object), categorize=False)
    return requests.drop_columns(WRITTEN).append_column("said", pa.array(said))


def latencies(requests: pa.Table) -> pd.DataFrame:
    """One row a request in the same order: the columns without chunk lists, and its metrics.

    completed: bool, status is "ok"; answered: bool, completed and some visible token came.
    derived_from: budget that an answer was cut from (tokens), NaN where it was measured; what was cut has no times.
    arrival, end: s since the point's start; end is the last chunk's time, missing unless ok.
    closed: `end` or, of a request that failed, when that was over (s); missing where `requests` does not tell.
    ttft = first token of any kind - arrival.
    ttfvt = first visible token (not thinking) - arrival; missing when none came.
    e2e_latency = last chunk - arrival.
    tpot = (last chunk - first token) / (output tokens - 1); missing below two output tokens.
    visible_tpot = (last chunk - first visible token) / (answer tokens - 1), the pace at which the answer comes; missing
    below two answer tokens.
    """
    columns = [name for name in requests.column_names if name not in CHUNKS]
    frame: pd.DataFrame = requests.select(columns).to_pandas().reset_index(drop=True)
    frame[NUMERIC] = frame[NUMERIC].astype(float)
    clocked = ~frame["load"].str.startswith(("batch", "closed"))
    ok = frame["status"] == "ok"
    arrival, end = frame["sent"].mask(clocked, frame["scheduled"]), frame["last_token"].where(ok)
    derived = {name: frame.get(name, pd.Series(np.nan, frame.index)) for name in ("derived_from", "has_visible_text")}
    later_tokens, later_visible = frame["output_tokens"] - 1, frame["answer_tokens"] - 1
    return frame.assign(
        completed=ok,
        answered=ok & (frame["first_visible_token"].notna() | derived["has_visible_text"].eq(True)),
        derived_from=derived["derived_from"].astype(float),
        arrival=arrival,
        end=end,
        closed=end.fillna(frame["closed"]) if "closed" in frame else end,
        ttft=frame["first_token"].where(ok) - arrival,
        ttfvt=frame["first_visible_token"].where(ok) - arrival,
        e2e_latency=end - arrival,
        tpot=(end - frame["first_token"]) / later_tokens.where(later_tokens >= 1),
        visible_tpot=(end - frame["first_visible_token"]) / later_visible.where(later_visible >= 1),
    )


def as_slice_if_contiguous(rows: Codes) -> slice | Codes:
    """Ascending row numbers as a slice, if they follow one another: taking that part of an array is no copy."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) and (np.diff(rows) == 1).all() else rows


class Chunks:
    """The chunks of all requests of a table from `read`.

    Raises ValueError when a request has not as many chunk_tokens as chunk_times.
    """

    def __init__(self, requests: pa.Table) -> None:
        lists = [requests.column(name).combine_chunks() for name in CHUNKS]
        self.counts, same = (pc.fill_null(pc.list_value_length(part), 0).to_numpy().astype(np.int64) for part in lists)
        if not np.array_equal(self.counts, same):
            raise ValueError("requests.parquet: chunk_times and chunk_tokens differ in length; measure this run again")
        self.starts = np.cumsum(self.counts) - self.counts
        self.times, self.tokens = (part.flatten().to_numpy(zero_copy_only=False) for part in lists)

    def take(self, rows: Codes, selected: NDArray[np.bool_] | None = None) -> pd.DataFrame:
        """One row a chunk that carried tokens: row (position in `rows`), time (s from the point's start), tokens.

        tokens: NaN where nobody told how many;
        rows: numbers of requests; selected: of which of them (default: all).
        """
        whole = as_slice_if_contiguous(rows)
        count = self.counts[whole]
        part: slice | Codes
        if isinstance(whole, slice) and (selected is None or selected.all()):
            first = self.starts[whole.start]
            part = slice(first, first + count.sum())
        else:
            count = count if selected is None else np.where(selected, count, 0)
            part = np.repeat(self.starts[rows] - (np.cumsum(count) - count), count) + np.arange(count.sum())
        row, time = np.repeat(np.arange(len(rows)), count), self.times[part].astype(float, copy=False)
        tokens = self.tokens[part].astype(float)
        full = ~(tokens <= 0)
        if not full.all():
            row, time, tokens = row[full], time[full], tokens[full]
        return pd.DataFrame({"row": row, "time": time, "tokens": tokens}, copy=False)


def token_gaps(chunks: pd.DataFrame) -> pd.DataFrame:
    """One row a gap between successive chunks (from `Chunks.take`) of a request.

    row: the request's number; gap: inter-chunk latency, s; tokens: tokens of the later chunk; itl: gap / tokens,
    inter-token latency, s. Tokens that come together in one chunk (speculative decoding, a busy server) share its gap
    equally: itl is the value of each of them, so tokens is its weight.
    """
    row, time, tokens = (chunks[name].to_numpy() for name in ("row", "time", "tokens"))
    same = row[1:] == row[:-1]
    gap, later = np.diff(time)[same], tokens[1:][same]
    gaps = {"row": row[1:][same], "gap": gap, "itl": gap / later, "tokens": later}
    return pd.DataFrame(gaps, copy=False)


def point_spans(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a repeat; frame from `latencies`, rows of one condition. Index: repeat.

    start: first arrival (s); end: when its last request was over, well or not (s), so that the time that failures
    took counts wherever they happened; seconds: end - start, missing where no request's end is known.
    """
    table = frame.groupby("repeat")[["arrival", "closed"]].agg({"arrival": "min", "closed": "max"})
    table.columns = pd.Index(["start", "end"])
    return table.assign(seconds=table["end"] - table["start"])


def batches(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a batch of batch loads; frame from `latencies`, rows of one condition. Index: repeat, batch.

    start: first arrival (s); end: when its last request was over, well or not (s); tokens: output tokens of its
    successful requests; seconds: time until the next batch's start, the last one's until its end, so that the batches
    of a point add up to its span (see `point_spans`).
    straggler_time_fraction: share of start..end during which fewer than half of its requests were running (arrival <=
    t < closed), failed ones included: a batch waits for them, too. One that could not be sent counts from the start.
    Missing below two requests whose end is known, and where none was successful.
    last_quarter_time_fraction: likewise with fewer than a quarter.
    """
    group = frame.assign(output_tokens=frame["output_tokens"].where(frame["completed"])).groupby(["repeat", "batch"])
    table = group.agg(
        start=("arrival", "min"), end=("closed", "max"), tokens=("output_tokens", "sum"), completed=("completed", "sum")
    )
    following = table.groupby(level="repeat")["start"].shift(-1)
    table["seconds"] = following.fillna(table["end"]) - table["start"]
    timed, some_completed = frame.dropna(subset=["closed"]), table.pop("completed") > 0
    for name, part in (("straggler_time_fraction", 1 / 2), ("last_quarter_time_fraction", 1 / 4)):
        table[name] = np.where(some_completed, _share_below(part, timed, table), np.nan)
    return table


def _share_below(part: float, timed: pd.DataFrame, table: pd.DataFrame) -> Array:
    """Share of each batch's time with fewer than that part of its requests running."""
    number = table.index.get_indexer(pd.MultiIndex.from_frame(timed[["repeat", "batch"]]))
    batch, step = np.tile(number, 2), np.repeat([1, -1], len(timed))
    arrival = timed["arrival"].to_numpy()
    arrival = np.where(np.isnan(arrival), table["start"].to_numpy()[number], arrival)
    time = np.concatenate([arrival, timed["closed"].to_numpy()])
    order = np.lexsort((time, batch))
    batch, time = batch[order], time[order]
    # Each batch's steps add up to nothing, so one running sum serves all batches.
    running = np.cumsum(step[order])[:-1]
    size, whole = np.bincount(number, minlength=len(table)), (table["end"] - table["start"]).to_numpy()
    inside = (batch[1:] == batch[:-1]) & (running < size[batch[:-1]] * part)
    below = np.bincount(batch[:-1][inside], np.diff(time)[inside], len(table))
    share: Array = np.divide(below, whole, out=np.full(len(table), np.nan), where=(size >= 2) & (whole > 0))
    return share
