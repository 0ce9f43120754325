"""The journal after crashes: whole points are reused, damaged ones measured again, those of another run deleted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from rllm_serving.measurement import journal as module
from rllm_serving.measurement.journal import Journal, write_atomically

THIS = {"code": "this"}
REQUESTS = pa.table({"index": [0, 1], "error": pa.array([None, "why"]), "chunk_times": [[0.5, 1.0], []]})
SAMPLES = pa.table({"time": [-0.1, 0.1], "kv_cache_usage": pa.array([None, 0.5], pa.float64())})
RECORD = {"name": "a", "duration_s": 1.5}
FILES = ["a.requests.parquet", "a.server.parquet", "a.json"]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "run.partial", THIS)
    journal.add("a", REQUESTS, SAMPLES, RECORD)
    return journal


def test_a_point_comes_back_as_it_was(journal: Journal) -> None:
    again = Journal(journal.folder, THIS).get("a")
    assert again is not None
    requests, samples, record = again
    assert requests.equals(REQUESTS) and samples.equals(SAMPLES) and record == RECORD
    assert not list(journal.folder.glob("*.part"))


def test_a_point_never_measured_is_missing(journal: Journal) -> None:
    assert journal.get("b") is None


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["half", "empty", "gone", "noise"])
def test_a_damaged_file_makes_its_point_missing_and_leaves_the_others(journal: Journal, file: str, damage: str) -> None:
    journal.add("b", REQUESTS, SAMPLES, RECORD)
    path = journal.folder / file
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "noise": b"\xff\x00" * 500}[damage])
    again = Journal(journal.folder, THIS)
    assert again.get("a") is None and again.get("b") is not None
    again.add("a", REQUESTS, SAMPLES, RECORD)
    assert again.get("a") is not None


def test_a_record_that_is_no_record_makes_its_point_missing(journal: Journal) -> None:
    (journal.folder / "a.json").write_text("[1]")
    assert journal.get("a") is None


def test_another_fingerprint_discards_everything(journal: Journal) -> None:
    emptied = Journal(journal.folder, {"code": "that"})
    assert emptied.get("a") is None
    assert [path.name for path in emptied.folder.iterdir()] == ["fingerprint.json"]
    assert Journal(journal.folder, THIS).get("a") is None


@pytest.mark.parametrize("marker", [None, b"", b'{"finger', b"[]", b"\xff"])
def test_points_of_unknown_fingerprint_are_discarded(journal: Journal, marker: bytes | None) -> None:
    path = journal.folder / "fingerprint.json"
    path.unlink()
    if marker is not None:
        path.write_bytes(marker)
    assert Journal(journal.folder, THIS).get("a") is None
    Journal(journal.folder, THIS).add("a", REQUESTS, SAMPLES, RECORD)
    assert Journal(journal.folder, THIS).get("a") is not None


@pytest.mark.parametrize("full", range(3))
def test_a_full_disk_costs_the_point_it_hit_and_no_other(
    journal: Journal, full: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written last: before it, whatever is there does not count."""
    written: list[str] = []

    def write(path: Path, data: bytes) -> None:
        if len(written) == full:
            path.with_name(path.name + ".part").write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        written.append(path.name)
        write_atomically(path, data)

    monkeypatch.setattr(module, "write_atomically", write)
    with pytest.raises(OSError, match="No space"):
        journal.add("b", REQUESTS, SAMPLES, RECORD)
    assert written == ["b.requests.parquet", "b.server.parquet", "b.json"][:full]
    again = Journal(journal.folder, THIS)
    assert again.get("a") is not None and again.get("b") is None


def test_a_file_is_old_or_new_after_a_kill_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys; from pathlib import Path; from rllm_serving.measurement import journal\n"
        "os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"journal.write_atomically(Path({str(path)!r}), b'new')"
    )
    workflow = Path(module.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(workflow)})
    assert done.returncode == -signal.SIGKILL and path.read_bytes() == b"old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_rejected_requests_can_be_read_and_are_not_taken_up(journal: Journal) -> None:
    path = journal.reject("b", REQUESTS)
    assert path.exists() and journal.get("b") is None


def test_discard_leaves_nothing(journal: Journal) -> None:
    journal.discard()
    assert not journal.folder.exists()
