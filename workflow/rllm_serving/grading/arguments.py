r"""What fractions and roots of LaTeX take, always in braces: "\frac12", "\sqrt2", "\sqrt[3]2", "\sqrt(2)"."""

from __future__ import annotations

import re

_COMMAND = re.compile(r"\\(?:[dtc]?frac|nicefrac|sfrac|sqrt)(?![A-Za-z])|(?<![A-Za-z\\])sqrt(?=\s*[({])|\^(?=\s*\()")
_SINGLE = re.compile(r"\\[A-Za-z]+|[0-9A-Za-z]")


def closing(text: str, start: int, kind: str = "{}") -> int | None:
    r"""Return where the bracket that opened before `start` is closed (an escaped one, as "\}", is none), or None."""
    depth = 1
    for found in re.compile(rf"\\.|[{re.escape(kind)}]", re.DOTALL).finditer(text, start):
        depth += 1 if found[0] == kind[0] else -1 if found[0] == kind[1] else 0
        if depth == 0:
            return found.start()
    return None


def with_braces(text: str) -> str:
    r"""Return LaTeX whose fractions and roots are "\frac{}{}", "\sqrt{}" and "\sqrt[]{}".

    A root takes the whole number or the parenthesis behind it: that is meant by "\sqrt17" and "\sqrt(2)".
    """
    for command in reversed(list(_COMMAND.finditer(text))):
        read = _power if command[0] == "^" else _fraction if command[0].endswith("frac") else _root
        if found := read(text, command.end()):
            plain, end = found
            text = f"{text[: command.start()]}{plain}{text[end:]}"
    return text


def _fraction(text: str, start: int) -> tuple[str, int] | None:
    above = _argument(text, start)
    below = _argument(text, above[1]) if above else None
    return (rf"\frac{{{above[0]}}}{{{below[0]}}}", below[1]) if above and below else None


def _power(text: str, start: int) -> tuple[str, int] | None:
    opening = text.index("(", start)
    end = closing(text, opening + 1, "()")
    return None if end is None else (f"^{{{text[opening + 1 : end]}}}", end + 1)


def _root(text: str, start: int) -> tuple[str, int] | None:
    index = re.compile(r"\s*(\[[^\[\]]*\])?\s*").match(text, start)
    degree, start = (index[1] or "", index.end()) if index else ("", start)
    number = re.compile("[0-9]+").match(text, start)
    if number:
        return rf"\sqrt{degree}{{{number[0]}}}", number.end()
    if text.startswith("(", start):
        end = closing(text, start + 1, "()")
        return None if end is None else (rf"\sqrt{degree}{{{text[start + 1 : end]}}}", end + 1)
    under = _argument(text, start)
    return (rf"\sqrt{degree}{{{under[0]}}}", under[1]) if under else None


def _argument(text: str, start: int) -> tuple[str, int] | None:
    """What a command takes from `start` on (a group, a command or one character), and where that ends."""
    while text.startswith(" ", start):
        start += 1
    if text.startswith("{", start):
        end = closing(text, start + 1)
        return None if end is None else (text[start + 1 : end], end + 1)
    single = _SINGLE.match(text, start)
    return (single[0], single.end()) if single else None
