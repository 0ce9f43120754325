"""What all starts of one server measured, as the analysis takes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas import START_KEYS
from .derived_points import with_derived, with_derived_points
from .gates import CLIENT_GATES
from .prompt_agreement import prompt_faults
from .request_metrics import CONDITION, GRADED, POINT, SERVER, Chunks, latencies, read
from .worth import Devices

START = list(START_KEYS)


@dataclass(frozen=True)
class ServerData:
    """The runs of one server; without grades, samples or records their metrics are missing.

    Attributes:
        requests: table from `request_metrics.read`, with `said` where texts are compared; behind it the answers that
            were cut to budgets that were not measured (`derived_from` is theirs).
        grades: the server's rows of grades.parquet.
        samples: server.parquet.
        records: run.json of each run.
        prompt_faults: dataset -> how prompts differ between servers (see `prompt_agreement`): its points are invalid.
    """

    requests: pa.Table
    grades: pd.DataFrame | None = None
    samples: pd.DataFrame | None = None
    records: Sequence[Mapping[str, Any]] = field(default_factory=list)
    prompt_faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        requests: Sequence[Path | str],
        samples: Sequence[Path | str],
        records: Sequence[Path | str],
        grades: Sequence[Path | str],
        texts: bool = False,
        prompt_faults: Mapping[str, str] | None = None,
        derived: Sequence[Path | str] = (),
    ) -> ServerData:
        """Read the files of a server's runs, and the grades and cut answers of several servers, its own among them.

        Args:
            requests: requests.parquet of each run.
            samples: server.parquet of each.
            records: run.json of each.
            grades: files of grades.
            texts: see `request_metrics.read`.
            prompt_faults: as the attribute.
            derived: files of cut answers.
        """
        table = pa.concat_tables([read(path, texts) for path in requests])
        of_server = [(name, "==", table[name][0].as_py()) for name in SERVER]
        graded = pq.read_table([str(path) for path in grades], filters=of_server).drop_columns(SERVER).to_pandas()
        if derived:
            table, graded = with_derived(table, graded, derived, texts)
        return cls(
            requests=table,
            grades=graded,
            samples=pd.concat([pd.read_parquet(path) for path in samples], ignore_index=True),
            records=[json.loads(Path(record).read_text()) for record in records],
            prompt_faults=prompt_faults or {},
        )

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`latencies`, with GRADED of grades.parquet: correct is a float, NaN where there is no grade."""
        frame = latencies(self.requests)
        if self.grades is None:
            return frame.assign(correct=np.nan, failure_mode=None, extracted=None)
        keys = [name for name in [*SERVER, *CONDITION, "repeat", "index"] if name in self.grades.columns]
        grades = self.grades[[*keys, *GRADED]].astype({"correct": float})
        return frame.merge(grades, on=keys, how="left", validate="one_to_one")

    @cached_property
    def chunks(self) -> Chunks:
        """The chunks of all its requests."""
        return Chunks(self.requests)

    @property
    def pool_tokens(self) -> float | None:
        """Size of the server's KV pool (tokens), where its options say it."""
        options = self.records[0].get("config", {}).get("options", {}) if self.records else {}
        size = options.get("kv_cache_tokens")
        return None if size is None else float(size)

    def devices(self, price_per_hour: float | None = None) -> Devices:
        """What the server occupies; price_per_hour: see `Devices.of`."""
        return Devices.of(self.records[0] if self.records else {}, price_per_hour)

    @cached_property
    def recorded(self) -> pd.DataFrame:
        """What the records say of each point: POINT, duration (s), the numbers of CLIENT_GATES, invalid (a reason).

        A derived point is invalid where the one is that its answers were cut from.
        """
        rows = [{**entry, **entry.get("validity", {})} for record in self.records for entry in record.get("points", [])]
        names = ["duration_s", *CLIENT_GATES]
        table = pd.DataFrame(rows, columns=[*POINT, *names, "invalid"])
        if self.prompt_faults:
            reasons = zip(table["invalid"], table["dataset"].map(self.prompt_faults), strict=True)
            table["invalid"] = ["; ".join(text for text in pair if isinstance(text, str)) or None for pair in reasons]
        table = table.astype(dict.fromkeys(names, float)).rename(columns={"duration_s": "duration"})
        return with_derived_points(table, self.requests)

    def valid(self) -> ServerData:
        """Return the server without its invalid points; conditions that have no others keep them, and stay marked."""
        condition = POINT[:-1]
        marked = self.recorded.assign(bad=self.recorded["invalid"].notna())
        some_good = ~marked.groupby(condition)["bad"].transform("all") if len(marked) else marked["bad"]
        left_out = marked.loc[marked["bad"] & some_good, POINT]
        if left_out.empty:
            return self
        keep = _not_among(self.requests.select(POINT).to_pandas(), left_out)
        samples = self.samples
        return ServerData(
            requests=self.requests.filter(pa.array(keep)),
            grades=self.grades,
            samples=None if samples is None else samples[_not_among(samples[POINT], left_out)],
            records=self.records,
            prompt_faults=self.prompt_faults,
        )


def _not_among(rows: pd.DataFrame, left_out: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    index = pd.MultiIndex.from_frame(left_out.astype(rows.dtypes.to_dict()))
    return ~pd.MultiIndex.from_frame(rows).isin(index)


class ServerFiles:
    """The files of all runs of an experiment, by server.

    Args:
        servers: `Run.server` of each run.
        requests: requests.parquet of each.
        samples: server.parquet of each.
        records: run.json of each.
        grades: of all models.
        derived: cut answers of all models; empty where no budget is derived.
    """

    def __init__(
        self,
        servers: Sequence[str],
        requests: Sequence[str],
        samples: Sequence[str],
        records: Sequence[str],
        grades: Sequence[str],
        derived: Sequence[str] = (),
    ) -> None:
        self._files: dict[str, list[tuple[str, str, str]]] = {}
        for server, *files in zip(servers, requests, samples, records, strict=True):
            self._files.setdefault(server, []).append((files[0], files[1], files[2]))
        self._grades, self._derived = grades, derived

    @cached_property
    def _prompt_faults(self) -> dict[tuple[str, str], str]:
        return prompt_faults({server: [files[0] for files in of_server] for server, of_server in self._files.items()})

    def read(self, server: str, texts: bool = False) -> ServerData:
        """Read all starts of a server; texts: see `request_metrics.read`."""
        requests, samples, records = zip(*self._files[server], strict=True)
        faults = {dataset: text for (name, dataset), text in self._prompt_faults.items() if name == server}
        return ServerData.read(requests, samples, records, self._grades, texts, faults, self._derived)

    def all(self, texts: bool = False) -> Iterator[ServerData]:
        """Read one server after the other, each when it is its turn; texts: see `request_metrics.read`."""
        return (self.read(server, texts) for server in self._files)
