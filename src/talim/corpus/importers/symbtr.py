"""SymbTr scores of Turkish makam music (.txt), read into notes and rendered by synthesized instruments.

Format: M. K. Karaosmanoglu, "A Turkish makam music symbolic database for music information retrieval: SymbTr",
ISMIR 2012. Koma53 is the pitch as played, KomaAE as Arel-Ezgi theory writes it, in commas of 1/53 octave.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from talim.audio import Audio
from talim.corpus.importers.folder import check_folder, walk_folders
from talim.corpus.importers.protocol import ImportRequest
from talim.corpus.metadata import read_metadata
from talim.corpus.recordings import AnnotatedSection, ImportResult, RenderedAudio, SourceFile, normalize_path
from talim.corpus.tables import MetadataRow
from talim.corpus.text_encoding import decode_text
from talim.errors import TalimError, UsageError
from talim.inside_folder import read_inside
from talim.synthesis.score_playback import INSTRUMENT_FAMILIES, render_score
from talim.synthesis.symbolic_score import ScoreNote, SymbolicScore, UsulChange

INTONATIONS = {"practice": "Koma53", "theory": "KomaAE"}
COMMA_CENTS = 1200 / 53
_A4_COMMAS, _A4_HZ = 305, 440.0
_USUL, _GRACE = 51, 8
_CONTROL_CODES = frozenset({0, 14, 35, 50, 51, 52, 53, 54, 55, 57, 58, 59, 60})  # rows that are no notes
_GRACE_SECONDS = 0.07
_BOUNDS = {"code": (-1, 999), "commas": (-1, 1000), "milliseconds": (0, 600_000), "pulses": (0, 10_000),
           "unit": (0, 10_000), "length": (0, 1000), "velocity": (0, 1000)}  # fmt: skip
_MAX_SECONDS = 4 * 3600.0  # of a whole score
_HEADER = ("Sira", "Kod", "Nota53", "NotaAE", "Koma53", "KomaAE", "Pay", "Payda", "Ms", "LNS", "Bas", "Soz1")


@dataclass(frozen=True)
class _ScoreRow:
    """The fields of a row that are used, within `_BOUNDS`."""

    code: int
    commas: int  # -1 or 0 for a rest
    milliseconds: float
    pulses: int
    unit: int
    length: int  # sounding, in per cent of the note
    velocity: int  # of 127
    text: str


def matches(path: Path) -> bool:
    """Whether it is a SymbTr score, or a folder with one in it or in a subfolder."""
    if path.is_dir():
        return any(map(_is_score, [*sorted(path.glob("*.txt"))[:3], *sorted(path.glob("*/*.txt"))[:3]]))
    return path.suffix == ".txt" and _is_score(path)


def list_recordings(request: ImportRequest) -> ImportResult:
    """Every score below the source, rendered with the intonation of practice, or of theory (symbtr:theory)."""
    intonation = request.detail or "practice"
    if intonation not in INTONATIONS:
        raise UsageError(f"symbtr:{intonation}: no such intonation; choose symbtr:practice or symbtr:theory")
    if request.path.is_file():
        folder, paths = request.path.parent, [request.path]
    else:
        folder = request.path
        check_folder(folder, request.out)
        paths = [path for place in walk_folders(folder, request.out) for path in sorted(place.glob("*.txt"))]
    scores = {normalize_path(path.relative_to(folder)): path for path in paths if _is_score(path)}
    if not scores:
        raise TalimError(f"{folder}: no SymbTr score in it; .txt files that begin with Sira, Kod, Nota53 are read")
    rows, notes = read_metadata(folder, walk_folders(folder, request.out), {*scores})
    files, skipped = [], []
    for name, path in sorted(scores.items()):
        try:
            files.append(_source_file(name, path, rows.get(name, {}), intonation))
        except TalimError as error:
            skipped.append({"file": name, "reason": str(error).removeprefix(f"{path}: ")})
    return ImportResult("symbtr", str(request.path), tuple(files), tuple(skipped), tuple(notes))


def read_score(path: Path, intonation: str = "practice") -> SymbolicScore:
    """The notes of a score with onset, length and cents above its karar (the last note).

    Grace notes take at most 70 ms each, and half of the note that they precede. Raises TalimError, naming file and
    row, for an invalid score.
    """
    column = INTONATIONS[intonation]
    notes: list[tuple[float, float, _ScoreRow]] = []  # onset, seconds, row
    usuls, graces, onset = list[UsulChange](), list[_ScoreRow](), 0.0
    for line, cells in enumerate(_rows(path), 2):
        row, seconds = _score_row(path, line, cells, column), 0.0
        if row.code == _USUL:
            usuls.append(UsulChange(round(onset, 4), _usul_name(row.text), row.pulses, row.unit))
        elif row.code == _GRACE and row.commas > 0:
            graces.append(row)
        elif row.code not in _CONTROL_CODES and row.milliseconds > 0:
            seconds = row.milliseconds / 1000
            if row.commas > 0:
                grace_seconds = min(_GRACE_SECONDS, seconds / 2 / max(1, len(graces)))
                for number, grace in enumerate(graces):
                    notes.append((onset + number * grace_seconds, grace_seconds, grace))
                taken = len(graces) * grace_seconds
                notes.append((onset + taken, seconds - taken, row))
                graces = []
        onset += seconds
        if onset > _MAX_SECONDS:
            raise TalimError(f"{path}: is longer than {_MAX_SECONDS / 3600:.0f} hours at line {line}; no score is")
    if not notes:
        raise TalimError(f"{path}: holds no note")
    karar = notes[-1][2].commas
    return SymbolicScore(
        notes=tuple(_note(*note, karar) for note in notes),
        usuls=tuple(usuls),
        sections=_sections(notes),
        karar_hz=_A4_HZ * 2 ** ((karar - _A4_COMMAS) / 53),
        seconds=round(onset, 4),
        tempo_bpm=_tempo_bpm([row for _, _, row in notes]),
    )


def _score_row(path: Path, line: int, cells: Mapping[str, str], column: str) -> _ScoreRow:
    """A row's fields; TalimError, naming the row and the field, for what is no number or no possible one."""
    columns = {"code": "Kod", "commas": column, "milliseconds": "Ms", "pulses": "Pay", "unit": "Payda", "length": "LNS",
               "velocity": "Bas"}  # fmt: skip
    defaults = {"length": "95", "velocity": "96"}
    values: dict[str, float] = {}
    for name, written in columns.items():
        text = (cells.get(written) or "").strip() or defaults.get(name, "")
        low, high = _BOUNDS[name]
        try:
            value = float(text)
        except ValueError:
            raise TalimError(f"{path}: line {line} is no SymbTr row ({written} is {text[:40]!r})") from None
        whole = name == "milliseconds" or value.is_integer()
        if not (math.isfinite(value) and low <= value <= high and whole):
            raise TalimError(f"{path}: line {line} is no SymbTr row ({written} is {text[:40]!r}, not {low} to {high})")
        values[name] = value if name == "milliseconds" else int(value)
    return _ScoreRow(**values, text=" ".join((cells.get("Soz1") or "").split()))  # pyright: ignore[reportArgumentType]


def _note(onset: float, seconds: float, row: _ScoreRow, karar: int) -> ScoreNote:
    return ScoreNote(
        onset_seconds=round(onset, 4),
        seconds=round(seconds, 4),
        sounding_fraction=min(1.0, max(0.05, row.length / 100)),
        cents=(row.commas - karar) * COMMA_CENTS,
        velocity=min(1.0, row.velocity / 127),
        label=row.text,
        grace=row.code == _GRACE,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = decode_text(read_inside(path.parent, path)).text
        return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    except (ValueError, csv.Error) as error:
        raise TalimError(f"{path}: cannot be read as a table: {error}") from error


def _is_score(path: Path) -> bool:
    try:
        if not path.is_file():  # opening a pipe may never return
            return False
        with path.open("rb") as file:
            head = file.readline(400).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return tuple(head.strip().split("\t")[: len(_HEADER)]) == _HEADER


def _usul_name(text: str) -> str:
    return re.sub(r"\s*\([^)]*\)", "", text or "").strip()


def _sections(notes: list[tuple[float, float, _ScoreRow]]) -> tuple[tuple[float, str], ...]:
    """Onsets and names of sections: labels in capitals; an instrumental ARANAĞME ends at the next sung syllable."""
    sections: list[tuple[float, str]] = []
    for onset, _, row in notes:
        label = row.text
        if label.isupper() and sum(letter.isalpha() for letter in label) >= 3:
            sections.append((round(onset, 4), label))
        elif sections and sections[-1][1].startswith(("ARANAĞME", "SAZ")) and label not in ("", "."):
            sections.append((round(onset, 4), ""))
    return tuple(sections)


def _tempo_bpm(rows: list[_ScoreRow]) -> float:
    """Quarter notes a minute, from nominal milliseconds and note values."""
    speeds = [
        15000 * 16 * row.pulses / (row.unit * row.milliseconds)
        for row in rows
        if row.unit and row.milliseconds and row.pulses
    ]
    return round(statistics.median(speeds), 1) if speeds else 0.0


def _source_file(name: str, path: Path, cells: MetadataRow, intonation: str) -> SourceFile:
    score = read_score(path, intonation)
    seed = int.from_bytes(hashlib.sha256(path.stem.encode()).digest()[:4], "big")
    instrument = [*INSTRUMENT_FAMILIES][seed % len(INSTRUMENT_FAMILIES)]

    def render() -> Audio:
        return render_score(read_score(path, intonation), instrument, seed)

    row = _row(path, cells, score) | {"instruments": instrument, "intonation": intonation}
    audio = RenderedAudio(path, f"{intonation} {instrument}", render)
    return SourceFile(path, name, audio, row, _annotated_sections(score))


def _row(path: Path, cells: MetadataRow, score: SymbolicScore) -> MetadataRow:
    """The metadata of a score: from a table beside it, else from its file name."""
    makam, form, _, title, composer, *_ = [*path.stem.split("--"), "", "", "", ""]
    row = {
        "makam": cells.get("makam") or makam.replace("_", " ").capitalize(),
        "usul": cells.get("usul") or " | ".join(dict.fromkeys(u.name for u in score.usuls if u.name)),
        "form": cells.get("form") or form.replace("_", " "),
        "title": cells.get("title") or title.replace("_", " "),
        "composer": cells.get("composer") or composer.replace("_", " "),
        "work": cells.get("work_mbid") or cells.get("work") or path.stem,
        "licence": "CC BY-NC-SA 4.0 (SymbTr)",
        "source": "SymbTr score, rendered by talim",
        "consent": "not needed: no person performs",
        "tradition": "makam",
        "tonic_hz": f"{score.karar_hz:.3f}",
        "tempo_bpm": f"{score.tempo_bpm:g}" if score.tempo_bpm else "",
    }
    return {column: text for column, text in (dict(cells) | row).items() if text and text != "?"}


def _annotated_sections(score: SymbolicScore) -> tuple[AnnotatedSection, ...]:
    """Sections with their usul, where the usul changes or sections are named."""
    if len(score.usuls) < 2 and not score.sections:
        return ()
    starts = sorted({0.0, *(usul.onset_seconds for usul in score.usuls), *(at for at, _ in score.sections)})
    sections = []
    for start, stop in zip(starts, [*starts[1:], score.seconds], strict=True):
        usul = next((u.name for u in reversed(score.usuls) if u.onset_seconds <= start), "")
        name = next((name for at, name in reversed(score.sections) if at <= start), "")
        cells = {"usul": usul} if usul else {}
        sections.append(AnnotatedSection(start, stop - start, name.capitalize(), cells))
    return tuple(section for section in sections if section.seconds > 0)
