"""Errors that are meant to be read by the person at the keyboard."""

from __future__ import annotations

__all__ = ["OptionsError", "UserError"]


class UserError(Exception):
    """Bad input: one line that says what was expected, what was found and what to do.

    The commands print it without a traceback and end with exit code 2.
    """


class OptionsError(UserError):
    """Options that do not fit the videos. No other video would mend that, so nothing goes on."""
