"""The target store: right arrays, whole entries, nothing stale, damage named."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from talim.corpus.feature_cache import BoundedFeatureCache, CorruptCacheEntry, FeatureCache
from talim.errors import TalimError


def fields(number: int) -> dict[str, object]:
    return {"kind": "test", "number": number}


def offer(store: BoundedFeatureCache, number: int, values: int = 1000) -> bool:
    arrays = {"states": np.full((values,), number, dtype=np.int16)}
    return store.put_if_room(store.key(**fields(number)), arrays, fields(number))


@given(sizes=st.lists(st.integers(0, 5000), max_size=12), bound=st.integers(0, 60_000))
def test_it_never_holds_more_than_its_bound(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bound: int
) -> None:
    store = BoundedFeatureCache(tmp_path_factory.mktemp("store"), bound)
    taken = [offer(store, number, size) for number, size in enumerate(sizes)]
    assert store.held_bytes() <= bound
    for number, kept in enumerate(taken):
        assert (store.get_valid(store.key(**fields(number))) is not None) == kept
    if bound == 0:
        assert not any(taken)
    if bound > sum(2 * size + 4096 for size in sizes):
        assert all(taken)


def test_a_later_smaller_entry_may_still_fit(tmp_path: Path) -> None:
    store = BoundedFeatureCache(tmp_path, 10_000)
    assert not offer(store, 0, 8000)
    assert offer(store, 1, 100)


def test_a_damaged_entry_is_as_good_as_none_and_is_replaced(tmp_path: Path) -> None:
    assert offer(BoundedFeatureCache(tmp_path, 10_000), 1)
    store = BoundedFeatureCache(tmp_path, 10_000)
    path = store.path(store.key(**fields(1)))
    written = bytearray(path.read_bytes())
    written[-1] ^= 1
    path.write_bytes(written)
    assert store.get_valid(store.key(**fields(1))) is None
    assert offer(store, 1)
    found = store.get_valid(store.key(**fields(1)))
    assert found is not None
    assert set(found["states"]) == {1}


def test_a_wrong_sum_of_a_killed_writer_is_counted_anew(tmp_path: Path) -> None:
    offer(BoundedFeatureCache(tmp_path, 10_000), 0)
    (tmp_path / "bytes").write_text("999999999")
    assert offer(BoundedFeatureCache(tmp_path, 10_000), 1)
    (tmp_path / "bytes").write_text("nonsense")
    assert offer(BoundedFeatureCache(tmp_path, 10_000), 2)


def test_replacing_an_entry_does_not_count_it_twice(tmp_path: Path) -> None:
    store = BoundedFeatureCache(tmp_path, 5000)
    assert all(offer(store, 1) for _ in range(20))


def _fill(folder: str, first: int) -> int:
    store = BoundedFeatureCache(folder, 60_000)
    return sum(offer(store, first + number) for number in range(30))


def test_two_processes_share_one_bound(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        taken = pool.starmap(_fill, [(str(tmp_path), 0), (str(tmp_path), 100)])
    store = BoundedFeatureCache(tmp_path, 60_000)
    assert 50_000 < store.held_bytes() <= 60_000
    assert sum(taken) == len(list(tmp_path.glob("??/*.safetensors")))


def test_a_nearly_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BoundedFeatureCache(tmp_path, 10**9)
    monkeypatch.setattr(store, "_free_bytes", lambda: 100)
    assert store.available_bytes() == 100
    assert not offer(store, 0)


def test_a_disk_that_fills_up_in_writing_refuses_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BoundedFeatureCache(tmp_path, 10**9)

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
    store = BoundedFeatureCache(tmp_path / "read-only", 10**9)
    assert not offer(store, 0)
    assert store.get_valid(store.key(**fields(0))) is None


FIELDS = {"audio": "ab12", "codec": "nano", "crop": [0, 500]}

DTYPES = [np.int16, np.int64, np.uint8, np.float16, np.float32, np.float64, np.bool_]


@pytest.fixture
def store(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "targets")


def filled(store: FeatureCache) -> str:
    key = store.key(**FIELDS)
    store.put(key, {"tokens": np.arange(2000, dtype=np.int16).reshape(4, 500)}, FIELDS)
    return key


arrays = st.dictionaries(
    st.text("abcxyz", min_size=1, max_size=5),
    hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)),
    min_size=1,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(arrays, st.integers())
def test_any_arrays_come_back(store: FeatureCache, kept: dict[str, np.ndarray], number: int) -> None:
    fields = {"number": number}
    store.put(store.key(**fields), kept, fields)
    found = FeatureCache(store.folder).get(store.key(**fields))
    assert found is not None
    assert found.keys() == kept.keys()
    for name, array in kept.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_entries_are_mapped_not_copied_and_read_only(store: FeatureCache) -> None:
    found = store.get(filled(store))
    assert found is not None
    assert not found["tokens"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found["tokens"][0, 0] = 1


def test_the_file_is_plain_safetensors(store: FeatureCache) -> None:
    key = filled(store)
    assert load_file(store.path(key))["tokens"].shape == (4, 500)


def test_nothing_there_is_none_and_is_made_once(store: FeatureCache) -> None:
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": np.ones(3, np.float32)}

    assert store.get(store.key(**FIELDS)) is None
    first = store.get_or_make(FIELDS, make)
    again = FeatureCache(store.folder).get_or_make(FIELDS, make)
    assert first["x"].tolist() == again["x"].tolist() == [1, 1, 1]
    assert len(made) == 1


def test_any_changed_field_is_another_key(store: FeatureCache) -> None:
    filled(store)
    assert store.key(**dict(reversed(FIELDS.items()))) == store.key(**FIELDS)
    for name, other in (("audio", "ab13"), ("codec", "nano2"), ("crop", [0, 501])):
        assert store.get(store.key(**{**FIELDS, name: other})) is None
    # A golden value: caches of an earlier release must stay valid.
    assert store.key(**FIELDS) == "37e28c8d74f18c84bf276ad01b9d81d665dd2de691cf447a1d09c4036724b0aa"


def test_fields_that_do_not_give_the_key_are_refused(store: FeatureCache) -> None:
    with pytest.raises(TalimError, match="does not belong to its fields"):
        store.put(store.key(**FIELDS), {"x": np.ones(1)}, {"audio": "other"})
    with pytest.raises(TalimError, match="plain JSON"):
        store.key(path=Path("x"))
    with pytest.raises(TalimError, match="plain JSON"):
        store.key(value=float("nan"))


def test_dtypes_that_cannot_be_stored(store: FeatureCache) -> None:
    with pytest.raises(TalimError, match="'words' has dtype"):
        store.put(store.key(**FIELDS), {"words": np.array(["a"])}, FIELDS)
    assert list(store.folder.rglob("*.safetensors")) == []


def test_big_endian_arrays_keep_their_values(store: FeatureCache) -> None:
    store.put(store.key(**FIELDS), {"x": np.array([1, 2, 300], dtype=">i4")}, FIELDS)
    assert store.get_or_make(FIELDS, dict)["x"].tolist() == [1, 2, 300]


@pytest.mark.parametrize("at", [0, 3, 9, 40, 200, -1, -500])
def test_a_flipped_bit_anywhere_is_noticed(store: FeatureCache, at: int) -> None:
    path = store.path(filled(store))
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptCacheEntry, match="delete this file") as caught:
        FeatureCache(store.folder).get(path.stem)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 8, 100, 1000])
def test_a_shortened_file_is_noticed_even_by_a_store_that_read_it(store: FeatureCache, size: int) -> None:
    path = store.path(filled(store))
    assert store.get(path.stem) is not None
    data = path.read_bytes()
    path.unlink()  # the mapped file itself must not shrink under its readers
    path.write_bytes(data[:size])
    with pytest.raises(CorruptCacheEntry):
        store.get(path.stem)


def test_an_entry_under_another_name_is_never_served(store: FeatureCache) -> None:
    path = store.path(filled(store))
    other = store.path(store.key(audio="other"))
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(path.read_bytes())
    with pytest.raises(CorruptCacheEntry, match="another key"):
        store.get(other.stem)


def test_the_checksum_is_computed_once_a_process(
    store: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = filled(store)
    count = []
    monkeypatch.setattr("talim.corpus.feature_cache._checksum", lambda arrays: count.append(1) or "")
    with pytest.raises(CorruptCacheEntry):
        store.get(key)
    monkeypatch.undo()
    store.get(key)
    monkeypatch.setattr("talim.corpus.feature_cache._checksum", lambda arrays: count.append(1) or "")
    assert store.get(key) is not None
    assert len(count) == 1


def test_a_crash_while_writing_leaves_no_entry(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("talim.run.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        filled(store)
    monkeypatch.undo()
    assert store.get(store.key(**FIELDS)) is None
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_one_clear_line(store: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("talim.run.os.fsync", full)
    with pytest.raises(TalimError, match="No space left on device"):
        filled(store)
    monkeypatch.undo()
    assert store.get(store.key(**FIELDS)) is None


def test_what_killed_writers_left_is_swept_after_an_hour(store: FeatureCache) -> None:
    filled(store)
    old, young = (store.folder / "ab" / f".x.{name}.part" for name in ("old", "young"))
    old.parent.mkdir(exist_ok=True)
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    filled(FeatureCache(store.folder))
    assert not old.exists()
    assert young.exists()
