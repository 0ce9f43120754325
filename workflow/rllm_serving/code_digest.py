"""Which modules of this library a program executes, and digests that change when their content does.

Results depend on the code that made them. What a program reaches is read from its imports, inside functions too, and
from the names of programs that a module starts: "rllm_serving.quantization.worker", or "math_worker.py" beside it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path


class Library:
    """The modules of a package; what is read of a file is kept, so that one object serves one state of the files.

    Attributes:
        folder: the package's folder.
        modules: dotted name -> file of every module.
    """

    def __init__(self, folder: Path = Path(__file__).parent) -> None:
        self.folder = folder
        self.modules: dict[str, Path] = {}
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder.parent).with_suffix("").parts
            self.modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        self._names = {file: name for name, file in self.modules.items()}
        self._direct = cache(self._read_direct)
        self._digest = cache(lambda file: _short(file.read_bytes()))

    def reached(self, *programs: Path) -> list[Path]:
        """Return the programs and all modules of the library that they execute, each once, in order of their paths."""
        files: set[Path] = set()
        pending = set(programs)
        while pending:
            files |= pending
            pending = {module for file in pending for module in self._direct(file)} - files
        return sorted(files)

    def digests(self, *programs: Path) -> dict[str, str]:
        """Return folder -> digest of the files in it that the programs reach; relative to the package's parent."""
        folders: dict[str, str] = {}
        for file in self.reached(*programs):
            folder = file.parent.relative_to(self.folder.parent).as_posix()
            folders[folder] = _short(f"{folders.get(folder, '')} {file.name} {self._digest(file)}".encode())
        return folders

    def _read_direct(self, file: Path) -> frozenset[Path]:
        """Modules that a file itself imports or starts, and the packages that they lie in."""
        mentioned = set(_mentioned(ast.parse(file.read_bytes()), self._package(file)))
        names = mentioned & self.modules.keys()
        packages = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
        beside = {file.with_name(name) for name in mentioned if name.endswith(".py") and "/" not in name}
        return frozenset({self.modules[name] for name in names | packages} | (beside & self._names.keys()))

    def _package(self, file: Path) -> str:
        """Dotted name of the package that relative imports of a file start from; empty outside of the library."""
        name = self._names.get(file, "")
        return name if file.name == "__init__.py" else name.rpartition(".")[0]


def behaviour(*files: Path) -> str:
    """Return a digest of what files do: comments, docstrings and the layout of the text do not count."""
    total = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = [part for part in node.body if not _is_text(part)]
        total.update(f"{file.name}\n{ast.dump(tree)}\n".encode())
    return total.hexdigest()


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is nothing but a string: a docstring, of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _short(content: bytes) -> str:
    """First 16 hex digits of the SHA-256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


def _mentioned(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that a module imports or has as strings, most of them no modules of the library."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
