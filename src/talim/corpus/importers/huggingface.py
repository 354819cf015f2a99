"""Hugging Face data sets with an audio column: parquet or arrow files here, or an id on the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from talim.audio import is_audio_name
from talim.corpus.importers.protocol import ImportRequest
from talim.corpus.metadata import recording_columns, with_known_columns
from talim.corpus.recordings import EmbeddedAudio, FileAudio, ImportResult, SourceFile, normalize_path
from talim.corpus.split_groups import HELD_OUT, SPLIT_COLUMN, TRAIN, side_of
from talim.corpus.tables import Table, plain_row
from talim.errors import TalimError
from talim.path_suggestions import did_you_mean
from talim.strict_yaml import YAML_FAULTS, load_yaml

_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
_MAGIC = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"ID3\x03": ".mp3", b"ID3\x04": ".mp3"}


def matches(path: Path) -> bool:
    """Whether it is a parquet file, a folder of parquet files or a saved data set; never a Hub id."""
    if not path.is_dir():
        return path.suffix == ".parquet" and path.is_file()
    return any((path / name).is_file() for name in _SAVED) or bool(_parquet_files(path))


def list_recordings(request: ImportRequest) -> ImportResult:
    """Every row with audio of every split; the other columns are its metadata, official splits its side."""
    try:
        import datasets  # pyright: ignore[reportMissingImports] (an optional extra)
    except ImportError as error:
        raise TalimError(
            "the datasets library is not installed; in the folder of talim's source type: pip install '.[datasets]'"
        ) from error
    datasets.disable_progress_bars()
    splits = _load(datasets, request)
    licence = _licence(request, splits)
    name = request.path.name if request.path.exists() else request.source
    defaults = {"source": f"Hugging Face data set {name}"}
    files: list[SourceFile] = []
    skipped: list[dict[str, str]] = []
    official, notes = _official_sides(splits)
    for split, table in splits.items():
        column = _audio_column(table, request)
        numbered = [*enumerate(_rows(table, column), start=1)]  # as people count, in the notes
        rows = Table(request.path, numbered, unit="row")
        described = with_known_columns(rows, recording_columns())
        notes += [{"file": split, "note": note} for note in described.notes]
        for number, cells in described.rows:
            row = defaults | official.get(split, {}) | cells
            if licence and not {"licence", "license", "rights", "copyright"} & {*row}:
                row["licence"] = licence
            file = _source_file(request, table, split, column, number - 1, row)
            if file is None:
                skipped.append({"file": f"{split}/{number - 1:06d}", "reason": f"row {number} has no audio"})
            else:
                files.append(file)
    return ImportResult("huggingface", request.source, tuple(files), tuple(skipped), tuple(notes))


def _official_sides(splits: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """The cells that name the side of each split, where the data set has training and test; else a note on others."""
    sides = {split: side for split in splits if (side := side_of(split))}
    if {TRAIN, HELD_OUT} <= {*sides.values()}:
        return {split: {SPLIT_COLUMN: split} for split in sides}, []
    note = f"the splits {', '.join(sides)} are not followed: training and test are not both among them"
    return {}, [{"file": "splits", "note": note}] if len(sides) > 1 else []


def _load(datasets: Any, request: ImportRequest) -> Mapping[str, Any]:
    """The splits by name."""
    path = request.path
    try:
        if path.is_dir() and any((path / name).is_file() for name in _SAVED) and not _parquet_files(path):
            loaded = datasets.load_from_disk(str(path))
        elif path.exists():
            paths = [path] if path.is_file() else _parquet_files(path)
            if not paths:
                raise TalimError(f"{path}: no parquet file and no saved data set in it")
            loaded = datasets.load_dataset("parquet", data_files=_by_split(paths))
        else:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", request.source):
                near = did_you_mean(path)
                raise TalimError(f"{request.source}: no such folder, and not a Hub id (owner/name){near}")
            loaded = datasets.load_dataset(request.source)
    except TalimError:
        raise
    except Exception as error:  # any error of its readers or of the network
        reason = " ".join(str(error).split())[:300]
        raise TalimError(f"{request.source}: the datasets library cannot load it: {reason}") from error
    return loaded if isinstance(loaded, dict) else {str(getattr(loaded, "split", None) or "all"): loaded}


def _parquet_files(path: Path) -> list[Path]:
    return sorted([*path.glob("*.parquet"), *path.glob("*/*.parquet")])


def _by_split(paths: list[Path]) -> dict[str, list[str]]:
    """Files by split, from names such as train-00000-of-00002.parquet."""
    splits: dict[str, list[str]] = {}
    for path in paths:
        split = re.split(r"[-.]", path.name)[0] if re.search(r"-\d+-of-\d+", path.name) else path.stem
        splits.setdefault(re.sub(r"\W", "_", split), []).append(str(path))
    return splits


def _audio_column(table: Any, request: ImportRequest) -> str:
    """The column with audio: of the Audio type, or with cells of bytes and a path."""
    for name, feature in table.features.items():
        if type(feature).__name__ == "Audio" or (isinstance(feature, Mapping) and {"bytes", "path"} <= {*feature}):
            return str(name)
    raise TalimError(f"{request.source}: no audio column among {', '.join(table.features)}")


def _rows(table: Any, column: str) -> Iterator[dict[str, str]]:
    """Each row's metadata as text; class numbers become class names."""
    classes = {name: feature for name, feature in table.features.items() if hasattr(feature, "int2str")}
    rest = table.remove_columns([column]).with_format("arrow")
    for start in range(0, len(table), 1000):
        rows = rest[start : start + 1000].to_pylist() if rest.column_names else [{}] * min(1000, len(table) - start)
        for row in rows:
            cells = {
                name: classes[name].int2str(value) if name in classes and value is not None else value
                for name, value in row.items()
                if not isinstance(value, dict | bytes)
            }
            yield plain_row(cells)


def _cell(table: Any, column: str, number: int) -> dict[str, Any]:
    """The encoded audio of a row, {"bytes", "path"}; decoding is left to talim.audio."""
    return table.with_format("arrow")[number : number + 1][column][0].as_py() or {}


def _source_file(
    request: ImportRequest, table: Any, split: str, column: str, number: int, row: dict[str, str]
) -> SourceFile | None:
    cell = _cell(table, column, number)
    stored_path = str(cell.get("path") or "")
    file_name = normalize_path(Path(stored_path.replace("\\", "/")).name) if stored_path else ""
    name = f"{split}/{number:06d}{'-' + file_name if file_name else ''}"
    if cell.get("bytes"):

        def fetch() -> bytes:
            return bytes(_cell(table, column, number)["bytes"])

        suffix = Path(file_name).suffix if is_audio_name(file_name) else _MAGIC.get(cell["bytes"][:4], ".wav")
        return SourceFile(request.path, name, EmbeddedAudio(fetch, suffix), row)
    path = Path(stored_path)
    return SourceFile(path, name, FileAudio(path), row) if stored_path and path.is_file() else None


def _licence(request: ImportRequest, splits: Mapping[str, Any]) -> str:
    """The licence in the data set's own info, else in the card beside it, else on the Hub; "" where unknown."""
    for table in splits.values():
        if licence := getattr(getattr(table, "info", None), "license", ""):
            return str(licence)
    if not request.path.exists():
        licence = _licence_on_hub(request.source)
    else:
        card = (request.path if request.path.is_dir() else request.path.parent) / "README.md"
        text = card.read_text("utf-8", "replace") if card.is_file() else ""
        head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        fields = _card_fields(head.group(1)) if head else None
        licence = fields.get("license") if isinstance(fields, dict) else None
    return ", ".join(licence) if isinstance(licence, list) else str(licence or "")


def _card_fields(text: str) -> Any:
    """The fields at the head of a card; None where they are no YAML: a card without a licence then."""
    try:
        return load_yaml(text)
    except YAML_FAULTS:
        return None


def _licence_on_hub(name: str) -> str:
    try:
        from huggingface_hub import dataset_info

        return str((dataset_info(name).card_data or {}).get("license") or "")
    except Exception:  # offline, renamed or private: the licence is unknown
        return ""
