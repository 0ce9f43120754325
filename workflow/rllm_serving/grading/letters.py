r"""The letter of an option, as models write it: alone, in marks or LaTeX, or beside the text of the option."""

from __future__ import annotations

import re

from .characters import plain
from .quantities import SPACE, TEXTS

_EDGE = "\t"
"""Stands for what separates a letter from the text of its option better than a blank: a space or a group of LaTeX."""
_GROUP = re.compile(
    rf"\\(?:{TEXTS}|texttt|boldsymbol|bm|underline|emph|boxed|fbox|textcolor\s*\{{[^{{}}]*\}})\s*\{{|[{{}}]"
)
_DELIMITER = re.compile(
    r"\$|(?<!\\)\\[()\[\]]|\\color\s*\{[^{}]*\}|\\(?:left|right|displaystyle|Large|large|bf|rm)(?![A-Za-z])"
)
_MARKS = " \t\n*_`\"'<>~#"
_LABEL = re.compile(
    r"(?i:(?:the\s+)?(?:(?:final|correct|right|best|my)\s+)*(?:answer|option|choice)(?![a-z])(?:\s+is(?![a-z]))?"
    r"\s*(?:[:=]|[-\u2013\u2014]+(?=\s))?)"
)
_LETTER = re.compile(
    r"(?P<open>[(\[{]\s*)?[*_`\"'\t]*(?P<letter>[A-Za-z])[*_`\"'\t]*"
    r"(?P<mark>\s*[)\]}]\s*[.:]?|\s*[.:](?![0-9])|(?=\s*$))?"
)
_SEPARATED = re.compile(r"[*_`\"' ]*(?:\t|[-\u2013\u2014]+\s|\(|,?\s+(?:because|since|as|which|for)\b)")
_OTHER = r"[(\[\"'*]*(?:[Oo]ption\s+)?(?!I\s+[a-z])[A-Z](?![A-Za-z])"
_HEDGE = re.compile(rf"(?i:and|or|nor)\b|[/&+|]|(?:[,;]|to\b)\s*(?:(?i:and|or)\s+)?{_OTHER}|\W*[A-Z]\W*$")
_OTHER_OPTION = re.compile(r"(?:\band\b|\bor\b|[,;/&])\s*(?:\([A-Z]\)|[A-Z][).:](?!\w))")
_GOLD = re.compile(
    rf"\s*\$?\s*(?:\\(?:{TEXTS})\s*\{{\s*)?(?:(?i:option|choice)\s+)?[(\[]?\s*([A-Z])\s*[)\]]?\.?\s*\}}?\s*\$?\s*"
)


def gold_letter(gold: str) -> str | None:
    r"""Return the letter that a gold is ("C", "(C)", "\text{(C)}"), or None."""
    match = _GOLD.fullmatch(gold)
    return match[1] if match else None


def letter(text: str, alone: bool = False) -> str | None:
    """Return the option's letter at the start of an answer ("C", "(C)", "C. Paris", "A) 5 m") as a capital, or None.

    Several letters are no answer, nor is the article "A" before a word. alone: the text is all that there is, so that
    only a bracket, a colon or a full stop may separate the letter from what follows it.
    """
    text = _flat(text)
    if label := _LABEL.match(text):
        text = text[label.end() :].strip(_MARKS)
    match = _LETTER.match(text)
    if match is None or (match["open"] and not re.search(r"[)\]}]", match["mark"] or "")):
        return None
    rest = text[match.end() :]
    shown = rest.replace(_EDGE, " ").strip(_MARKS + ".")
    if shown and (_HEDGE.match(shown) or _OTHER_OPTION.search(shown) or not _beside(match, rest, shown, alone)):
        return None
    return match["letter"].upper()


def _beside(match: re.Match[str], rest: str, shown: str, alone: bool) -> bool:
    """Whether the letter of a match is an option's, and the rest the option's text or a reason."""
    mark, small = (match["mark"] or "").strip(), match["letter"].islower()
    if mark in (".", ":"):
        name = alone and mark == "." and shown[0].islower()  # E. coli
        return not small and not name
    if mark:
        return True
    if alone or small:
        return False
    if match[0].endswith(_EDGE) or _SEPARATED.match(rest):
        return True
    return re.match(r" +[-\\0-9$]", rest) is not None and not re.search("[a-z]{4}", shown)


def _flat(text: str) -> str:
    """One line without delimiters and marks around it; spaces and groups of LaTeX are edges."""
    text = " ".join(_DELIMITER.sub("", plain(text)).split())
    return _GROUP.sub(_EDGE, SPACE.sub(_EDGE, text)).strip(_MARKS)
