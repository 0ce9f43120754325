"""Shapes of the micro models that the rest of the pipeline must know before they are trained."""

from __future__ import annotations

HEADS = {"llm": 4, "rllm": 4, "draft": 2}
"""Attention heads a role: a tensor parallel size must divide them."""
