"""Tests of talim.errors: exit statuses."""

from __future__ import annotations

from talim.errors import TalimError, UsageError


def test_errors_have_the_exit_status_of_their_kind() -> None:
    assert (TalimError("x").exit_code, UsageError("x").exit_code) == (1, 2)
    assert issubclass(UsageError, TalimError)
