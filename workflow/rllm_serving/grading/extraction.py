r"""The answer that a model gave: the one place that decides what counts as an answer.

The rules, the same for every model (only text after ``</think>`` comes here):

1. The last non-empty ``\boxed{...}`` with its closing brace wins, whatever else the text says.
2. Without a box, an explicit phrase ("the answer is ...", "Answer: ...") counts if nothing but the answer
   follows it, on one line.
3. Without a phrase, a text that is nothing but a value (``18``, ``$18.50``, ``$\frac12$``, ``(C)``) counts.
4. Everything else is no answer. A number or a capital letter somewhere in prose is never picked up: that
   would credit texts that mention the gold on the way, the longer the text the more often.

A text that the token budget cut off can only be answered by a box: in "the answer is 12" the next token might
have been a 0.

Code is the last fenced Python block that defines something, so that an example of its use behind it does not count,
else the last one (a function's body alone); without a fence, a text that is nothing but a definition. In a text that
was cut off the fence must be closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN_BOXES = re.compile(r"\$*(?:\\[)\]])? ?(?:,|,? ?(?:and|or)) ?(?:\\[(\[])?\$*")
_PHRASE = re.compile(r"(?i:\b(?:answer|option|choice)\b(?:[^.\n:=]{0,60}?\bis\b|[\s*_]*[:=]))[\s*_:]*")
_DISPLAY = re.compile(r"(\\\[|\$\$)(.+?)(\\\]|\$\$)", re.DOTALL)
_DELIMITED = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathsf)\s*\{([^{}]*)\}")

_SEPARATOR = r"(?:,\\!|,|\{,\}|\\[,;:! ]|~|[ \xa0\u202f])"
_DIGITS = rf"(?:\d{{1,3}}(?:{_SEPARATOR}\d{{3}})+(?!\d)|\d+)?(?:\.\d+)?"
# A lone letter is a symbol (18x), these words are numbers; any other word of two letters or more is a unit.
_UNIT = (
    r"(?!.*\b(?:pi|dozen|hundred|thousand|million|billion|trillion)\b)"
    r"(?:\\text\{[^{}\d]*\}|\\mathrm\{[^{}\d]*\}|[A-Za-z]{2,}[A-Za-z\s./-]*)"
)
_NUMBER = re.compile(
    rf"(?P<sign>[-+\u2212]?)\s*(?:\\?[$]|[€£¥])?\s*(?P<digits>(?=[\d.]){_DIGITS})"
    rf"\s*(?P<percent>\\?%)?(?:\s|\\[, ])*{_UNIT}?\s*\.?"
)
_PYTHON = ("", "python", "python3", "py")
_DEFINES = re.compile(r"^(?:async def|def|class)\b", re.MULTILINE)
_BARE = re.compile(r"(?:async def|def|class|import|from|@\w+)\b")
_LETTER = re.compile(r"(?i:(?:option|choice)\s+)?(?:\(\s*([A-Za-z])\s*\)|([A-Za-z])(?=\s*(?:[.:)]|$)))[.:)]?")


def boxes(text: str) -> list[tuple[int, int, str]]:
    r"""Start, end and content of every closed, non-empty ``\boxed{...}``; ``\{`` is no brace."""
    result = []
    for opening in _BOX.finditer(text):
        depth = 1
        for brace in _BRACE.finditer(text, opening.end()):
            depth += {"{": 1, "}": -1}.get(brace.group(), 0)
            if depth == 0:
                if content := text[opening.end() : brace.start()].strip():
                    result.append((opening.start(), brace.end(), content))
                break
    return result


def extract(text: str, kind: str, cut_off: bool = False) -> str | None:
    """The answer in `text` for a question of `kind` ("number", "math", "choice", "code"), or None.

    `cut_off`: the budget ended the text, so only a closed box or fence counts. Returned is what will be compared or
    run: a number without currency, separators and unit words, LaTeX without its delimiters, one capital letter, or
    Python.
    """
    if kind == "code":
        return _code(text, cut_off)
    boxed = boxes(text)
    if boxed:
        return _from_box(text, boxed, kind)
    if cut_off:
        return None
    text = _DISPLAY.sub(lambda display: display[1] + display[2].strip() + display[3], text).strip()
    phrases = list(_PHRASE.finditer(text))
    answer = (text[phrases[-1].end() :] if phrases else text).strip().strip("*_").strip()
    if not answer or "\n" in answer:
        return None
    if kind == "choice":
        return _letter(answer, alone=not phrases)
    if kind == "number":
        return _number(_undelimit(answer.rpartition("=")[2] if phrases else answer))
    return _formula(answer, alone=not phrases)


def _from_box(text: str, boxed: list[tuple[int, int, str]], kind: str) -> str | None:
    content = boxed[-1][2]
    if kind == "choice":
        return _letter(content, alone=False)
    if kind == "math":  # "\boxed{1} and \boxed{2}" is one answer of two parts
        for (_, end, before), (start, _, _) in zip(boxed[-2::-1], boxed[:0:-1], strict=True):
            if not _BETWEEN_BOXES.fullmatch(_one_line(text[end:start])):
                break
            content = f"{before}, {content}"
    return _number(content) or _undelimit(content) if kind == "number" else _undelimit(content)


def _one_line(text: str) -> str:
    """Without runs of blanks, on which the patterns above would take cubic time (models do loop on blanks)."""
    return re.sub(r"\s+", " ", text).strip()


def _undelimit(formula: str) -> str:
    """One line, without math delimiters, markdown stars and a closing full stop."""
    formula = re.sub(r"(?<!\\)(?:\$|\\[()\[\]])", "", formula)
    return re.sub(r"(?<!\\right)\.$", "", _one_line(formula).strip(" *")).strip()


def _number(text: str) -> str | None:
    r"""The plain number that `text` is ("\$1,200.50 a day" -> "1200.50"; a percent sign stays), or None."""
    match = _NUMBER.fullmatch(_one_line(text))
    if match is None:
        return None
    sign = "-" if match["sign"] in ("-", "\u2212") else ""
    digits = re.sub(_SEPARATOR, "", match["digits"])
    return sign + digits + (r"\%" if match["percent"] else "") if digits else None


def _formula(text: str, alone: bool) -> str | None:
    delimited = [next(filter(None, match.groups())) for match in _DELIMITED.finditer(text)]
    if alone and not _DELIMITED.fullmatch(text.rstrip(".")):
        return _number(text)
    if len(delimited) > 1:
        return None
    return _undelimit(delimited[0] if delimited else text) or None


def _letter(text: str, alone: bool) -> str | None:
    """The option's letter at the start of `text` ("C", "(C)", "C. Paris"); `alone`: nothing may follow it."""
    text = _undelimit(_WRAPPER.sub(r"\1", re.sub(r"\\[()\[\]]", "", text))).strip("{}").strip()
    match = _LETTER.match(text)
    rest = text[match.end() :].strip() if match else ""
    if match is None or (alone and rest) or re.match(r"(?:,|/|&|and\b|or\b)", rest):
        return None
    return (match[1] or match[2]).upper()


def _code(text: str, cut_off: bool) -> str | None:
    blocks = list(_blocks(text, cut_off))
    candidates = ([block for block in blocks if _DEFINES.search(block)] or blocks)[-1:]
    if not candidates and not cut_off and _BARE.match(text.strip()) and _DEFINES.search(text):
        candidates = [text.strip()]
    return candidates[0] if candidates and candidates[0].strip() else None


def _blocks(text: str, cut_off: bool) -> Iterator[str]:
    """Content of each fenced block of Python or of no named language, without the indentation of its fence."""
    indent: str | None = None
    language, lines = "", list[str]()
    for line in text.split("\n"):
        mark = line.strip()
        if indent is None and mark.startswith("```") and "`" not in mark[3:]:
            indent, language, lines = line[: line.index("`")], mark[3:].strip().lower(), []
        elif indent is not None and mark == "```":
            if language in _PYTHON:
                yield "\n".join(lines)
            indent = None
        elif indent is not None:
            lines.append(line.removeprefix(indent))
    if indent is not None and not cut_off and language in _PYTHON:
        yield "\n".join(lines)
