"""The base of all errors that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """An error whose message says what is wrong and what to do; it is shown without a traceback."""
