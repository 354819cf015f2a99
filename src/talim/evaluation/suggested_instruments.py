"""Instruments of recordings that have no labels, from what is written about them; the sound itself is not judged.

A name that stands in the tags, in a caption or a title, in the file's name or in that of a folder is a suggestion, and
where it stands is told with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from talim.audio import AudioError, read_tags
from talim.audio.provenance import generated_by
from talim.corpus.captions import MAX_TEXT_BYTES, TEXT_COLUMNS
from talim.corpus.labels import COLUMNS
from talim.corpus.metadata import read_metadata
from talim.corpus.tables import MetadataRow
from talim.corpus.text_encoding import decode_text
from talim.errors import TalimError
from talim.inside_folder import read_inside
from talim.progress import Progress
from talim.traditions.named_instruments import listed_instruments, named_instruments

TEXT_CELLS = (*TEXT_COLUMNS, "title", "release", "album", "work", "notes", "comment")
LIST_CELLS = COLUMNS["lead"]
TEXT_TAGS = ("title", "subtitle", "album", "description", "synopsis", "comment", "grouping", "genre")
LIST_TAG = re.compile(r"(lead[ _]?)?instrument(s|ation)?$", re.IGNORECASE)
PERFORMER_TAG = re.compile(r"(performer|musician)", re.IGNORECASE)
IN_BRACKETS = re.compile(r"[(\[]([^)\]]+)[)\]]")


@dataclass(frozen=True)
class NamedInstruments:
    """Instruments of one recording: each usual name with the places that name it, the surest place first."""

    places: Mapping[str, Sequence[str]]

    @property
    def names(self) -> str:
        """The names as a cell of metadata.csv."""
        return "|".join(self.places)

    @property
    def origin(self) -> str:
        """Where each was found: "sitar: tag title, file name; tabla: caption"."""
        return "; ".join(f"{name}: {', '.join(places)}" for name, places in self.places.items())


def suggest_instruments(folder: Path, files: Sequence[Path], progress: Progress) -> dict[Path, NamedInstruments]:
    """What is written about each of the recordings in `folder`; none for those whose table has their instruments."""
    names = {file.relative_to(folder).as_posix(): file for file in files}
    folders = sorted({folder, *(parent for file in files for parent in file.parents if folder in parent.parents)})
    rows: Mapping[str, MetadataRow] = {}
    try:
        rows, _ = read_metadata(folder, folders, set(names))
    except TalimError as error:
        progress.log(f"note: no instruments are taken from a table: {error}")
    found = {}
    for name, file in names.items():
        cells = rows.get(name, {})
        if any(cells.get(column) for column in COLUMNS["instruments"]):
            continue
        places: dict[str, list[str]] = {}
        for place, text, finder in _texts(folder, file, cells, progress):
            for instrument in finder(text):
                places.setdefault(instrument, []).append(place)
        if places:
            found[file] = NamedInstruments(places)
    return found


def _texts(
    folder: Path, file: Path, cells: MetadataRow, progress: Progress
) -> Iterator[tuple[str, str, Callable[[str], list[str]]]]:
    """What is written about a recording: the place, the text, and how it is read; the surest first."""
    yield from _tags(file)
    for column in LIST_CELLS:
        yield f"column {column}", cells.get(column, ""), listed_instruments
    for column in TEXT_CELLS:
        yield f"column {column}", cells.get(column, ""), named_instruments
    for path in (file.with_suffix(".txt"), file.with_name(f"{file.name}.txt")):
        if path.is_file():
            try:
                yield (
                    f"text {path.name}",
                    decode_text(read_inside(folder, path, MAX_TEXT_BYTES)).text,
                    named_instruments,
                )
            except (TalimError, ValueError) as error:
                progress.log(f"note: no instruments are taken from {path.name}: {error}")
    yield "file name", file.stem, named_instruments
    for parent in file.parents:
        yield f"folder {parent.name}", parent.name, named_instruments
        if parent == folder:
            return


def _tags(file: Path) -> Iterator[tuple[str, str, Callable[[str], list[str]]]]:
    try:
        tags = read_tags(file)
    except AudioError:
        return  # its sound cannot be read either, which is told elsewhere
    if generated_by(tags):  # its prompt asks for instruments; nobody has played them
        return
    for name, text in tags.items():
        if LIST_TAG.match(name):
            yield f"tag {name}", text, listed_instruments
        elif name.lower() in TEXT_TAGS:
            yield f"tag {name}", text, named_instruments
        elif PERFORMER_TAG.match(name):  # "Ravi Shankar (sitar)"; a name alone is none of an instrument
            yield f"tag {name}", "; ".join(IN_BRACKETS.findall(text)), listed_instruments
