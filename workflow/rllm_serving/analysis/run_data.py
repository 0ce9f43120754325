"""What one run measured, as the analysis takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .request_metrics import CONDITION, SERVER, Chunks, latencies, read

GRADED = ["correct", "failure_mode", "extracted"]


@dataclass(frozen=True)
class RunData:
    """The files of one run. Without grades, server or record their metrics are NaN; a comparison needs the first two.

    requests: table from `request_metrics.read`, with `said` where texts are compared; grades: the run's rows of
    grades.parquet; server: server.parquet; record: run.json.
    """

    requests: pa.Table
    grades: pd.DataFrame | None = None
    server: pd.DataFrame | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(
        cls, requests: Path | str, server: Path | str, record: Path | str, grades: Path | str, texts: bool = False
    ) -> RunData:
        """From a run's files and the grades of several runs, its own among them; texts: see `request_metrics.read`."""
        table = read(requests, texts)
        of_run = [(name, "==", table[name][0].as_py()) for name in SERVER]
        return cls(
            requests=table,
            grades=pq.read_table(grades, filters=of_run).drop_columns(SERVER).to_pandas(),
            server=pd.read_parquet(server),
            record=json.loads(Path(record).read_text()),
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
