"""What is wrong in a recorded trace is one line: the file, the row, what stands there, what was expected."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers.traces import AZURE, BURSTGPT
from rllm_serving.load.trace_files import ArrivalError, read_recording

GOOD = {
    "burstgpt": f"{BURSTGPT}\n5,GPT-4,10,7,17,API\n",
    "azure": f"{AZURE}\n2023-11-16 18:15:46.6805900,4808,10\n",
    "mooncake": '{"timestamp": 0, "input_length": 9, "output_length": 4}\n',
}
# Source, what follows a good first request (or, with None before, the whole file), and what the line must hold.
FAULTS: dict[str, tuple[str, bytes, list[str]]] = {
    "date and time for seconds": (
        "burstgpt",
        b"2023-11-16 18:15:46,GPT-4,10,7,17,API",
        ["row 3: Timestamp is '2023-11-16 18:15:46'", "expected seconds"],
    ),
    "thousands separator": (
        "burstgpt",
        b'9,GPT-4,"1,234",7,17,API',
        ["row 3: Request tokens is '1,234'", "separators"],
    ),
    "underscore": ("burstgpt", b"1_000,GPT-4,10,7,17,API", ["row 3: Timestamp is '1_000'", "expected seconds"]),
    "longer row": ("burstgpt", b"9,GPT-4,1,234,7,17,API", ["row 3: has 7 fields; expected 6"]),
    "shorter row": ("burstgpt", b"9,GPT-4", ["row 3: has 2 fields; expected 6"]),
    "header again": ("burstgpt", BURSTGPT.encode(), ["row 3: Timestamp is 'Timestamp'", "expected seconds"]),
    "infinite time": ("burstgpt", b"inf,GPT-4,10,7,17,API", ["row 3: Timestamp is 'inf'", "finite"]),
    "time beyond numbers": ("burstgpt", b"1e999,GPT-4,10,7,17,API", ["row 3: Timestamp is '1e999'", "finite"]),
    "no number": ("burstgpt", b"nan,GPT-4,10,7,17,API", ["row 3: Timestamp is 'nan'", "finite"]),
    "negative time": ("burstgpt", b"-1,GPT-4,10,7,17,API", ["row 3: Timestamp is '-1'", "from 0"]),
    "negative length": ("burstgpt", b"9,GPT-4,10,-7,17,API", ["row 3: Response tokens is '-7'", "whole number from 0"]),
    "half a token": ("burstgpt", b"9,GPT-4,10,7.5,17,API", ["row 3: Response tokens is '7.5'", "whole number"]),
    "no length": ("burstgpt", b"9,GPT-4,10,,17,API", ["row 3: Response tokens is ''", "whole number"]),
    "longer than any context": ("azure", b"2023-11-16 18:15:46,4808,99999999", ["GeneratedTokens is '99999999'"]),
    "not UTF-8": ("burstgpt", "9,café,10,7,17,API".encode("latin-1"), ["row 3: b'\\xe9'", "expected UTF-8 text"]),
    "unclosed quote": ("burstgpt", b'9,"GPT-4,10,7,17,API', ["row 3: ", "expected comma-separated values"]),
    "zero bytes": ("burstgpt", b"9,GPT\0,1\0,7,17,API", ["row 3: "]),
    "seconds for date and time": (
        "azure",
        b"1700000000.5,1,2",
        ["TIMESTAMP is '1700000000.5'", "expected date and time"],
    ),
    "a date alone": ("azure", b"2023-11-16,1,2", ["row 3: TIMESTAMP is '2023-11-16'", "expected date and time"]),
    "no such day": ("azure", b"2023-02-30 00:00:00,1,2", ["row 3: TIMESTAMP is '2023-02-30 00:00:00'"]),
    "no JSON": ("mooncake", b'{"timestamp": 1', ["row 2: ", "expected a request", "timestamp (ms)"]),
    "JSON nested without end": ("mooncake", b"[" * 100_000, ["row 2: ", "expected a request"]),
    "another key": ("mooncake", b'{"time": 2}', ["row 2: ", "expected a request"]),
    "a list": ("mooncake", b"[1, 2, 3]", ["row 2: '[1, 2, 3]'; expected a request"]),
    "text for a number": ("mooncake", b'{"timestamp": "1000"}', ["row 2: timestamp is '1000'", "milliseconds"]),
    "true for a number": ("mooncake", b'{"timestamp": true}', ["row 2: timestamp is True", "milliseconds"]),
    "infinity in JSON": ("mooncake", b'{"timestamp": Infinity}', ["row 2: timestamp is inf", "finite"]),
    "a length of many digits": (
        "mooncake",
        b'{"timestamp": 1, "input_length": 1' + b"0" * 400 + b"}",
        ["row 2: input_length is 1", "whole number"],
    ),
}


@pytest.mark.parametrize(("source", "row", "parts"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_one_line_with_file_row_and_what_was_expected(
    tmp_path: Path, source: str, row: bytes, parts: list[str]
) -> None:
    file = tmp_path / "trace"
    file.write_bytes(GOOD[source].encode() + row + b"\n")
    with pytest.raises(ArrivalError) as caught:
        read_recording(source, file)
    line = str(caught.value)
    assert line.startswith(f"{file}, row ") and all(part in line for part in parts), line
    assert "\n" not in line and len(line) < len(str(file)) + 260


# Whole files, and what is said of them.
WHOLE: dict[str, tuple[str, bytes, str]] = {
    "empty": ("burstgpt", b"", "is empty; expected a header row with Timestamp, Request tokens, Response tokens"),
    "blank lines": ("azure", b"\n\n \n", "is empty; expected a header row with TIMESTAMP"),
    "header alone": ("azure", AZURE.encode(), "no request with an answer in it; expected at least one"),
    "empty JSON lines": ("mooncake", b"\n", "no request with an answer in it"),
    "no header": ("burstgpt", b"5,GPT-4,10,7,17,API\n", "row 1: no column 'Timestamp', 'Request tokens'"),
    "another's columns": ("burstgpt", b"Timestamp,Model\n1,GPT-4\n", "no column 'Request tokens', 'Response tokens'"),
    "semicolons": ("azure", AZURE.replace(",", ";").encode(), "no column 'TIMESTAMP'"),
    "UTF-16": ("azure", AZURE.encode("utf-16"), "row 1: b'\\xff'; expected UTF-8 text"),
    "one endless line": ("azure", b"x" * 1_000_001, "row 1: has 1000000 bytes and more; expected a text file"),
    "only requests that failed": ("azure", f"{AZURE}\n2023-11-16 18:15:46,5,0\n".encode(), "no request with an answer"),
}


@pytest.mark.parametrize(("source", "content", "said"), WHOLE.values(), ids=WHOLE.keys())
def test_a_file_without_requests_is_told_so(tmp_path: Path, source: str, content: bytes, said: str) -> None:
    file = tmp_path / "trace"
    file.write_bytes(content)
    with pytest.raises(ArrivalError) as caught:
        read_recording(source, file)
    assert said in str(caught.value) and str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_a_folder_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArrivalError, match=r": is a folder; expected a file$"):
        read_recording("azure", tmp_path)
    with pytest.raises(ArrivalError, match=r": No such file or directory; expected a file that can be read$"):
        read_recording("azure", tmp_path / "none.csv")


def test_what_is_good_is_read_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    # A byte order mark, blanks around names and numbers, Windows' ends of lines, blank lines.
    file.write_bytes("\ufeffTimestamp, Request Tokens ,Response tokens\r\n 7 ,1e1,3.0\r\n\r\n5,0,2\r\n".encode())
    recording = read_recording("burstgpt", file)
    assert list(recording.times) == [7, 5] and list(recording.prompt_tokens) == [10, 0]
    assert list(recording.output_tokens) == [3, 2] and (recording.unsorted, recording.complete) == (1, True)


def test_no_more_rows_are_read_than_asked(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(f"{AZURE}\n" + "2023-11-16 18:15:46,5,6\n" * 3 + "no more\n")
    recording = read_recording("azure", file, 3)
    assert len(recording.times) == 3 and not recording.complete


def test_lengths_that_are_not_told_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text('{"timestamp": 1}\n{"timestamp": 2, "input_length": null, "output_length": 3}\n')
    recording = read_recording("mooncake", file)
    assert all(map(math.isnan, recording.prompt_tokens))
    assert math.isnan(recording.output_tokens[0]) and recording.output_tokens[1] == 3
