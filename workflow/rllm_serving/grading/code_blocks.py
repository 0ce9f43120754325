"""The code of an answer: which fenced block of a text, or which part of one without fences, is run.

It is the last block of Python that defines the function that was asked for, so that tests, a main program, an example
or the stub of another try behind it do not count; else the last one with a definition, else the last that can be a
function's body, else the last. Without a fence, it is a text that is nothing but a definition. In a text that was cut
off the fence must be closed.

Fences are three or more backticks or tildes, closed by as many of the same or more; text may stand on their lines.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<before>[^`~\n]*?)(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)")
_INFO = re.compile(r"[\s{.]*(?P<language>[A-Za-z][\w+#-]*(?:\.py\b)?)?(?P<rest>.*)")
_PYTHON = re.compile(r"(?i:i?python[0-9.]*|py[0-9]?|\w+\.py)")
_BARE = re.compile(r"(?:async def|def|class|import|from|@\w+)\b")
_DEFINES = re.compile(r"^(?:async def|def|class)\b", re.MULTILINE)
_BODY = re.compile(r"^[ \t]*(?:return|yield)\b", re.MULTILINE)
_TEXTS = ("markdown", "md", "text", "txt", "plaintext")


class _Block(NamedTuple):
    """A block whose closing fence is awaited."""

    mark: str
    indent: str
    language: str
    lines: list[str]


def code(text: str, cut_off: bool = False, entry_point: str | None = None) -> str | None:
    """Return the code in `text` that is run, or None. entry_point: the function that was asked for, if it is known."""
    text = text.replace("\r\n", "\n")
    blocks = [block for block in _blocks(text, cut_off) if block.strip()]
    chosen = _defining(blocks, entry_point) if entry_point else []
    for fits in (_DEFINES.search, _BODY.search, str.strip):
        chosen = chosen or [block for block in blocks if fits(block)]
    if not chosen and not cut_off and _is_bare(text):
        chosen = [text.strip()]
    return chosen[-1] if chosen else None


def _defining(blocks: list[str], name: str) -> list[str]:
    """Blocks that define a function of this name; those where it is only a stub if there are no others."""
    named = re.compile(rf"^(?:(?:async\s+)?def\s+{re.escape(name)}\b|{re.escape(name)}\s*=(?!=))", re.MULTILINE)
    blocks = [block for block in blocks if named.search(block)]
    return [block for block in blocks if not _is_stub(block, name)] or blocks


def _is_stub(block: str, name: str) -> bool:
    """Whether the last function of that name has nothing but a docstring, "pass", "..." or NotImplementedError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(block).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    functions = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == name]
    return bool(functions) and all(map(_does_nothing, functions[-1].body))


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        return "NotImplementedError" in ast.unparse(statement)
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)


def _is_bare(text: str) -> bool:
    return _BARE.match(text.strip()) is not None and _DEFINES.search(text) is not None


def _blocks(text: str, cut_off: bool) -> Iterator[str]:
    """Content of each block of Python or of no named language, without the indentation of its fence.

    A definition before the first fence, which has only a closing one then, and blocks within Markdown count as well.
    """
    block: _Block | None = None
    first, start = True, 0  # no fence so far; where the line starts
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line)
        if block is None:
            block = _opened(fence) if fence else None
            if block and first and _is_bare(text[:start]):
                yield text[:start].strip("\n")
            first = first and block is None
        elif fence and _closes(fence, block):
            yield from _content(block, (fence["indent"] + fence["before"]).removeprefix(block.indent))
            block = None
        elif fence and _names_python(fence) and any(map(str.strip, block.lines)):
            yield from _content(block, "")
            block = _opened(fence)
        else:
            block.lines.append(line.removeprefix(block.indent))
        start += len(line) + 1
    if block is not None and not cut_off:
        yield from _content(block, "")


def _names_python(fence: re.Match[str]) -> bool:
    info = _INFO.match(fence["info"])
    return info is not None and _PYTHON.fullmatch(info["language"] or "") is not None


def _opened(fence: re.Match[str]) -> _Block | None:
    """The block that a line with a fence opens; text before the fence needs the language behind it."""
    info = fence["info"].strip()
    if fence["before"].strip() and not _names_python(fence):
        return None
    if _BARE.match(info):
        return _Block(fence["mark"], fence["indent"], "", [info])
    parts = _INFO.match(info)
    language, rest = ((parts["language"] or "").lower(), parts["rest"].strip()) if parts else ("", "")
    return _Block(fence["mark"], fence["indent"], language, [rest] if _BARE.match(rest) else [])


def _closes(fence: re.Match[str], block: _Block) -> bool:
    """Whether a line ends a block: its fence stands behind code, or alone, or before a sentence."""
    info, before = fence["info"].strip(), fence["before"].strip()
    if not fence["mark"].startswith(block.mark):
        return False
    return not info or (not before and " " in info and not _names_python(fence))


def _content(block: _Block, last: str) -> Iterator[str]:
    lines = [*block.lines, last] if last.strip() else block.lines
    if block.language in _TEXTS:
        yield from _blocks("\n".join(lines), cut_off=False)
    elif not block.language or _PYTHON.fullmatch(block.language):
        yield "\n".join(lines)
