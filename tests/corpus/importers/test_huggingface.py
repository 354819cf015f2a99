"""The Hugging Face importer on parquet files and saved arrow data sets; the library is an optional extra."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
from fixtures.importer_sources import sound

from talim.corpus.importers import huggingface
from talim.corpus.importers.protocol import ImportRequest
from talim.corpus.importers.registry import list_recordings
from talim.corpus.prepare import prepare
from talim.errors import TalimError


def flac(seed: int) -> bytes:
    buffer, audio = io.BytesIO(), sound(seed)
    soundfile.write(buffer, audio.samples.T, audio.rate_hz, format="FLAC")
    return buffer.getvalue()


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    arrow = pytest.importorskip("pyarrow")
    columns = {
        "audio": [{"bytes": flac(n), "path": f"take {n}.flac"} for n in range(3)] + [None],
        "Raga": ["Yaman", "Todi", "Kafi", "None"],
        "artist": ["A", "B", "C", "D"],
        "license": ["CC0", None, "", "CC0"],
        "genre": [0, 1, 0, 0],
        "tempo_bpm": ["90", "fast", "100", None],
    }
    columns_info = {"audio": {"_type": "Audio"}, "genre": {"names": ["hindustani", "western"], "_type": "ClassLabel"}}
    columns_info |= {name: {"dtype": "string", "_type": "Value"} for name in ("Raga", "artist", "license", "tempo_bpm")}
    features = {"huggingface": json.dumps({"info": {"features": columns_info}})}  # as files on the Hub carry it
    return datasets.Dataset(arrow.table(columns).replace_schema_metadata(features))


def check_import(source: Path, out: Path) -> None:
    imported = list_recordings(str(source), out)
    assert imported.format == "huggingface"
    assert [file.name.split("/")[1] for file in imported.files] == [f"00000{n}-take {n}.flac" for n in range(3)]
    assert imported.skipped == ({"file": "train/000003", "reason": "row 4 has no audio"},)
    assert ("train", "row 2: ") in {(note["file"], note["note"][:7]) for note in imported.notes}
    assert [file.row["raga"] for file in imported.files] == ["Yaman", "Todi", "Kafi"]
    assert [file.row["genre"] for file in imported.files] == ["hindustani", "western", "hindustani"]
    corpus = prepare(source, out, sample_rate=8000, clip_seconds=5)
    assert corpus.summary["rights"]["licences"] == {"CC0": 1, "cc-by-4.0": 2}
    assert corpus.summary["split"]["strategy"] == "performer"
    again = prepare(source, out, sample_rate=8000, clip_seconds=5)
    assert again.prepare_stats["decoded"] == 0


def test_prepare_of_parquet_files_gives_rows_and_licences(table: Any, folder: Path, out: Path) -> None:
    (folder / "data").mkdir()
    table.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# cards\n")
    check_import(folder, out)


def test_prepare_of_a_saved_data_set_gives_rows_and_licences(table: Any, folder: Path, out: Path) -> None:
    table.save_to_disk(folder / "saved")
    (folder / "saved" / "README.md").write_text("---\nlicense: [cc-by-4.0]\n---\n")
    check_import(folder / "saved", out)


def test_rows_are_counted_from_one_and_named_from_zero(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library: names of corpora that exist stay, and what is said of a row counts as people do."""
    rows = [{"raga": "Yaman"}, {"raga": "Todi", "tempo_bpm": "fast"}, {"raga": "Kafi"}]
    cells = [{"bytes": b"fLaC 0"}, {"bytes": b"fLaC 1"}, {}]
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(disable_progress_bars=lambda: None))
    monkeypatch.setattr(huggingface, "_load", lambda *_: {"train": SimpleNamespace(features={}, info=None)})
    monkeypatch.setattr(huggingface, "_licence", lambda *_: "")
    monkeypatch.setattr(huggingface, "_audio_column", lambda *_: "audio")
    monkeypatch.setattr(huggingface, "_rows", lambda *_: iter(rows))
    monkeypatch.setattr(huggingface, "_cell", lambda _table, _column, number: cells[number])
    found = huggingface.list_recordings(ImportRequest(str(folder), out))
    assert [(file.name, file.row["raga"]) for file in found.files] == [
        ("train/000000", "Yaman"),
        ("train/000001", "Todi"),
    ]
    assert [file.audio.fetch() for file in found.files] == [b"fLaC 0", b"fLaC 1"]  # type: ignore[union-attr]
    assert found.skipped == ({"file": "train/000002", "reason": "row 3 has no audio"},)
    assert [note["note"][:7] for note in found.notes] == ["row 2: "]


@pytest.mark.parametrize(
    ("splits", "sides", "notes"),
    [
        (("train", "test", "extra"), ["train", "test", ""], 0),
        (("training", "dev", "eval"), ["training", "dev", "eval"], 0),
        (("train", "validation"), ["", ""], 1),
        (("train",), [""], 0),
    ],
)
def test_list_recordings_passes_official_splits_where_test_and_training_are_there(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, splits: tuple[str, ...], sides: list[str], notes: int
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(disable_progress_bars=lambda: None))
    tables = {split: SimpleNamespace(features={}, info=None) for split in splits}
    monkeypatch.setattr(huggingface, "_load", lambda *_: tables)
    monkeypatch.setattr(huggingface, "_licence", lambda *_: "")
    monkeypatch.setattr(huggingface, "_audio_column", lambda *_: "audio")
    monkeypatch.setattr(huggingface, "_rows", lambda *_: iter([{"raga": "Yaman"}]))
    monkeypatch.setattr(huggingface, "_cell", lambda *_: {"bytes": b"fLaC 0"})
    found = huggingface.list_recordings(ImportRequest(str(folder), out))
    assert [file.row.get("split", "") for file in found.files] == sides
    assert len(found.notes) == notes


def test_list_recordings_without_audio_or_damaged_raises(table: Any, folder: Path, out: Path) -> None:
    table.remove_columns(["audio"]).to_parquet(folder / "a.parquet")
    with pytest.raises(TalimError, match="no audio column among Raga, artist"):
        huggingface.list_recordings(ImportRequest(str(folder), out))
    (folder / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(TalimError, match="cannot load it") as caught:
        huggingface.list_recordings(ImportRequest(str(folder), out))
    assert "\n" not in str(caught.value)


def test_list_recordings_of_a_missing_folder_is_not_a_hub_id(folder: Path, out: Path) -> None:
    assert not huggingface.matches(Path("owner/name"))
    with pytest.raises(TalimError, match="no such folder"):
        list_recordings("owner/name", out)


def test_list_recordings_without_datasets_says_what_to_install(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.parquet").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TalimError, match=r"pip install '\.\[datasets\]'"):
        list_recordings(str(folder), out)
