"""What a base makes and scores without an adapter, kept for the next run on the same corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class BaseResults:
    """Results by name, as long as the settings that decide them stay the same."""

    def __init__(self) -> None:
        self._settings: Any = None
        self._results: dict[str, Any] = {}

    def use(self, settings: Any) -> None:
        """Forget the results of other settings, which are compared by equality."""
        if settings != self._settings:
            self._settings, self._results = settings, {}

    def get(self, name: str, make: Callable[[], ResultT]) -> ResultT:
        """The result of this name, made now if it is not there."""
        if name not in self._results:
            self._results[name] = make()
        return self._results[name]
