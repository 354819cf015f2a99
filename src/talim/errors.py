"""The two ways a command can refuse: something failed (exit 1), or it was asked wrongly (exit 2)."""

from __future__ import annotations


class TalimError(Exception):
    """Something failed. The message is one clear line: what arrived, what was expected, what to type."""

    exit_code = 1


class UsageError(TalimError):
    """The request itself cannot be understood or makes no sense (exit status 2)."""

    exit_code = 2
