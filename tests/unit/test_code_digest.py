"""What a program reaches is read from its imports, and its digests change when one of these files does."""

from __future__ import annotations

from pathlib import Path

import pytest
from rllm_serving.code_digest import Library, behaviour

FILES = {
    "lib/__init__.py": '"""A library."""\n',
    "lib/top.py": "from . import below\nfrom .room import inner\n",
    "lib/below.py": "",
    "lib/unused.py": "",
    "lib/room/__init__.py": "from .exported import NAME\n",
    "lib/room/exported.py": "NAME = 1\n",
    "lib/room/inner.py": "def late():\n    import lib.deep.module\n",
    "lib/room/other.py": "from .inner import late\n",
    "lib/deep/__init__.py": "",
    "lib/deep/module.py": "from ..room.other import late\nimport json\n",
    "lib/deep/starts.py": 'WORKER = "worker.py"\nMODULE = "lib.room.started"\n',
    "lib/deep/worker.py": "import lib.below\n",
    "lib/room/started.py": "",
    "script.py": "import numpy\nfrom lib.deep import starts\n",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def reached(files: Path, *programs: str) -> set[str]:
    """Files that programs reach, relative to the folder of all."""
    return {str(file.relative_to(files)) for file in Library(files / "lib").reached(*map(files.joinpath, programs))}


def test_imports_are_followed_through_packages_and_functions(files: Path) -> None:
    room = {f"lib/room/{name}.py" for name in ("__init__", "exported", "inner", "other")}
    assert reached(files, "lib/top.py") == {
        *("lib/__init__.py", "lib/top.py", "lib/below.py", "lib/deep/__init__.py", "lib/deep/module.py"),
        *room,
    }


def test_programs_that_a_module_names_are_followed_too(files: Path) -> None:
    assert reached(files, "script.py") == {
        *("script.py", "lib/__init__.py", "lib/deep/__init__.py", "lib/deep/starts.py", "lib/deep/worker.py"),
        *("lib/below.py", "lib/room/__init__.py", "lib/room/exported.py", "lib/room/started.py"),
    }


@pytest.mark.parametrize("name", ["script.py", "lib/below.py", "lib/__init__.py", "lib/room/exported.py"])
def test_a_changed_file_changes_the_digest_of_its_folder_alone(files: Path, name: str) -> None:
    before = Library(files / "lib").digests(files / "script.py")
    (files / name).write_text(FILES[name] + "\n# more\n")
    after = Library(files / "lib").digests(files / "script.py")
    assert before.keys() == after.keys() == {"script.py", "lib", "lib/deep", "lib/room"} - {"script.py"} | {"."}
    assert {folder for folder in before if before[folder] != after[folder]} == {str(Path(name).parent)}


def test_a_file_that_is_not_reached_changes_no_digest(files: Path) -> None:
    before = Library(files / "lib").digests(files / "script.py")
    (files / "lib/unused.py").write_text("1 / 0\n")
    assert Library(files / "lib").digests(files / "script.py") == before


def test_behaviour_is_all_but_prose(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    digests = []
    for text in (
        '"""Doc."""\ndef f(x):\n    """Twice x."""\n    return 2 * x\n',
        '"""Other."""\n\n\ndef f(x):\n    # twice\n    """Two times x."""\n\n    return (2 * x)\n',
        "def f(x):\n    return 2 * x\n",
        "def f(x):\n    return 3 * x\n",
    ):
        file.write_text(text)
        digests.append(behaviour(file))
    assert digests[0] == digests[1] == digests[2] != digests[3]
