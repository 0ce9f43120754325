"""Numbers with what models write around them: currency, groups of digits, percent, "million", units."""

from __future__ import annotations

import re
from decimal import Decimal

SEPARATOR = r"(?:,?\s*\\!\s*,?\s*|\{,\}|\\[,;: ]|~|,| )"
"""What stands between groups of three digits."""
GROUPED = rf"[1-9][0-9]{{0,2}}(?:{SEPARATOR}[0-9]{{3}})+(?![0-9])"
SPACE = re.compile(
    r"(?<!\\)\\[,;:! ]|~|\\(?:quad|qquad|enspace|thinspace|medspace|thickspace|negthinspace)(?![A-Za-z])"
)
TEXTS = "text|textrm|textnormal|textup|textbf|textit|textsf|mbox|hbox|mathrm|mathbf|mathit|mathsf"
"""Commands that words are written in."""

_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SCALE = rf"(?:{'|'.join(_SCALES)})s?(?![A-Za-z])"
_SCALED = re.compile(
    rf"(?P<number>(?<![0-9.])[0-9]+(?:\.[0-9]+)?)?\s*"
    rf"(?:\\text\s*\{{\s*(?P<inside>{_SCALE})(?P<rest>[^{{}}]*)\}}|(?<=[0-9}})\s])(?P<plain>{_SCALE}))"
)
_NO_UNIT = re.compile(
    r"(?i:\b(?:not|never|neither|nor|or|and|but|than|if|unless|except|maybe|perhaps|possibly|probably|least|most"
    r"|between|plus|minus|times|half|mod|[ap]\.?m)\b|n't\b)|\b(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|gcd|lcm|inf|base)\b"
)
_SHORT = "cm|mm|km|dm|nm|kg|mg|ml|mL|kJ|Hz|ft|in|yd|mi|hr|hrs|lb|lbs|oz|mph|kph"
_LONG = "degrees?|dollars?|cents?|hours?|minutes?|min|seconds?|sec|days?|feet|inches|met(?:er|re)s?|units?"
_UNIT = re.compile(
    rf"(?:(?<=[0-9)}}%])|(?<=\\pi)|(?<=\\pi\s))(?:\s*\\text\s*\{{(?P<text>[^{{}}]*)\}}|(?P<attached>{_SHORT}|{_LONG})(?![A-Za-z])"
    rf"|\s(?P<words>(?:[A-Za-z]{{3,}}|{_SHORT})(?![A-Za-z])[A-Za-z /]*))\s*(?:\^\s*\{{?-?[0-9]\}}?)?\s*$"
)
_ONE_LETTER = re.compile(r"(-?[0-9.]+)\s+[mshg]")
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?:USD|US|EUR|GBP|Rs\.?)\s*)?(?:\\?[$]|[\u20ac\u00a3\u00a5\u20b9]|\\pounds)?\s*(?P<minus>-?)\s*"
    rf"(?P<digits>(?=[0-9.])(?:{GROUPED}|[0-9]+)?(?:\.[0-9]+)?)"
)
_PERCENT = re.compile(r"\s*(?:\\?%|(?:per\s?cent(?:age)?|pct)(?![A-Za-z]))")
IN_TEXT = re.compile(rf"\\(?:{TEXTS})\s*\{{([^{{}}]*)\}}")


def number(text: str) -> str | None:
    r"""Return the plain number that a text is ("\$1,200.50 a day" -> "1200.50"; a percent sign stays), or None.

    A lone letter is a symbol (18x) unless it is in a text command; a word of two letters or more is a unit, "million"
    and its like are factors.
    """
    text = " ".join(text.split())
    match = _NUMBER.match(text)
    if match is None or not match["digits"]:
        return None
    value = ("-" if "-" in (match["sign"], match["minus"]) else "") + re.sub(SEPARATOR, "", match["digits"])
    rest = text[match.end() :]
    spoken = rest.lstrip(r" ~,;:\!").startswith(("text", "mathrm", "mbox"))
    rest = SPACE.sub(" ", IN_TEXT.sub(r" \1 ", rest)).strip()
    percent = _PERCENT.match(rest)
    rest = re.sub(
        r"^(?:\\?[$]|[\u20ac\u00a3\u00a5\u20b9])", "", rest[percent.end() if percent else 0 :].strip()
    ).strip()
    scale = re.match(_SCALE, rest)
    if scale:
        value = decimal_text(Decimal(value) * _factor(scale[0]))
        rest = rest[scale.end() :].strip()
    unit = re.sub(r"(?<=[A-Za-z])\s*\^\s*\{?-?[0-9]\}?$", "", rest.removesuffix(".").strip())
    known = (
        not unit
        or re.fullmatch(r"(?:an? )?[A-Za-z]{2,}[A-Za-z\s./'-]*|\(?s\)?|\([A-Za-z][A-Za-z\s-]+\)", unit)
        or (spoken and _spoken(unit))
    )
    if not known or _NO_UNIT.search(unit):
        return None
    return value + (r"\%" if percent else "")


def _spoken(unit: str) -> bool:
    return re.fullmatch(r"[^{}\\0-9$]*", unit) is not None and unit not in ("e", "i", "x", "y", "n")


def decimal_text(value: Decimal) -> str:
    """Return a number without exponent and without zeros at its end: 18000000, 2.5."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def scaled(formula: str) -> str:
    r"""Return LaTeX with "million" and its like multiplied out: "18 \text{ million eggs}" -> "18000000 \text{eggs}"."""
    return _SCALED.sub(_scaled, formula)


def _scaled(match: re.Match[str]) -> str:
    factor = _factor(match["inside"] or match["plain"])
    rest = (match["rest"] or "").strip()
    unit = rf" \text{{{rest}}}" if rest else " "
    if match["number"] is not None:
        return f"{decimal_text(Decimal(match['number']) * factor)}{unit}"
    if match.string[: match.start()].rstrip().endswith(("}", ")")):
        return rf" \cdot {factor}{unit}"
    return match[0]


def _factor(word: str) -> int:
    return _SCALES[word.removesuffix("s")]


def without_unit(formula: str) -> str:
    r"""Return LaTeX without the unit at its end, in "\text{}" or in words; what limits or joins ("or more") stays."""
    if alone := _ONE_LETTER.fullmatch(formula):
        return alone[1]
    unit = _UNIT.search(formula)
    if unit is None or _NO_UNIT.search(unit["text"] or unit["words"] or "") or re.search("[0-9]", unit["text"] or ""):
        return formula
    return formula[: unit.start()].rstrip()
