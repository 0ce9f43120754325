"""The text that a question is asked in, from a template file for its kind of answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template, TemplateError

from ..errors import UserError


class PromptError(UserError):
    """The template is missing, broken, or names something that questions do not have."""


@cache
def _template(path: Path) -> Template:
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    return environment.from_string(path.read_text(encoding="utf-8"))


def render(template_path: Path | str, question: str, choices: Sequence[str] = ()) -> str:
    """The prompt: the Jinja template with `question` and `choices` (list, empty when open-ended), trimmed.

    Raises PromptError, naming the file, if it cannot be read, is no template or uses an unknown variable.
    """
    try:
        return _template(Path(template_path)).render(question=question, choices=list(choices)).strip()
    except OSError as error:
        raise PromptError(f"prompt template {template_path}: {error.strerror}") from error
    except TemplateError as error:
        raise PromptError(f"prompt template {template_path}: {error}") from error
