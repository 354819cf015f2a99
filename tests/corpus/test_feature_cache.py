"""The feature cache: round trips, atomic entries, damage, and the bound on its size."""

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

from talim.corpus.feature_cache import CorruptCacheEntry, FeatureCache
from talim.errors import TalimError


def fields(number: int) -> dict[str, object]:
    return {"kind": "test", "number": number}


def put(cache: FeatureCache, number: int, values: int = 1000) -> bool:
    arrays = {"states": np.full((values,), number, dtype=np.int16)}
    return cache.put_if_room(cache.key(**fields(number)), arrays, fields(number))


@given(sizes=st.lists(st.integers(0, 5000), max_size=12), bound=st.integers(0, 60_000))
def test_put_if_room_never_exceeds_max_bytes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bound: int
) -> None:
    cache = FeatureCache(tmp_path_factory.mktemp("cache"), bound)
    stored = [put(cache, number, size) for number, size in enumerate(sizes)]
    assert cache.held_bytes() <= bound
    for number, is_stored in enumerate(stored):
        assert (cache.get_valid(cache.key(**fields(number))) is not None) == is_stored
    if bound == 0:
        assert not any(stored)
    if bound > sum(2 * size + 4096 for size in sizes):
        assert all(stored)


def test_put_if_room_after_refusal_stores_a_smaller_entry(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 10_000)
    assert not put(cache, 0, 8000)
    assert put(cache, 1, 100)


def test_get_valid_of_a_damaged_entry_deletes_it(tmp_path: Path) -> None:
    assert put(FeatureCache(tmp_path, 10_000), 1)
    cache = FeatureCache(tmp_path, 10_000)
    path = cache.path(cache.key(**fields(1)))
    written = bytearray(path.read_bytes())
    written[-1] ^= 1
    path.write_bytes(written)
    assert cache.get_valid(cache.key(**fields(1))) is None
    assert put(cache, 1)
    entry = cache.get_valid(cache.key(**fields(1)))
    assert entry is not None
    assert set(entry["states"]) == {1}


def test_put_if_room_with_a_wrong_sum_file_counts_anew(tmp_path: Path) -> None:
    put(FeatureCache(tmp_path, 10_000), 0)
    (tmp_path / "bytes").write_text("999999999")
    assert put(FeatureCache(tmp_path, 10_000), 1)
    (tmp_path / "bytes").write_text("nonsense")
    assert put(FeatureCache(tmp_path, 10_000), 2)


def test_put_if_room_of_the_same_entry_counts_it_once(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, 5000)
    assert all(put(cache, 1) for _ in range(20))


def _fill(folder: str, first: int) -> int:
    cache = FeatureCache(folder, 60_000)
    return sum(put(cache, first + number) for number in range(30))


def test_put_if_room_from_two_processes_observes_one_bound(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        stored = pool.starmap(_fill, [(str(tmp_path), 0), (str(tmp_path), 100)])
    cache = FeatureCache(tmp_path, 60_000)
    assert 50_000 < cache.held_bytes() <= 60_000
    assert sum(stored) == len(list(tmp_path.glob("??/*.safetensors")))


def test_put_if_room_on_a_nearly_full_disk_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path, 10**9)
    monkeypatch.setattr(cache, "_free_bytes", lambda: 100)
    assert cache.available_bytes() == 100
    assert not put(cache, 0)


def test_put_if_room_when_the_disk_fills_up_returns_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path, 10**9)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert not put(cache, 0)
    assert cache.held_bytes() == 0


def test_put_if_room_in_a_read_only_folder_returns_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    cache = FeatureCache(tmp_path / "read-only", 10**9)
    assert not put(cache, 0)
    assert cache.get_valid(cache.key(**fields(0))) is None


FIELDS = {"audio": "ab12", "codec": "nano", "crop": [0, 500]}

DTYPES = [np.int16, np.int64, np.uint8, np.float16, np.float32, np.float64, np.bool_]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


def filled(cache: FeatureCache) -> str:
    key = cache.key(**FIELDS)
    cache.put(key, {"tokens": np.arange(2000, dtype=np.int16).reshape(4, 500)}, FIELDS)
    return key


arrays = st.dictionaries(
    st.text("abcxyz", min_size=1, max_size=5),
    hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)),
    min_size=1,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(arrays, st.integers())
def test_get_returns_any_arrays_as_stored(cache: FeatureCache, stored: dict[str, np.ndarray], number: int) -> None:
    fields = {"number": number}
    cache.put(cache.key(**fields), stored, fields)
    entry = FeatureCache(cache.folder).get(cache.key(**fields))
    assert entry is not None
    assert entry.keys() == stored.keys()
    for name, array in stored.items():
        assert entry[name].dtype == array.dtype
        assert entry[name].shape == array.shape
        assert entry[name].tobytes() == array.tobytes()


def test_get_returns_memory_mapped_read_only_arrays(cache: FeatureCache) -> None:
    entry = cache.get(filled(cache))
    assert entry is not None
    assert not entry["tokens"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        entry["tokens"][0, 0] = 1


def test_put_writes_plain_safetensors(cache: FeatureCache) -> None:
    key = filled(cache)
    assert load_file(cache.path(key))["tokens"].shape == (4, 500)


def test_get_or_make_of_a_missing_entry_makes_it_once(cache: FeatureCache) -> None:
    calls = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"x": np.ones(3, np.float32)}

    assert cache.get(cache.key(**FIELDS)) is None
    first = cache.get_or_make(FIELDS, make)
    again = FeatureCache(cache.folder).get_or_make(FIELDS, make)
    assert first["x"].tolist() == again["x"].tolist() == [1, 1, 1]
    assert len(calls) == 1


def test_key_changes_with_any_field_and_is_stable(cache: FeatureCache) -> None:
    filled(cache)
    assert cache.key(**dict(reversed(FIELDS.items()))) == cache.key(**FIELDS)
    for name, other in (("audio", "ab13"), ("codec", "nano2"), ("crop", [0, 501])):
        assert cache.get(cache.key(**{**FIELDS, name: other})) is None
    # A golden value: caches of an earlier release must stay valid.
    assert cache.key(**FIELDS) == "37e28c8d74f18c84bf276ad01b9d81d665dd2de691cf447a1d09c4036724b0aa"


def test_put_with_fields_of_another_key_raises(cache: FeatureCache) -> None:
    with pytest.raises(TalimError, match="does not belong to its fields"):
        cache.put(cache.key(**FIELDS), {"x": np.ones(1)}, {"audio": "other"})
    with pytest.raises(TalimError, match="plain JSON"):
        cache.key(path=Path("x"))
    with pytest.raises(TalimError, match="plain JSON"):
        cache.key(value=float("nan"))


def test_put_with_unsupported_dtype_raises(cache: FeatureCache) -> None:
    with pytest.raises(TalimError, match="'words' has dtype"):
        cache.put(cache.key(**FIELDS), {"words": np.array(["a"])}, FIELDS)
    assert list(cache.folder.rglob("*.safetensors")) == []


def test_put_of_big_endian_arrays_keeps_values(cache: FeatureCache) -> None:
    cache.put(cache.key(**FIELDS), {"x": np.array([1, 2, 300], dtype=">i4")}, FIELDS)
    assert cache.get_or_make(FIELDS, dict)["x"].tolist() == [1, 2, 300]


@pytest.mark.parametrize("at", [0, 3, 9, 40, 200, -1, -500])
def test_get_after_a_flipped_bit_raises_corrupt_entry(cache: FeatureCache, at: int) -> None:
    path = cache.path(filled(cache))
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptCacheEntry, match="delete this file") as caught:
        FeatureCache(cache.folder).get(path.stem)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 8, 100, 1000])
def test_get_after_truncation_raises_even_once_verified(cache: FeatureCache, size: int) -> None:
    path = cache.path(filled(cache))
    assert cache.get(path.stem) is not None
    data = path.read_bytes()
    path.unlink()  # the mapped file itself must not shrink under its readers
    path.write_bytes(data[:size])
    with pytest.raises(CorruptCacheEntry):
        cache.get(path.stem)


def test_get_of_an_entry_under_another_key_raises(cache: FeatureCache) -> None:
    path = cache.path(filled(cache))
    other = cache.path(cache.key(audio="other"))
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(path.read_bytes())
    with pytest.raises(CorruptCacheEntry, match="another key"):
        cache.get(other.stem)


def test_get_verifies_the_checksum_once_a_process(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    key = filled(cache)
    count = []
    monkeypatch.setattr("talim.corpus.feature_cache._checksum", lambda arrays: count.append(1) or "")
    with pytest.raises(CorruptCacheEntry):
        cache.get(key)
    monkeypatch.undo()
    cache.get(key)
    monkeypatch.setattr("talim.corpus.feature_cache._checksum", lambda arrays: count.append(1) or "")
    assert cache.get(key) is not None
    assert len(count) == 1


def test_put_interrupted_leaves_no_entry(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("talim.run.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        filled(cache)
    monkeypatch.undo()
    assert cache.get(cache.key(**FIELDS)) is None
    assert [path for path in cache.folder.rglob("*") if path.is_file()] == []


def test_put_on_a_full_disk_raises_talim_error(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("talim.run.os.fsync", full)
    with pytest.raises(TalimError, match="No space left on device"):
        filled(cache)
    monkeypatch.undo()
    assert cache.get(cache.key(**FIELDS)) is None


def test_put_removes_partial_files_older_than_an_hour(cache: FeatureCache) -> None:
    filled(cache)
    old, young = (cache.folder / "ab" / f".x.{name}.part" for name in ("old", "young"))
    old.parent.mkdir(exist_ok=True)
    for path in (old, young):
        path.write_bytes(b"partial")
    os.utime(old, (1, 1))
    filled(FeatureCache(cache.folder))
    assert not old.exists()
    assert young.exists()
