"""Arrays in a temporary file come back as they were, cannot be changed, and need no memory when they are not read."""

from __future__ import annotations

import gc
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from talim.errors import TalimError
from talim.metrics.array_store import ArrayStore


def test_arrays_come_back_as_they_were_whatever_their_shape_and_order() -> None:
    rng = np.random.default_rng(0)
    given = [
        rng.normal(size=(3, 5)).astype(np.float16),
        rng.normal(size=(7, 4)).T,  # not contiguous
        np.zeros((2, 0), np.float32),
        np.arange(9, dtype=np.int16),
    ]
    store = ArrayStore(given[:2])
    for array in given[2:]:
        store.append(array)
    for array, back in zip(given, store, strict=True):
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back, array)
    assert [store.shape(n) for n in range(len(store))] == [array.shape for array in given]
    assert [item.shape for item in store[1:3]] == [(4, 7), (2, 0)]
    with pytest.raises(ValueError, match="read-only"):
        store[0][0, 0] = 1
    with pytest.raises(IndexError):
        store[4]


def test_what_is_stored_takes_no_memory_and_the_file_ends_with_the_store() -> None:
    tracemalloc.start()
    store = ArrayStore(np.full((100, 1000), n, np.float32) for n in range(50))  # 20 MB
    total = sum(float(array[0, 0]) for array in store)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == sum(range(50))
    assert peak < 2e6
    handle = store._file.fileno()
    del store
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_a_disk_that_takes_nothing_is_told_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArrayStore()
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with full.open("wb") as handle:
        monkeypatch.setattr(store, "_file", handle)
        with pytest.raises(TalimError, match="cannot be written"):
            store.append(np.zeros(100_000))
        monkeypatch.undo()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "missing"))
    with pytest.raises(TalimError, match="missing: cannot be written"):
        ArrayStore()
