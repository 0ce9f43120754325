r"""What the texts of a gold and an answer tell, before a parser is asked: letters, words, bases, moduli, times.

A parser drops the base of "2516_8" and the modulus of "10 \pmod{17}", and reads "12:00" as a division.
"""

from __future__ import annotations

import re
from decimal import Decimal

from .latex import elements, normalize
from .letters import gold_letter, letter

_NAMES = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_BASES = {name: str(number) for number, name in enumerate(_NAMES, 2)} | {
    "sixteen": "16",
    "binary": "2",
    "hexadecimal": "16",
}
_IN_BASE = re.compile(
    r"\(?\s*(?P<digits>[0-9A-F]*[0-9][0-9A-F]*)\s*\)?\s*(?:_|,?\s*(?:in\s+)?(?=\(?\s*(?:\\text\s*\{\s*\(?\s*)?(?:in\s+)?base))"
    rf"[\s({{]*(?:\\text\s*\{{)?[\s(]*(?:in\s+)?(?:base)?[\s}})-]*(?P<base>[0-9]+|{'|'.join(_BASES)})[\s)}}]*"
)
_MODULUS = re.compile(
    r"\s*(?:\\pmod\s*\{?\s*(?P<pmod>[^{}()]+?)\s*\}?"
    r"|\(?\s*(?:\\text\s*\{\s*mod(?:ulo)?\s*\}|\\b?mod(?![a-z])|mod(?:ulo)?(?![a-z]))\s*\{?\s*(?P<mod>[^{}()=]+?)\s*\}?\s*\)?)\s*$"
)
_CLOCK = re.compile(
    r"(?P<hour>[0-9]{1,2})(?::(?P<minute>[0-5][0-9]))?(?:\s*(?:\\text\s*\{)?\s*(?P<half>[aApP])\.?\s*[mM]\.?\s*\}?)?"
)
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


def settle(gold: str, answer: str) -> bool | tuple[str, str]:
    """Return whether an answer is the gold, where their texts tell; else both, normalized, for a parser to read."""
    if wanted := gold_letter(gold):
        return letter(answer) == wanted
    gold_text, answer_text = normalize(gold), normalize(answer)
    if len(elements(gold_text)) > 1 and len(elements(answer_text)) == 1:
        answer_text = normalize(answer, grouped=False)
    if not answer_text or not gold_text:
        return False
    for rule in (_same_text, _same_words, _same_base, _same_modulus, _same_time, _same_decimal):
        verdict = rule(gold_text, answer_text)
        if verdict is not None:
            return verdict
    return _without_modulus(gold_text), _without_modulus(answer_text)


def same_decimals(gold: Decimal, answer: Decimal) -> bool:
    """Return whether two numbers are the same once rounded: to six decimals, and to five significant digits."""
    if gold == answer:
        return True
    if max(abs(gold.adjusted()), abs(answer.adjusted())) > 300:
        return False
    return all(format(gold, form) == format(answer, form) for form in (".6f", ".4e"))


def _same_text(gold: str, answer: str) -> bool | None:
    return True if gold.replace(" ", "") == answer.replace(" ", "") else None


def _same_words(gold: str, answer: str) -> bool | None:
    r"""Words are compared as such if one of them stands in "\text{}": "ab" could be a product otherwise."""
    words = [_words(text) for text in (gold, answer)]
    if None not in words and words[0] == words[1]:
        return True
    spoken = [word is not None and r"\text" in text for word, text in zip(words, (gold, answer), strict=True)]
    return False if any(spoken) else None


def _words(text: str) -> str | None:
    shown, spoken = re.subn(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)
    form = r"\(?[A-Za-z][A-Za-z ,.;:'()!?-]*" if spoken else r"[A-Za-z]{2,}(?:(?:[ ,']+|-)[A-Za-z]{2,})*"
    if not re.fullmatch(form, shown.strip()) or not re.search("[A-Za-z]{2}", shown):
        return None
    return re.sub("[^a-z,]", "", shown.casefold())


def _same_base(gold: str, answer: str) -> bool | None:
    """The same digits in the same base; what names no base is in the other's."""
    parts = [_IN_BASE.fullmatch(text.rpartition("=")[2].strip()) for text in (gold, answer)]
    if parts == [None, None]:
        return None
    found = [(match["digits"], _BASES.get(match["base"], match["base"])) if match else None for match in parts]
    plain = [text.rpartition("=")[2].strip() for text in (gold, answer)]
    digits = [part[0] if part else text for part, text in zip(found, plain, strict=True)]
    bases = {part[1] for part in found if part}
    return len(bases) == 1 and digits[0].lstrip("0") == digits[1].lstrip("0")


def _same_modulus(gold: str, answer: str) -> bool | None:
    parts = [_MODULUS.search(text) for text in (gold, answer)]
    moduli = {re.sub(r"\s", "", part["pmod"] or part["mod"]) for part in parts if part}
    if not moduli:
        return None
    if len(moduli) > 1:
        return False
    return _same_text(_without_modulus(gold), _without_modulus(answer))


def _without_modulus(text: str) -> str:
    if not _MODULUS.search(text):
        return text
    return _MODULUS.sub("", text).replace(r"\equiv", "=").rpartition("=")[2].strip() or text


def _same_time(gold: str, answer: str) -> bool | None:
    """Times of the day; what could be a ratio (7:32) is left to the parser where the answer is no time."""
    times = [_CLOCK.fullmatch(text) for text in (gold, answer)]
    if not times[0] or not (times[0]["minute"] or times[0]["half"]):
        return None
    if not times[1]:
        return False if times[0]["half"] or times[0]["minute"].startswith("0") else None
    hours = [(int(time["hour"]), int(time["minute"] or 0)) for time in times if time]
    halves = {time["half"].lower() for time in times if time and time["half"]}
    return hours[0] == hours[1] and len(halves) < 2


def _same_decimal(gold: str, answer: str) -> bool | None:
    if _PLAIN.fullmatch(gold) and _PLAIN.fullmatch(answer):
        return same_decimals(Decimal(gold), Decimal(answer))
    return None
