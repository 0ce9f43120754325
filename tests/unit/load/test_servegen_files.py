"""What is wrong in a ServeGen folder is one line: the file, the row, what stands there, what was expected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.traces import clients, gamma, servegen
from rllm_serving.load.servegen_files import read_folder
from rllm_serving.load.trace_files import ArrivalError

TRACE, LENGTHS = "chunk-1-trace.csv", "chunk-1-dataset.json"
ROWS = "0,0,0,,0,0\n600,1,1,Weibull,1.0,1.0\n"


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(text.encode("latin-1"))


# What is done to a good folder, and what the line must hold: the file first.
FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "header row": (
        write(TRACE, f"time_s,rate,cv,distribution,shape,scale\n{ROWS}"),
        [TRACE, "row 1: time_s is 'time_s'"],
    ),
    "empty": (write(TRACE, ""), [TRACE, "is empty; expected rows of time_s,rate,cv"]),
    "longer row": (write(TRACE, f"{ROWS}1200,1,1,Gamma,1,1,1\n"), [TRACE, "row 3: has 7 fields; expected 6"]),
    "another distribution": (
        write(TRACE, f"{ROWS}1200,1,1,Pareto,1,1\n"),
        ["row 3: distribution is 'Pareto'", "Gamma or"],
    ),
    "rate without distribution": (
        write(TRACE, "0,1,1,,1,1\n"),
        [TRACE, "row 1: distribution is ''; expected Gamma or"],
    ),
    "negative rate": (write(TRACE, f"{ROWS}1200,-1,1,Gamma,1,1\n"), [TRACE, "row 3: rate is '-1'"]),
    "infinite rate": (write(TRACE, f"{ROWS}1200,inf,1,Gamma,1,1\n"), [TRACE, "row 3: rate is 'inf'"]),
    "shape of nothing": (write(TRACE, f"{ROWS}1200,1,1,Gamma,0,1\n"), [TRACE, "row 3: shape is '0'", "above 0"]),
    "date and time": (write(TRACE, "2024-01-01 00:00,1,1,Gamma,1,1\n"), [TRACE, "row 1: time_s is '2024-01-01 00:00'"]),
    "a window twice": (
        write(TRACE, f"{ROWS}600,2,1,Gamma,1,1\n"),
        [TRACE, "row 3: time_s is '600'; expected a window once"],
    ),
    "not UTF-8": (write(TRACE, f"{ROWS}1200,1,1,caf\xe9,1,1\n"), [TRACE, "row 3: b'\\xe9'; expected UTF-8"]),
    "no lengths": (lambda folder: (folder / LENGTHS).unlink(), [LENGTHS, "is missing"]),
    "no windows": (lambda folder: (folder / TRACE).unlink(), [TRACE, "is missing"]),
    "number twice": (write("chunk-01-trace.csv", ROWS), ["chunk-01-trace.csv", "expected chunk-N-trace.csv"]),
    "a copy": (write("chunk-1 (copy)-trace.csv", ROWS), ["chunk-1 (copy)-trace.csv", "expected chunk-N-trace.csv"]),
    "broken JSON": (write(LENGTHS, '{\n"0": {'), [LENGTHS, "row 2: ", "expected JSON"]),
    "JSON of another form": (write(LENGTHS, "[]"), [LENGTHS, "is no mapping; expected {start in s: "]),
    "lengths without a start": (write(LENGTHS, '{"a": {}}'), [LENGTHS, "has the key 'a'"]),
    "lengths of another kind": (
        write(LENGTHS, '{"0": {"input_tokens": "{}"}}'),
        [LENGTHS, "window 0: has no distributions"],
    ),
    "JSON that is not UTF-8": (write(LENGTHS, '{"caf\xe9": {}}'), [LENGTHS, "row 1: b'\\xe9'; expected UTF-8"]),
}


@pytest.mark.parametrize(("change", "parts"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_one_line_with_file_row_and_what_was_expected(
    tmp_path: Path, change: Callable[[Path], object], parts: list[str]
) -> None:
    folder = servegen(tmp_path / "model")
    change(folder)
    with pytest.raises(ArrivalError) as caught:
        read_folder(folder)
    line = str(caught.value)
    assert line.startswith(str(folder)) and all(part in line for part in parts), line
    assert "\n" not in line


@pytest.mark.parametrize("text", ["{}, 5: 1", "{a: 1}", "{5}", "{5: nan}", "{-5: 1}", "{5: -1}", "{5: 0}", "{0.5: 1}"])
def test_what_is_no_distribution_is_told_with_its_window(tmp_path: Path, text: str) -> None:
    folder = servegen(tmp_path / "model")
    (folder / LENGTHS).write_text(json.dumps({"600": {"input_tokens": text, "output_tokens": "{1: 1}"}}))
    client = read_folder(folder).clients[1]
    assert client.lengths_from(599) is None and client.lengths_from(600) == 600
    with pytest.raises(ArrivalError, match=rf"{LENGTHS}, window 600, input_tokens: .*tokens: probability"):
        client.lengths(600)


def test_a_file_a_folder_without_clients_and_one_without_requests(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ArrivalError, match="is a file; expected the folder of one ServeGen model"):
        read_folder(file)
    with pytest.raises(ArrivalError, match=r"no chunk-N-trace\.csv in it"):
        read_folder(tmp_path)
    with pytest.raises(ArrivalError, match="all rates are 0"):
        read_folder(clients(tmp_path / "silent", ["0,0,0,,0,0"]))


def test_windows_are_as_long_as_most_are_apart(tmp_path: Path) -> None:
    # One row is left out, one client is a second late: a window is 300 s long.
    rows = [gamma(start, 1.0, 1.0) for start in (0, 300, 900, 1200)]
    folder = read_folder(clients(tmp_path / "model", rows, [gamma(1, 2.0, 1.0)]))
    assert folder.width == 300 and folder.expected(0.0) == 4 * 300 + 600
    assert folder.expected(600.0) == 600 and folder.expected(5000.0) == 0
    assert read_folder(clients(tmp_path / "one", [gamma(0, 1.0, 1.0)])).width == 600


def test_unsorted_rows_are_counted(tmp_path: Path) -> None:
    rows = [gamma(start, 1.0, 1.0) for start in (0, 1200, 600, 1800)]
    (client,) = read_folder(clients(tmp_path / "model", rows)).clients
    assert client.unsorted == 1 and client.starts == (0, 600, 1200, 1800)
