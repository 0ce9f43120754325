r"""Boxes of an answer: which there are, which were given up, and which belong together."""

from __future__ import annotations

import re
from typing import NamedTuple

from .quantities import IN_TEXT

_TOKEN = re.compile(r"\\{1,2}(?:boxed|fbox|framebox)\s*\{|\\.|[{}]", re.DOTALL)
_GIVEN_UP = re.compile(
    r"(?i:(?:\b(?:not|never|rather\s+than|instead\s+of|no\s+longer)|n't)\s+(?:(?:equal|be|to|simply|just)\s+)*)"
    r"[$\\(\[*_\s]*(?:[A-Za-z]\w*\s*=\s*)?$"
)
LOOK_BACK = 80
FARTHEST = 200
"""Characters before a box that may say it is not meant, and between two that belong together."""
_BULLET = re.compile(r"[.,;]?\s*\n\s*(?:[-+*\u2022]|[0-9]{1,2}[.)]|\([a-z0-9]\))\s+")
_NOISE = re.compile(
    r"\$|\\[()\[\]]|\\(?:quad|qquad|enspace|thinspace|displaystyle|left|right|hspace\{[^{}]*\})(?![A-Za-z])"
    r"|\\[,;:! ]|[*_`~]"
)
_ROW = re.compile(r"\\\\(?:\[[^\[\]]*\])?|&")
_GLUE = re.compile(
    r"\s*(?P<joins>(?:(?:,|;|(?:and|or)(?![A-Za-z]))\s*)*)"
    r"(?:[A-Za-z](?:_?\s*\{?[0-9A-Za-z]{1,3}\}?|')?\s*(?:=|\\in(?![a-z])|\\equiv)\s*)?"
)


class Box(NamedTuple):
    """Where a box starts and ends in the text, and what it holds."""

    start: int
    end: int
    content: str


def boxes(text: str) -> list[Box]:
    r"""Return every closed ``\boxed{...}`` that is not empty and holds no other; ``\{`` is no brace. Linear."""
    found: list[Box] = []
    open_braces: list[tuple[int, int, bool]] = []  # where a brace and its content start, and whether it is a box
    holds_box: list[bool] = []
    for token in _TOKEN.finditer(text):
        if token[0][-1] == "{" and token[0] != "\\{":
            open_braces.append((token.start(), token.end(), token[0] != "{"))
            holds_box.append(False)
        elif token[0] == "}" and open_braces:
            start, inner, is_box = open_braces.pop()
            holds = holds_box.pop()
            if is_box and not holds and (content := text[inner : token.start()].strip()):
                found.append(Box(start, token.end(), content))
                holds = True
            if holds and holds_box:
                holds_box[-1] = True
    return sorted(found)


def meant(text: str) -> list[Box]:
    r"""Return the boxes of a text that are not given up by the words before them ("not \boxed{7}")."""
    return [box for box in boxes(text) if not _GIVEN_UP.search(text, max(0, box.start - LOOK_BACK), box.start)]


def last_group(text: str, found: list[Box]) -> tuple[list[str], bool]:
    """Return the contents of the last box and of those that it is joined to, and whether an "or" stands between them.

    Commas, semicolons, "and", "or", the bullets of a list and spaces of LaTeX join, with or without "x =" before a box.
    """
    contents, choice = [found[-1].content], False
    for before, box in zip(found[-2::-1], found[:0:-1], strict=True):
        joins = _joins(text[before.end : box.start])
        if joins is None:
            break
        contents.append(before.content)
        choice |= re.search(r"\bor\b", joins) is not None
    return list(dict.fromkeys(reversed(contents))), choice


def joined(between: str) -> bool:
    """Whether what stands between two parts of an answer does nothing but join them."""
    return bool(_joins(between))


def _joins(between: str) -> str | None:
    """What joins two boxes ("" if they only stand side by side), or None."""
    between = re.sub(r"[^\S\n]+", " ", between)
    if len(between) > FARTHEST:
        return None
    flat = _NOISE.sub(" ", _ROW.sub(",", _BULLET.sub(" , ", between)))
    match = _GLUE.fullmatch(IN_TEXT.sub(r" \1 ", flat))
    if match is None or (not match["joins"] and (between == " " or "\n" in between)):
        return None
    return match["joins"]
