"""The errors that talim raises on purpose: something failed (exit status 1), or the request was wrong (2)."""


class TalimError(Exception):
    """Something failed. The message is one line: what arrived, what was expected, what to type."""

    exit_code = 1


class UsageError(TalimError):
    """The request cannot be parsed or contradicts itself."""

    exit_code = 2


class DivergedError(TalimError):
    """A training whose weights made the loss or its gradient infinite or NaN."""
