"""Texts that show whether a tokenizer that was loaded does what its tokenizer.json says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

THINKING_TAGS = ("<think>", "</think>")
BASIC = "What is 12 + 345?\n\nLet me think:  a = 1,\tb = 2.\n    So, a + b = 3."
"""What every tokenizer of a language model must give back as it was."""
TEXTS = {
    "spaces": " one  two   three    four ",
    "newlines": "a\nb\n\nc\n\n\nd\r\ne \n f\n",
    "tabs": "\tone\t\ttwo \t three",
    "digits": "0 7 42 123 2024 1,000,000 3.14159 1e-9 0x1F 00:59 12345678901234567890",
    "code": 'def f(x: int) -> str:\n    if x > 10 and x != 2:\n\treturn f"{x:>8}"  # tab\n    return {"a": [x, -1]}\n',
    "mathematics": "So $\\frac{a}{b} \\le \\sqrt{2}$ and \\boxed{\\dfrac{1}{2}} \\\\ ∑ ∫ √ ≤ ∞ x² π",
    "scripts": "Grüße, café, e\u0301 A\u030a; Привет мир; مرحبا; नमस्ते; 中文测试。日本語のテスト 한국어 \uff11\uff12",
    "emoji": "🙂 👩‍👩‍👧 🇩🇪 ✅ ☃️",
    "blanks": "no\u00a0break thin\u2009space zero\u200bwidth ideographic\u3000space",
    "punctuation": "I'm you're IT'S don't 'quoted' \"quoted\" -- (a) [b] {c} <d> e/f\\g , a . b ? c ! d 's n't",
    "thinking": "<think>\nLet me think.\n\nWait, 2 + 2 = 4.\n</think>\n\nThe answer is 4.",
    "basic": BASIC,
}
"""Name -> text, of all that questions and answers are made of."""
CHAT = "\n".join(TEXTS.values())
"""A question with all of it, for a whole prompt."""


def with_tokens(tokens: Iterable[str]) -> str:
    """Return a text of a tokenizer's own tokens: alone, between blanks, inside words and one after the other."""
    return "".join(f"{token} a{token}b\n{token}{token}" for token in tokens)


def first_difference(got: str, expected: str) -> str:
    """Return both texts from just before where they begin to differ, for people."""
    same = next(
        (i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), min(len(got), len(expected))
    )
    start = max(0, same - 8)
    return f"{got[start : same + 16]!r} instead of {expected[start : same + 16]!r}"


def digest(ids: Sequence[int] | Sequence[Sequence[int]]) -> str:
    """Return what stands for token ids: equal only where all of them are."""
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()
