"""The target store: right arrays, whole entries, nothing stale, damage named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from talim.corpus.targets import CorruptedEntry, TargetStore
from talim.errors import TalimError

FIELDS = {"audio": "ab12", "codec": "nano", "crop": [0, 500]}
DTYPES = [np.int16, np.int64, np.uint8, np.float16, np.float32, np.float64, np.bool_]


@pytest.fixture
def store(tmp_path: Path) -> TargetStore:
    return TargetStore(tmp_path / "targets")


def filled(store: TargetStore) -> str:
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
def test_any_arrays_come_back(store: TargetStore, kept: dict[str, np.ndarray], number: int) -> None:
    fields = {"number": number}
    store.put(store.key(**fields), kept, fields)
    found = TargetStore(store.folder).get(store.key(**fields))
    assert found is not None
    assert found.keys() == kept.keys()
    for name, array in kept.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_entries_are_mapped_not_copied_and_read_only(store: TargetStore) -> None:
    found = store.get(filled(store))
    assert found is not None
    assert not found["tokens"].flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found["tokens"][0, 0] = 1


def test_the_file_is_plain_safetensors(store: TargetStore) -> None:
    key = filled(store)
    assert load_file(store.path(key))["tokens"].shape == (4, 500)


def test_nothing_there_is_none_and_is_made_once(store: TargetStore) -> None:
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": np.ones(3, np.float32)}

    assert store.get(store.key(**FIELDS)) is None
    first = store.get_or_make(FIELDS, make)
    again = TargetStore(store.folder).get_or_make(FIELDS, make)
    assert first["x"].tolist() == again["x"].tolist() == [1, 1, 1]
    assert len(made) == 1


def test_any_changed_field_is_another_key(store: TargetStore) -> None:
    filled(store)
    assert store.key(**dict(reversed(FIELDS.items()))) == store.key(**FIELDS)
    for name, other in (("audio", "ab13"), ("codec", "nano2"), ("crop", [0, 501])):
        assert store.get(store.key(**{**FIELDS, name: other})) is None
    # A golden value: caches of an earlier release must stay valid.
    assert store.key(**FIELDS) == "37e28c8d74f18c84bf276ad01b9d81d665dd2de691cf447a1d09c4036724b0aa"


def test_fields_that_do_not_give_the_key_are_refused(store: TargetStore) -> None:
    with pytest.raises(TalimError, match="does not belong to its fields"):
        store.put(store.key(**FIELDS), {"x": np.ones(1)}, {"audio": "other"})
    with pytest.raises(TalimError, match="plain JSON"):
        store.key(path=Path("x"))
    with pytest.raises(TalimError, match="plain JSON"):
        store.key(value=float("nan"))


def test_dtypes_that_cannot_be_stored(store: TargetStore) -> None:
    with pytest.raises(TalimError, match="'words' has dtype"):
        store.put(store.key(**FIELDS), {"words": np.array(["a"])}, FIELDS)
    assert list(store.folder.rglob("*.safetensors")) == []


def test_big_endian_arrays_keep_their_values(store: TargetStore) -> None:
    store.put(store.key(**FIELDS), {"x": np.array([1, 2, 300], dtype=">i4")}, FIELDS)
    assert store.get_or_make(FIELDS, dict)["x"].tolist() == [1, 2, 300]


@pytest.mark.parametrize("at", [0, 3, 9, 40, 200, -1, -500])
def test_a_flipped_bit_anywhere_is_noticed(store: TargetStore, at: int) -> None:
    path = store.path(filled(store))
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptedEntry, match="delete this file") as caught:
        TargetStore(store.folder).get(path.stem)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 8, 100, 1000])
def test_a_shortened_file_is_noticed_even_by_a_store_that_read_it(store: TargetStore, size: int) -> None:
    path = store.path(filled(store))
    assert store.get(path.stem) is not None
    data = path.read_bytes()
    path.unlink()  # the mapped file itself must not shrink under its readers
    path.write_bytes(data[:size])
    with pytest.raises(CorruptedEntry):
        store.get(path.stem)


def test_an_entry_under_another_name_is_never_served(store: TargetStore) -> None:
    path = store.path(filled(store))
    other = store.path(store.key(audio="other"))
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(path.read_bytes())
    with pytest.raises(CorruptedEntry, match="another key"):
        store.get(other.stem)


def test_the_checksum_is_computed_once_a_process(store: TargetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = filled(store)
    count = []
    monkeypatch.setattr("talim.corpus.targets._checksum", lambda arrays: count.append(1) or "")
    with pytest.raises(CorruptedEntry):
        store.get(key)
    monkeypatch.undo()
    store.get(key)
    monkeypatch.setattr("talim.corpus.targets._checksum", lambda arrays: count.append(1) or "")
    assert store.get(key) is not None
    assert len(count) == 1


def test_a_crash_while_writing_leaves_no_entry(store: TargetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("talim.run.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        filled(store)
    monkeypatch.undo()
    assert store.get(store.key(**FIELDS)) is None
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_one_clear_line(store: TargetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("talim.run.os.fsync", full)
    with pytest.raises(TalimError, match="No space left on device"):
        filled(store)
    monkeypatch.undo()
    assert store.get(store.key(**FIELDS)) is None


def test_what_killed_writers_left_is_swept_after_an_hour(store: TargetStore) -> None:
    filled(store)
    old, young = (store.folder / "ab" / f".x.{name}.part" for name in ("old", "young"))
    old.parent.mkdir(exist_ok=True)
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    filled(TargetStore(store.folder))
    assert not old.exists()
    assert young.exists()
