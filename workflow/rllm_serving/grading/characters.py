"""Unicode as models write it, in the ASCII and LaTeX that the rules know: signs, digits, roots, fractions."""

from __future__ import annotations

import re
import unicodedata

_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_DIGITS = "0123456789"
_HIGH = dict(
    zip("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b", _DIGITS + "+-", strict=True)
)
_LOW = dict(zip("\u2080\u2081\u2082\u2083\u2084\u2085\u2086\u2087\u2088\u2089", _DIGITS, strict=True))
_FRACTIONS = "\u00bd\u2153\u2154\u00bc\u00be\u2155\u2156\u2157\u2158\u2159\u215a\u215b\u215c\u215d\u215e"
_SYMBOLS = {
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),  # no width
    **dict.fromkeys("\u00a0\u2002\u2003\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u2212\ufe63\u2010\u2011", "-"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2018\u2019\u2032", "'"),
    **dict.fromkeys("\u3010\u3014", "["),
    **dict.fromkeys("\u3011\u3015", "]"),
    **dict.fromkeys("\u2044\u2215", "/"),
    **dict.fromkeys("\u00b7\u22c5\u2219", r"\cdot "),
    "\u3002": ".",
    "\u3001": ",",
    "\u00d7": r"\times ",
    "\u00f7": r"\div ",
    "\u00b1": r"\pm ",
    "\u221e": r"\infty ",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u2260": r"\ne ",
    "\u2248": r"\approx ",
    "\u2261": r"\equiv ",
    "\u2208": r"\in ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2205": r"\emptyset ",
    "\u2026": r"\ldots ",
    "\u00b0": r"^\circ ",
    "\u03c0": r"\pi ",
}
_TABLE = _FULL_WIDTH | {ord(character): text for character, text in _SYMBOLS.items()}
_RUN_HIGH = re.compile(f"[{''.join(_HIGH)}]+")
_RUN_LOW = re.compile(f"[{''.join(_LOW)}]+")
_FRACTION = re.compile(f"[{_FRACTIONS}]")
_ROOT = re.compile(
    r"([\u221a\u221b\u221c])\s*(?:\(([^()\n]{1,200})\)|\{([^{}\n]{1,200})\}|([0-9]+(?:\.[0-9]+)?|[A-Za-z]|\\pi))"
)
_ROOTS = {"\u221a": "", "\u221b": "[3]", "\u221c": "[4]"}
_LETTERS = re.compile("[\U0001d400-\U0001d7ff]+")


def plain(text: str) -> str:
    r"""Return a text in which full-width characters, signs and digits of Unicode are ASCII or LaTeX.

    A superscript 2 is "^{2}", a half "\frac{1}{2}", a root with what stands under it "\sqrt{...}". Linear in the text.
    """
    if text.isascii():
        return text
    text = _LETTERS.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text).translate(_TABLE)
    text = _RUN_HIGH.sub(lambda run: "^{" + "".join(map(_HIGH.__getitem__, run[0])) + "}", text)
    text = _RUN_LOW.sub(lambda run: "_{" + "".join(map(_LOW.__getitem__, run[0])) + "}", text)
    text = _FRACTION.sub(_fraction, text)
    return _ROOT.sub(lambda root: rf"\sqrt{_ROOTS[root[1]]}{{{root[2] or root[3] or root[4]}}}", text)


def _fraction(character: re.Match[str]) -> str:
    above, below = unicodedata.normalize("NFKD", character[0]).split("\u2044")
    return rf"\frac{{{above}}}{{{below}}}"
