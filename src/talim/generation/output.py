"""Where generated pieces go: a file or a numbered folder with a manifest; nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from talim.atomic_io import FileTakenError, append_jsonl, check_writable, read_jsonl, unfinished_files, write_jsonl
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.progress import Progress
from talim.run import Run

if TYPE_CHECKING:
    from talim.audio import AudioStream

SUFFIXES = (".flac", ".wav", ".mp3")
MANIFEST = "manifest.jsonl"
UNFINISHED = re.compile(r"\.(\d{4,}\.flac|manifest\.jsonl)\.[0-9a-f]{8}\.part")
REPORTED_FIELDS = ("prompt", "seed", "seconds", "base", "adapter")  # of a piece that is in the way


def choose_output(out: Path, count: int) -> PieceFile | PieceFolder:
    """The output for `count` pieces: a .flac, .wav or .mp3 file, or a folder; UsageError or TalimError for others."""
    is_folder = count > 1 or out.is_dir()
    if is_folder and out.suffix.lower() in (*SUFFIXES, ".ogg") and not out.is_dir():
        raise UsageError(f"--out {out}: {format_counted(count, 'piece')} need a folder; give a name without a suffix")
    if not is_folder and out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out}: expected a file name that ends in .flac, .wav or .mp3, or a folder that exists")
    check_writable(out / MANIFEST if is_folder else out)
    return PieceFolder(out) if is_folder else PieceFile(out)


class PieceFile:
    """One file for one piece. A file that is there is kept: used where the request is the same, else refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._there: dict[str, Any] | None = None

    @contextlib.contextmanager
    def opened(self, progress: Progress, keys: Sequence[str]) -> Iterator[None]:
        """UsageError if the file holds anything but the piece that is asked for."""
        if self.path.exists():
            self._there = piece_row(self.path)
            if self._there is None or self._there.get("request") != keys[0]:
                raise self._taken()
        for part in unfinished_files(self.path):
            progress.log(
                f"note: {part} is the beginning of this file, from a process that was killed or is still writing: it "
                "is left as it is, and the piece is made anew; delete it if no other talim generate is running"
            )
        yield

    def take(self, key: str, base_fingerprint: str) -> dict[str, Any] | None:
        """The finished piece's row; None if there is none; UsageError if other weights made it."""
        if self._there is None:
            return None
        if self._there.get("base_fingerprint") != base_fingerprint:
            raise self._taken()
        return self._there | {"file": str(self.path)}

    def add(self, piece: AudioStream, begun: Callable[[Path], None] | None = None) -> dict[str, Any]:
        """Write the piece; returns its row. `begun` is told the unfinished file's name."""
        try:
            piece.save(self.path, overwrite=False, begun=begun)
        except FileTakenError:  # made by another process in the meantime
            raise self._taken() from None
        return _written_row(self.path, piece) | {"file": str(self.path)}

    def _taken(self) -> UsageError:
        made = "it was not made by talim"
        if there := self._there or piece_row(self.path):
            facts = ", ".join(f"{name} {there[name]!r}" for name in REPORTED_FIELDS if name in there)
            made = f"it was made from another request ({facts[:300]})"
        return UsageError(
            f"{self.path}: is there already, and {made}; it is not overwritten. Choose another --out, or the name "
            "of an existing folder, where pieces are numbered on"
        )


class PieceFolder:
    """A folder of pieces 0001.flac, 0002.flac, ...: new ones are numbered on; manifest.jsonl has a line for each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, folder / MANIFEST
        self._unused: list[dict[str, Any]] = []
        self._number = 0

    @contextlib.contextmanager
    def opened(self, progress: Progress, keys: Sequence[str]) -> Iterator[None]:
        """Lock the folder and read what is in it; pieces that a kill kept from the manifest are added to it."""
        with Run(self.folder).lock():
            rows = read_jsonl(self.manifest) if self.manifest.is_file() else []
            named = {self._name(number, row) for number, row in enumerate(rows, start=1)}
            self._remove_unfinished(progress)
            files = sorted(path for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES)
            found = [row for path in files if path.name not in named and (row := piece_row(path)) is not None]
            if found:
                progress.log(f"{', '.join(row['file'] for row in found)[:500]}: added to {self.manifest}")
                rows += found
                write_jsonl(self.manifest, rows)
            self._unused = [row for row in rows if (self.folder / row["file"]).is_file()]
            stems = {PurePath(name).stem for name in [*named, *(path.name for path in files)]}
            self._number = max((int(stem) for stem in stems if stem.isascii() and stem.isdigit()), default=0)
            yield

    def _remove_unfinished(self, progress: Progress) -> None:
        """Remove what a kill left of pieces that were being written; the lock keeps other writers away."""
        for path in self.folder.iterdir():
            if UNFINISHED.fullmatch(path.name):
                path.unlink()
                progress.log(f"{path.name}: removed; it is the beginning of a file whose writing was ended by a kill")

    def take(self, key: str, base_fingerprint: str) -> dict[str, Any] | None:
        """The row of a finished piece of this request, each row once; None if there is none."""
        for row in self._unused:
            if (row.get("request"), row.get("base_fingerprint")) == (key, base_fingerprint):
                self._unused.remove(row)
                return row | {"file": str(self.folder / row["file"])}
        return None

    def add(self, piece: AudioStream, begun: Callable[[Path], None] | None = None) -> dict[str, Any]:
        """Write the piece under the next number, then its line; returns its row. `begun` as for a file."""
        self._number += 1
        path = self.folder / f"{self._number:04d}.flac"
        piece.save(path, begun=begun)
        row = _written_row(path, piece)
        append_jsonl(self.manifest, row)
        return row | {"file": str(path)}

    def _name(self, number: int, row: Any) -> str:
        """The file that a line names; TalimError where it is none of this folder."""
        name = row.get("file") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name or PurePath(name).name != name or "\\" in name:
            raise TalimError(
                f"{self.manifest}: line {number} names no file of this folder ({str(name)[:100]!r}); the manifest was "
                "edited or is not talim's: choose another --out, or move it away"
            )
        return name


def piece_row(path: Path) -> dict[str, Any] | None:
    """The manifest's row of a file that talim generated, from its tags; None for any other file."""
    import soundfile

    from talim import audio

    if path.is_symlink() or not path.is_file():
        return None
    try:
        tags = audio.read_tags(path)
        if not tags.get("software", "").startswith("talim") or not tags.get("seed", "").isdecimal():
            return None
        return _row(path, soundfile.info(str(path)).duration, tags)
    except (audio.AudioError, soundfile.SoundFileError, ValueError, RecursionError):
        return None


def _written_row(path: Path, piece: AudioStream) -> dict[str, Any]:
    import soundfile

    return _row(path, soundfile.info(str(path)).duration, piece.tags)


def _row(path: Path, seconds: float, tags: Mapping[str, str]) -> dict[str, Any]:
    return {"file": path.name, "seconds": round(seconds, 3), **tags, "seed": int(tags["seed"])}
