r"""The answer that a model gave: the one place that decides what counts as an answer.

The rules, the same for every model (only text after ``</think>`` comes here):

1. The last non-empty ``\boxed{...}`` with its closing brace, together with the boxes that it is joined to ("and", ";").
2. Without a box, or behind the last one, an explicit label ("the answer is ...", "Answer: ...", "#### ...", a heading)
   counts if nothing but the answer follows it, on one line.
3. Without either, a text that is nothing but a value (``18``, ``$18.50``, ``$\frac12$``, ``(C)``) counts.
4. Everything else is no answer. A number or a capital letter somewhere in prose is never picked up: that
   would credit texts that mention the gold on the way, the longer the text the more often.

An answer that is denied or limited ("not 5", "at least 5") is none, nor are two choices or numbers with "or" between
them. A text that the token budget cut off can only be answered by a box: in "the answer is 12" the next token might
have been a 0. The time is linear in the text, and nothing longer than LONGEST is an answer.

Code: see `code_blocks`.
"""

from __future__ import annotations

import re
from collections import deque
from itertools import pairwise

from .boxes import joined, last_group, meant
from .characters import plain
from .code_blocks import code
from .letters import letter
from .quantities import number

LONGEST = 4000
"""Characters of the longest answer that is looked at."""

_LABEL = re.compile(
    r"(?:^[ \t]*####(?![#\s*_]*(?i:the\b|final|correct|my\b|answer))|<answer>"
    r"|^[^\w\n]*(?i:(?:the\s)?(?:final\s|correct\s|my\s)?answer)[^\w\n]*$"
    r"|(?i:\b(?:answers?|option|choice)\b)(?:[^.\n:=]{0,60}?\b(?i:is)\b|[\s*_`\"']*[:=])"
    r"|(?i:\banswers?\b)[*_`\"' ]*(?:[-\u2013\u2014]+(?=\s)|(?=\$|\\[(\[]))"
    r"|\u7b54\u6848[\u662f\u4e3a]?)[\s*_:`\"']*",
    re.MULTILINE,
)
_DISPLAY = re.compile(r"(\\\[|\$\$)(.+?)(\\\]|\$\$)", re.DOTALL)
_DELIMITED = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w)}\]])\*{2,3}|\*{2,3}(?![\w({\\])|(?<=\S)\*(?=[\s.,]|$)|__|`")
_CLOSING = re.compile(r"\s*(?:</answer>|I hope it is correct\.?)\s*$")
_AGAINST = re.compile(
    r"(?i:\b(?:not|never|neither|nor|cannot|unless|without|except|least|most|more|less|fewer|greater|larger|smaller|over"
    r"|under|above|below|between|but|perhaps|maybe|possibly|probably|either|if|when)\b|n't\b)"
)
_SAYS = re.compile(r"\b(?:is|are|equals)\b[\s:]*")
_ARITHMETIC = re.compile(
    r"(?=[^0-9]*[0-9])(?:[0-9.+\-*/^(){}\s!]|\\(?:[dtc]?frac|sqrt|times|cdot|div|left|right|pi|[%,!;]))+"
)
_WORD = re.compile(r"(?<![\\A-Za-z])(?!sin|cos|tan|log|exp|sqrt)[A-Za-z]{3,}")


def extract(text: str, kind: str, cut_off: bool = False, entry_point: str | None = None) -> str | None:
    """The answer in `text` for a question of `kind` ("number", "math", "choice", "code"), or None.

    Args:
        text: what the model said after thinking.
        kind: of the question.
        cut_off: the budget ended the text, so only a closed box or fence counts.
        entry_point: of code, the function that was asked for.

    Returns:
        What will be compared or run: a number without currency, separators and unit words, LaTeX without its
        delimiters, one capital letter, or Python.
    """
    if kind == "code":
        return code(text, cut_off, entry_point)
    text = plain(text)
    found = meant(text)
    labels = deque(() if cut_off else _LABEL.finditer(text), maxlen=1)
    label = labels[0] if labels else None
    if found and (label is None or label.start() < found[-1].end):
        return _boxed(*last_group(text, found), kind)
    if label:
        stated = _stated(text[label.end() :], kind, later=bool(found))
        return stated if stated or not found else _boxed(*last_group(text, found), kind)
    return None if cut_off else _alone(text, kind)


def _boxed(contents: list[str], choice: bool, kind: str) -> str | None:
    if sum(map(len, contents)) > LONGEST:
        return None
    if kind == "choice":
        letters = set(filter(None, map(letter, contents)))
        return letters.pop() if len(letters) == 1 else None
    if kind == "number":
        if choice and len(contents) > 1:
            return None
        contents = [number(content) or content for content in contents]
    return _undelimit(", ".join(dict.fromkeys(contents)))


def _stated(text: str, kind: str, later: bool) -> str | None:
    """The answer behind a label. later: it stands behind a box, which only a value replaces."""
    answer = _tidy(text)
    if not answer:
        return None
    if kind == "choice":
        return letter(answer)
    said = answer
    for word in _SAYS.finditer(answer):
        said = answer[word.end() :]
    if _AGAINST.search(answer[: len(answer) - len(said)]):
        return None
    if kind == "number":
        formulas = [_undelimit(part) for part in (answer, answer.rpartition("=")[2], said)]
        numbers = map(number, formulas)
        return next(filter(None, numbers), None) or next(filter(_ARITHMETIC.fullmatch, formulas), None)
    if _DELIMITED.search(answer):
        return _delimited(answer) or (_undelimit(said) if said != answer and _is_value(said) else None)
    if re.search("[0-9]", answer) and _AGAINST.search(answer):
        return None
    best = next(filter(_is_value, (answer, said)), None)
    return _undelimit(best or ("" if later else answer)) or None


def _alone(text: str, kind: str) -> str | None:
    answer = _tidy(text)
    if not answer:
        return None
    if kind == "choice":
        return letter(answer, alone=True)
    if kind == "math" and _DELIMITED.fullmatch(answer.rstrip(".")):
        return _delimited(answer)
    found = number(_undelimit(answer))
    formula = kind == "math" and _is_value(answer) and re.search(r"[0-9\\]", answer)
    return found or (_undelimit(answer) if formula else None)


def _tidy(text: str) -> str | None:
    """One line without marks of emphasis and quotes around the whole and within it; None if there are more lines."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    text = _DISPLAY.sub(lambda found: found[1] + " ".join(found[2].split()) + found[3], _CLOSING.sub("", text)).strip()
    text = _EMPHASIS.sub("", text)
    before = None
    while text != before:
        before = text
        text = text.strip("*_`\"' ").strip()
        if re.search(r"[*_`\"'\])]\.$", text):
            text = text[:-1]
        if bracketed := re.fullmatch(r"\[([^\[\],;]+)\]|\(([^(),;]+)\)", text):
            text = bracketed[1] or bracketed[2]
    return None if "\n" in text else text


def _delimited(text: str) -> str | None:
    """The formulas of a text that says nothing else of weight; several are one answer if only joined."""
    parts = list(_DELIMITED.finditer(text))
    between = [text[one.end() : other.start()] for one, other in pairwise(parts)]
    before, after = text[: parts[0].start()], text[parts[-1].end() :]
    if not all(gap.strip() and joined(gap) for gap in between) or len(before.split()) > 4 or re.search("[0-9]", after):
        return None
    if _AGAINST.search(before) or _AGAINST.search(after):
        return None
    return _undelimit(", ".join(next(filter(None, part.groups())) for part in parts)) or None


def _is_value(text: str) -> bool:
    return not _WORD.search(re.sub(r"\\text\s*\{[^{}]*\}", "", text)) and bool(text.strip())


def _undelimit(formula: str) -> str:
    """One line, without math delimiters, markdown stars and a closing full stop."""
    formula = re.sub(r"(?<!\\)(?:\$|\\[()\[\]])", "", formula)
    formula = " ".join(formula.split()).strip(" *")
    return re.sub(r"(?<!\\right)(?<!\.)\.$", "", formula).strip()
