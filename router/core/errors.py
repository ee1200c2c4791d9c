"""Errors by whose fault they are; each carries a stable code, and HTTP maps them in one place (``api/problems.py``).

Expected outcomes ("no route", "no idle agent") are values, never exceptions.
"""

from __future__ import annotations


class TendrilError(Exception):
    """Base of the three kinds below: a stable ``code``, the offending ``field``, and the rule that was broken."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        rule: str | None = None,
        limit: str | int | float | None = None,
        override: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.rule = rule
        self.limit = limit
        self.override = override


class InputRejected(TendrilError):
    """The caller's fault: malformed, unknown, forbidden or in conflict with what is there."""


class Unavailable(TendrilError):
    """Our fault or a dependency's: try again later; ``retry_after_s`` says when."""

    def __init__(self, code: str, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(code, message)
        self.retry_after_s = retry_after_s


class Unsafe(TendrilError):
    """Understood, possible, and refused because it would hurt; ``override`` says how to insist."""
