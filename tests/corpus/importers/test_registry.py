"""The choice of a source format."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.corpus.importers import registry
from talim.errors import UsageError


def test_list_recordings_with_unknown_format_offers_the_nearest(folder: Path, out: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown source format 'symbtrr'; did you mean symbtr\?"):
        registry.list_recordings(str(folder), out, "symbtrr")
    with pytest.raises(UsageError, match="practice or symbtr:theory"):
        registry.list_recordings(str(folder), out, "symbtr:loud")
