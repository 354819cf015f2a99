"""The folder of the app: recordings, corpus, runs and pieces where the commands have them, and the app's own files."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from talim.atomic_io import finished_path, read_json, unfinished_files, write_json, write_text
from talim.audio.read import is_audio_name, list_audio_files
from talim.corpus.metadata import SUGGESTION_PREFIX
from talim.corpus.tables import read_table
from talim.errors import TalimError, UsageError
from talim.inside_folder import resolve_inside

MAX_FILE_BYTES = 4_000_000_000
MAX_NAME_BYTES = 180
METADATA = "metadata.csv"
OWN = ".talim-app"
UPLOADS = ("recordings", "phrases")
COLUMNS = ("text", "instruments", "performer", "licence")  # that everybody is asked for
_NO_NAME = re.compile(r"[\x00-\x1f\x7f/\\:]")


class Workspace:
    """Paths and small files of the app's folder, which is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file; give the folder in which the app shall work")
        known = (folder / OWN).is_dir()  # where pieces lie that it made
        if folder.is_dir() and not known and any(is_audio_name(path) for path in folder.iterdir()):
            raise UsageError(
                f"{folder} holds recordings; give another folder, in which the app shall work, and drop the recordings "
                "onto its first page"
            )
        self.folder = folder.resolve()
        self.recordings, self.corpus = self.folder / "recordings", self.folder / "corpus"
        self.own = self.folder / OWN
        self.recordings.mkdir(parents=True, exist_ok=True)
        self.own.mkdir(mode=0o700, exist_ok=True)  # outputs of commands may hold links of reviewers
        self.token = self._token()
        self._files_key = hmac.new(self.token.encode(), b"files", hashlib.sha256).hexdigest()[:32]

    def _token(self) -> str:
        """The secret of the app's address, which stays the same when the server is started again."""
        path = self.own / "token"
        if not path.is_file():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text(encoding="ascii").strip()

    @property
    def choices(self) -> dict[str, Any]:
        """What was chosen on the pages: base, design, run and the like."""
        path = self.own / "choices.json"
        return read_json(path) if path.is_file() else {}

    def choose(self, **values: Any) -> None:
        """Remember choices; None forgets one."""
        chosen = {key: value for key, value in (self.choices | values).items() if value is not None}
        write_json(self.own / "choices.json", chosen)

    def numbered(self, stem: str) -> list[Path]:
        """Files and folders STEM-1, STEM-2 and so on, with or without a suffix, in the order of their numbers."""
        found = ((re.fullmatch(rf"{stem}-(\d{{1,6}})(\.\w+)?", path.name), path) for path in self.folder.iterdir())
        return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]

    def next_name(self, stem: str, suffix: str = "") -> str:
        """The name of the next one."""
        last = self.numbered(stem)
        number = int(re.sub(r"\D", "", last[-1].name.rpartition(".")[0] or last[-1].name)) if last else 0
        return f"{stem}-{number + 1}{suffix}"

    @property
    def summary(self) -> Path:
        """The file that a prepared corpus has."""
        return self.corpus / "summary.json"

    @property
    def run(self) -> Path | None:
        """The run that the pages are about: the chosen one, else the latest."""
        runs = [path for path in self.numbered("run") if path.is_dir()]
        return next((path for path in runs if path.name == self.choices.get("run")), runs[-1] if runs else None)

    # Files in the browser

    def address(self, path: Path) -> str:
        """Where the browser finds a file of the folder; nobody can guess it who does not know the token.

        One that is not finished has the address that it will have, with `begun`.
        """
        final = finished_path(path)
        query = f"?begun={path.suffixes[-2][1:]}" if final else ""
        return f"/files/{self._files_key}/{quote((final or path).relative_to(self.folder).as_posix())}{query}"

    def served_file(self, key: str, name: str, begun: str = "") -> Path | None:
        """The file of such an address, as far as it is written where it is only `begun`.

        None where there is none, it is hidden, or the address is wrong.
        """
        if not hmac.compare_digest(key.encode(), self._files_key.encode()):
            return None
        try:
            path = resolve_inside(self.folder, name)
        except TalimError:
            return None
        hidden = any(part.startswith(".") for part in path.relative_to(self.folder).parts)
        if hidden:
            return None
        for part in unfinished_files(path) if begun else ():
            if part.name.endswith(f".{begun}.part") and not part.is_symlink():
                return part
        return path if path.is_file() else None

    # Uploads

    def receive(self, kind: str, name: str, total: int, offset: int, chunk: bytes) -> int:
        """Append a chunk at `offset` of a file of `total` bytes and return the bytes that are here now.

        With another offset nothing is written, so that whoever sends goes on from what is returned. The last chunk puts
        the file into its folder. UsageError for a name that is none, or that is taken, and for too many bytes.
        """
        self._check_upload(kind, name, total)
        target = self.folder / kind / name
        if target.exists():
            raise UsageError("exists")
        part = self.own / "uploads" / hashlib.sha256(f"{kind}/{name}/{total}".encode()).hexdigest()[:32]
        part.parent.mkdir(exist_ok=True)
        with open(part, "ab") as file:
            have = file.tell()
            if have == offset and have + len(chunk) <= total:
                file.write(chunk)
                have += len(chunk)
        if have == total:
            target.parent.mkdir(exist_ok=True)
            part.replace(target)
        return have

    def _check_upload(self, kind: str, name: str, total: int) -> None:
        if kind not in UPLOADS or PurePath(name).name != name or name.startswith(".") or _NO_NAME.search(name):
            raise UsageError("bad_name")
        if len(name.encode()) > MAX_NAME_BYTES:
            raise UsageError("long_name")
        if not is_audio_name(name) and not (kind == "recordings" and name == METADATA):
            raise UsageError("no_audio")
        if total <= 0:
            raise UsageError("empty")
        if total > MAX_FILE_BYTES:
            raise UsageError("too_large")

    def set_aside(self, name: str) -> None:
        """Move a recording to the folder set-aside; UsageError where there is none."""
        path = self.recordings / name
        if PurePath(name).name != name or not path.is_file():
            raise UsageError("not_found")
        aside = self.folder / "set-aside"
        aside.mkdir(exist_ok=True)
        path.replace(aside / name)

    # The table of recordings

    def files(self, kind: str) -> list[str]:
        """Names of the audio files of a folder, relative to it."""
        folder = self.folder / kind
        return [path.relative_to(folder).as_posix() for path in list_audio_files(folder)] if folder.is_dir() else []

    def table(self) -> dict[str, dict[str, str]]:
        """The cells of metadata.csv by file name; TalimError for a table that cannot be read."""
        path = self.recordings / METADATA
        rows = read_table(path).rows if path.is_file() else []
        return {cells["file_name"]: {c: v for c, v in cells.items() if c != "file_name"} for _, cells in rows}

    def write_table(self, changed: Mapping[str, Mapping[str, str]]) -> None:
        """Write metadata.csv with changed cells; rows and columns that nobody changed stay as they are."""
        rows = self.table()
        for name, cells in changed.items():
            merged = rows.get(name, {}) | {column: " ".join(value.split()) for column, value in cells.items()}
            rows[name] = {column: value for column, value in merged.items() if value}
        columns = list(dict.fromkeys(["file_name", *COLUMNS, *(column for cells in rows.values() for column in cells)]))
        text = io.StringIO()
        table = csv.DictWriter(text, columns, restval="")
        table.writeheader()
        table.writerows({"file_name": name, **cells} for name, cells in rows.items())
        write_text(self.recordings / METADATA, text.getvalue())

    def suggestions(self) -> dict[str, dict[str, str]]:
        """The cells of the latest table of `talim modes --suggest`, by file name, without their prefix."""
        tables = self.numbered("suggested")
        rows: Sequence[tuple[int, dict[str, str]]] = read_table(tables[-1]).rows if tables else ()
        return {
            cells["file_name"]: {
                column.removeprefix(SUGGESTION_PREFIX): value
                for column, value in cells.items()
                if column.startswith(SUGGESTION_PREFIX)
            }
            for _, cells in rows
        }
