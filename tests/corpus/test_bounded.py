"""The bound holds: for one writer, for several, and after what a killed one left behind."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.corpus.bounded import BoundedStore


def fields(number: int) -> dict[str, object]:
    return {"kind": "test", "number": number}


def offer(store: BoundedStore, number: int, values: int = 1000) -> bool:
    arrays = {"states": np.full((values,), number, dtype=np.int16)}
    return store.offer(store.key(**fields(number)), arrays, fields(number))


@given(sizes=st.lists(st.integers(0, 5000), max_size=12), bound=st.integers(0, 60_000))
def test_it_never_holds_more_than_its_bound(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bound: int
) -> None:
    store = BoundedStore(tmp_path_factory.mktemp("store"), bound)
    taken = [offer(store, number, size) for number, size in enumerate(sizes)]
    assert store.held_bytes() <= bound
    for number, kept in enumerate(taken):
        assert (store.get_whole(store.key(**fields(number))) is not None) == kept
    if bound == 0:
        assert not any(taken)
    if bound > sum(2 * size + 4096 for size in sizes):
        assert all(taken)


def test_a_later_smaller_entry_may_still_fit(tmp_path: Path) -> None:
    store = BoundedStore(tmp_path, 10_000)
    assert not offer(store, 0, 8000)
    assert offer(store, 1, 100)


def test_a_damaged_entry_is_as_good_as_none_and_is_replaced(tmp_path: Path) -> None:
    assert offer(BoundedStore(tmp_path, 10_000), 1)
    store = BoundedStore(tmp_path, 10_000)
    path = store.path(store.key(**fields(1)))
    written = bytearray(path.read_bytes())
    written[-1] ^= 1
    path.write_bytes(written)
    assert store.get_whole(store.key(**fields(1))) is None
    assert offer(store, 1)
    found = store.get_whole(store.key(**fields(1)))
    assert found is not None
    assert set(found["states"]) == {1}


def test_a_wrong_sum_of_a_killed_writer_is_counted_anew(tmp_path: Path) -> None:
    offer(BoundedStore(tmp_path, 10_000), 0)
    (tmp_path / "bytes").write_text("999999999")
    assert offer(BoundedStore(tmp_path, 10_000), 1)
    (tmp_path / "bytes").write_text("nonsense")
    assert offer(BoundedStore(tmp_path, 10_000), 2)


def test_replacing_an_entry_does_not_count_it_twice(tmp_path: Path) -> None:
    store = BoundedStore(tmp_path, 5000)
    assert all(offer(store, 1) for _ in range(20))


def _fill(folder: str, first: int) -> int:
    store = BoundedStore(folder, 60_000)
    return sum(offer(store, first + number) for number in range(30))


def test_two_processes_share_one_bound(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        taken = pool.starmap(_fill, [(str(tmp_path), 0), (str(tmp_path), 100)])
    store = BoundedStore(tmp_path, 60_000)
    assert 50_000 < store.held_bytes() <= 60_000
    assert sum(taken) == len(list(tmp_path.glob("??/*.safetensors")))


def test_a_nearly_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BoundedStore(tmp_path, 10**9)
    monkeypatch.setattr(store, "_free_bytes", lambda: 100)
    assert store.room_bytes() == 100
    assert not offer(store, 0)


def test_a_disk_that_fills_up_in_writing_refuses_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BoundedStore(tmp_path, 10**9)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert not offer(store, 0)
    assert store.held_bytes() == 0


def test_a_corpus_that_may_not_be_written_to_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    store = BoundedStore(tmp_path / "read-only", 10**9)
    assert not offer(store, 0)
    assert store.get_whole(store.key(**fields(0))) is None
