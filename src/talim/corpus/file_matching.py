"""Which recording a file name in a table means: the same name, else the only one that people may have meant by it."""

from __future__ import annotations

import difflib
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from talim.audio import is_audio_name
from talim.corpus.recordings import normalize_path

_MAX_COMPARED = 2000  # names; looking for similar ones among more takes too long


@dataclass(frozen=True)
class FileMatch:
    """The recording that a name means, "" where none or several do; `exact` if it is the very same path."""

    name: str = ""
    exact: bool = False
    candidates: tuple[str, ...] = ()  # several recordings that the name may mean
    nearest: str = ""  # the most similar name, where nothing matches


@dataclass
class FileMatcher:
    """Finds recordings by names as people write them, relative to a table's folder.

    In this order: the path itself; in other letters (case, full-width, composed or not, %20); the end of a full path;
    without folders; without the ending. Each only where a single recording fits.
    """

    names: Collection[str]  # normalised paths of the recordings, relative to the source
    _tables: list[dict[str, list[str]]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._tables = [defaultdict(list) for _ in range(4)]
        for name in sorted(self.names):
            for table, key in zip(self._tables, _keys(_fold(name)), strict=True):
                table[key].append(name)

    def match(self, text: str, base: str = "") -> FileMatch:
        """The recording that `text` means in a table that lies in the folder `base`."""
        for path in _spellings(text):
            whole = normalize_path(posixpath.normpath(f"{base}/{path}" if base else path))
            if whole in self.names:
                return FileMatch(whole, exact=True)
        for path in _spellings(text):
            if match := self._match_folded(_fold(path), _fold(base)):
                return match
        wanted = _fold(next(_spellings(text)))
        stem = wanted.rpartition(".")[0] if is_audio_name(wanted) else wanted
        near = difflib.get_close_matches(stem, self._tables[1], 1, 0.75) if len(self.names) <= _MAX_COMPARED else []
        return FileMatch(nearest=self._tables[1][near[0]][0] if near else "")

    def _match_folded(self, path: str, base: str) -> FileMatch | None:
        whole, bare, tail, stem = self._tables
        relative = posixpath.normpath(posixpath.join(base, path)) if base else path
        wanted = path.rpartition("/")[2]
        shorter = wanted.rpartition(".")[0] if is_audio_name(wanted) else ""
        looked_up = [
            (whole, relative),
            (bare, relative),
            (whole, path),
            (tail, wanted),
            (stem, wanted),
            (stem, shorter),
        ]
        for table, key in looked_up:
            found = table.get(key, []) if key else []
            if len(found) > 1:
                found = _best_ending(found, path, base)
            if len(found) == 1:
                return FileMatch(found[0])
            if found:
                return FileMatch(candidates=tuple(found))
        return None


def _keys(folded: str) -> tuple[str, str, str, str]:
    """Whole path, path without the ending, name, name without the ending."""
    last = folded.rpartition("/")[2]
    return folded, folded.rpartition(".")[0], last, last.rpartition(".")[0]


def _best_ending(found: list[str], path: str, base: str) -> list[str]:
    """Of several, those that share the most folders with the path; then those below the table's folder."""
    wanted = path.split("/")[:-1]

    def shared(name: str) -> int:
        folders = _fold(name).split("/")[:-1]
        pairs = zip(reversed(folders), reversed(wanted), strict=False)
        return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(folders), len(wanted)))

    most = max(map(shared, found))
    best = [name for name in found if shared(name) == most]
    below = [name for name in best if base and _fold(name).startswith(f"{base}/")]
    return below or best


def _spellings(text: str) -> Iterator[str]:
    """The path as it is written, then as an address or with %20 it would be meant."""
    path = text.strip().replace("\\", "/")
    yield path
    address = re.sub(r"^file:/{2,3}", "/", path, flags=re.IGNORECASE)
    if address != path or "%" in path:
        yield unquote(address)
    if (quoted := path.strip("'\"“”‘’<>")) != path:
        yield quoted


def _fold(path: str) -> str:
    """A path for comparison: no case, one form of each letter, single blanks, no drive, no leading ./ or /."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())
    text = text.replace("i\u0307", "i").replace("ı", "i")
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")  # marks of direction and the like
    parts = [" ".join(part.split()) for part in re.sub(r"^[a-z]:", "", text).split("/")]
    return "/".join(part for part in parts if part not in ("", "."))
