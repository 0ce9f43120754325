r"""LaTeX as models write it, in one plain form: without fonts, colours and sizes, digits without groups, no units.

`normalize` is applied to golds and answers alike before they are compared. What it does not know it leaves as it is, so
that the reader behind it (math-verify's parser) refuses it, rather than to read a part.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from functools import partial

from .arguments import closing, with_braces
from .characters import plain
from .quantities import GROUPED, SPACE, TEXTS, scaled, without_unit

_FONT = re.compile(
    r"\\(?:(?P<color>textcolor|colorbox)\s*(?:\[[^\[\]{}]*\])?\s*\{[^{}]*\}"
    rf"|(?P<name>{TEXTS}|operatorname(?=\s*\{{\s*mod)|texttt|textsc|mathtt|mathnormal|boldsymbol|bm|bold|pmb|emph"
    r"|underline|uline|ensuremath|fbox|boxed|mathord|mathop))\s*\{"
)
_NOTHING = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|scriptscriptstyle|limits|nolimits|middle|[bB]igg?[lrm]?"
    r"|tiny|small|normalsize|large|Large|LARGE|huge|Huge|boldmath|bf|rm|it|bfseries|itshape|rmfamily|hline|centering"
    r"|nonumber|notag|therefore)(?![A-Za-z])"
    r"|\\(?:left|right)\s*\.|\\(?:left|right)(?![A-Za-z])"
    r"|\\(?:color|hspace|vspace|phantom|hphantom|vphantom|label|tag)\*?\s*\{[^{}]*\}"
)
_DELIMITER = re.compile(r"\\\$|\$|(?<!\\)\\[()\[\]]|\\(?:pounds|euro)(?![A-Za-z])|[\u20ac\u00a3\u00a5\u20b9]")
_TEXT = re.compile(r"(\\text\s*\{[^{}]*\})")
_UNIT_LETTERS = re.compile(r"[A-Za-z]+(?:\s*/\s*[A-Za-z]+)+|[mshglLVWNJKCF]")
_WORDS = re.compile(r"[^\\0-9^_{}=+$]*[A-Za-z]{2}[^\\0-9^_{}=+$]*")
_GROUPS = re.compile(rf"(?<![0-9.,^_]){GROUPED}")
_GROUPED_DECIMALS = re.compile(r"(?<=[0-9])\.[0-9]{3}(?:\\,[0-9]{3})*\\,[0-9]{1,3}(?![0-9])")
_BRACKET = re.compile(r"\\[{}]|[()\[\]{}]")
_DEGREE = re.compile(
    r"\^\s*\{?\s*\\(?:circ|degree)(?![A-Za-z])\s*\}?\s*(?:\\text\s*\{\s*[CFK]\s*\}|[CFK](?![A-Za-z]))?|\\degrees?(?![A-Za-z])"
)
_PERCENT = re.compile(
    r"(?<=[0-9)}])\s*(?:\\text\s*\{\s*(?:per\s?cent(?:age)?|pct)\s*\}|(?:per\s?cent(?:age)?|pct)(?![A-Za-z]))"
)
_REPEATING = re.compile(r"(?<![0-9.])([0-9]*)\.([0-9]*)\\(?:overline|bar|dot)\s*\{([0-9]+)\}")
_MIXED = re.compile(r"(?<![0-9./^_}])([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)(?![0-9.])")
_POWER_OF_TEN = re.compile(r"(?<![A-Za-z\\.0-9])([0-9]+(?:\.[0-9]+)?)[eE]([+-]?[0-9]+)(?![0-9.A-Za-z])")
_IMAGINARY = re.compile(r"(?:\\(?:cdot|times)|\*)?\s*(?<![A-Za-z\\])([A-Za-z]?)(?:i|\\imath)(?![A-Za-z])")
_INDEX = re.compile(r"_\s*\{?\s*i|\\(?:sum|prod|bigcup|bigcap)|(?<![A-Za-z\\])i\s*(?:=|\\in|\\l|<)")
_MATRIX = re.compile(r"\\begin\s*\{(?:small|[pbB])?matrix\*?\}(?:\s*\[[a-z]\])?|\\begin\s*\{array\}\s*\{[^{}]*\}")
_MATRIX_END = re.compile(r"(?:\\\\\s*)?\\end\s*\{(?:(?:small|[pbB])?matrix\*?|array)\}")
_IN_BRACKETS = re.compile(r"[(\[]\s*(\\begin\{pmatrix\}(?:(?!\\begin).)*?\\end\{pmatrix\})\s*[)\]]", re.DOTALL)
_LEADING = re.compile(
    r"^\s*(?:\\text\s*\{[^{}]*(?::|=|\bis|\bare)\s*\}|(?:[A-Za-z]{3,} ?)+:(?=\s)|\\approx(?![A-Za-z])|=)\s*"
)
_TRAILING = re.compile(r"(?:[\s.,;:]|\\\\)+$")
_AND = re.compile(r"\s*,?\s*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*,?\s*")
_AND_IN_TEXT = re.compile(r"\s*,?\s*\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}\s*,?\s*")
_NAMES = {"pi": r"\pi ", "infinity": r"\infty ", "infty": r"\infty "}
_NUMBER_IN_BRACES = re.compile(r"(?<![\^_}\]A-Za-z])\{\s*(-?[0-9.]+)\s*\}")


def normalize(formula: str, grouped: bool = True) -> str:
    """Return a formula in the plain form that is compared.

    Args:
        formula: LaTeX, or a number or words, with or without math delimiters.
        grouped: whether "1,200" is a number; if not, it is a list.
    """
    text = _strip(" ".join(plain(formula).split()))
    if r"\begin" not in text:  # where there are no rows, two backslashes are one, escaped
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    text = _fonts(_NOTHING.sub(" ", _DELIMITER.sub("", text.replace("**", "^"))))
    text = re.sub(r"\\\\\s*\[[^\[\]]*\]|\\cr(?![A-Za-z])", r"\\\\ ", text)
    text = " ".join(SPACE.sub(" ", _join_digits(text, grouped)).split())
    text = _IN_BRACKETS.sub(r"\1", _MATRIX_END.sub(r"\\end{pmatrix}", _MATRIX.sub(r"\\begin{pmatrix}", text)))
    text = _DEGREE.sub("", _PERCENT.sub(r"\\%", text))
    if re.search(r"[0-9\\]|\b[A-Za-z]\b", _TEXT.sub(" ", text)):
        text = _outside_words(partial(_AND.sub, ", "), _AND_IN_TEXT.sub(", ", text))
    text = _LEADING.sub("", scaled(text))
    text = without_unit(_strip(" ".join(text.split())))
    text = _outside_words(_symbols, with_braces(text))
    return _strip(" ".join(text.split()))


def elements(formula: str) -> list[str]:
    """Return the parts between the commas and semicolons of a normalized formula that stand in no brackets."""
    parts, depth, start = list[str](), 0, 0
    for found in re.finditer(r"\\[{}]|[()\[\]{},;]", formula):
        if found[0] not in (",", ";"):
            depth += 1 if found[0][-1] in "([{" else -1
        elif depth == 0:
            parts.append(formula[start : found.start()])
            start = found.end()
    return [*parts, formula[start:]]


def _strip(text: str) -> str:
    """Without marks of emphasis and quotes around it, brackets around all of it, and a closing full stop."""
    before = None
    while text != before:
        before = text
        text = text.strip(' *`"')
        if text.startswith("_") and text.endswith("_"):
            text = text.strip("_")
        if not re.search(r"\.\.$|\\[,;:]$", text):
            text = _TRAILING.sub("", text)
        if text.startswith("{") and closing(text, 1) == len(text) - 1:
            text = text[1:-1]
        if text.startswith("[") and closing(text, 1, "[]") == len(text) - 1 and not re.search("[,;]", text):
            text = text[1:-1]
    return text


def _fonts(text: str) -> str:
    r"""Without commands of font and colour; words stay as "\text{...}"."""
    for font in reversed(list(_FONT.finditer(text))):
        end = closing(text, font.end())
        if end is not None:
            text = f"{text[: font.start()]}{_without_font(font, text[font.end() : end])}{text[end + 1 :]}"
    return text


def _without_font(font: re.Match[str], inner: str) -> str:
    name, words = font["name"] or "", " ".join(SPACE.sub(" ", inner).split())
    spoken = name.startswith(("text", "mbox", "hbox", "mathrm"))
    before = font.string[: font.start()].rstrip(r"\,;: ~")
    if spoken and _UNIT_LETTERS.fullmatch(words) and before.endswith((*"0123456789", "}", ")")):
        return rf" \text{{{words}}} "  # the letter of a unit is no variable
    if _WORDS.fullmatch(words):
        return rf" \text{{{words}}} "
    return f" {inner.strip()} " if spoken or len(words) <= 1 else f"{{{inner.strip()}}}"


def _join_digits(text: str, grouped: bool) -> str:
    """Without what groups digits: "1,200", "1 200"; a comma directly within brackets separates, as in (1,200)."""
    ends, within, stack = [0], [False], list[bool]()
    for bracket in _BRACKET.finditer(text):
        if bracket[0][-1] in "([{":
            stack.append(bracket[0] != "{")
        elif stack:
            stack.pop()
        ends.append(bracket.end())
        within.append(bool(stack) and stack[-1])

    def join(number: re.Match[str]) -> str:
        a_list = within[bisect_right(ends, number.start()) - 1] or not grouped
        if a_list and "," in re.sub(r"\{,\}|,\s*\\!|\\[!,]", "", number[0]):
            return number[0]
        if re.fullmatch("[0-9 ]+", number[0]) and re.match(r"\s*/", text[number.end() :]):
            return number[0]  # a whole number and a fraction
        return re.sub("[^0-9]", "", number[0])

    text = _GROUPS.sub(join, text)
    text = _GROUPED_DECIMALS.sub(lambda number: number[0].replace(r"\,", ""), text)
    return re.sub(r"(?<=[0-9])\{,\}(?=[0-9])", ".", text)


def _outside_words(change: Callable[[str], str], text: str) -> str:
    return "".join(part if number % 2 else change(part) for number, part in enumerate(_TEXT.split(text)))


def _symbols(text: str) -> str:
    """Names, the imaginary unit as I, mixed numbers, repeating decimals and powers of ten as the parser knows them."""
    text = _MIXED.sub(_mixed, _REPEATING.sub(_repeating, text))
    text = _POWER_OF_TEN.sub(r"\1 \\cdot 10^{\2}", text)
    text = re.sub(r"\^\s*(-[0-9]+)", r"^{\1}", re.sub(r"\\log_\s*([0-9a-z])", r"\\log_{\1}", text))
    text = re.sub(r"(?<![A-Za-z\\])(?:pi|inf(?:ini)?ty)(?![A-Za-z])", lambda name: _NAMES[name[0]], text)
    if not _INDEX.search(text):
        text = _IMAGINARY.sub(r" \1 I", text)
    return _NUMBER_IN_BRACES.sub(r" \1 ", text)


def _repeating(number: re.Match[str]) -> str:
    whole, fixed, repeating = number.groups()
    above = int(whole + fixed + repeating) - int((whole + fixed) or "0")
    return rf"\frac{{{above}}}{{{10 ** len(fixed) * (10 ** len(repeating) - 1)}}}"


def _mixed(number: re.Match[str]) -> str:
    whole, above, below = number.groups()
    return rf"{whole}\frac{{{above}}}{{{below}}}" if int(above) < int(below) else number[0]
