"""Every kind of source in one table, and the choice among them; a new kind is a row."""

from __future__ import annotations

import difflib
from pathlib import Path

from talim.corpus.importers import folder, huggingface, mirdata, otmm, symbtr
from talim.corpus.importers.protocol import Importer, ImportRequest, ScoreRenderer
from talim.corpus.recordings import ImportResult
from talim.errors import UsageError

# In the order in which a source is tried; the last one takes what no other knows.
IMPORTERS = (
    Importer("otmm", "OTMM metadata, joined with your own files", otmm.matches, otmm.list_recordings),
    Importer(
        "symbtr", "SymbTr scores, rendered (symbtr:theory for KomaAE)", symbtr.matches, symbtr.list_recordings
    ),
    Importer(
        "huggingface",
        "a Hugging Face data set: parquet, arrow or Hub id",
        huggingface.matches,
        huggingface.list_recordings,
    ),
    Importer(
        "mirdata", "a mirdata loader: mirdata:saraga_hindustani", lambda path: False, mirdata.list_recordings
    ),
    Importer(
        "folder",
        "your own folder of recordings",
        Path.is_dir,
        lambda request: folder.list_recordings(request.path, request.out),
    ),
)


def list_recordings(
    source: str, out: Path, kind: str | None = None, sounding: ScoreRenderer | None = None
) -> ImportResult:
    """The recordings of a source: of the kind that is named (KIND or KIND:DETAIL), else of the one it looks like.

    Raises UsageError for an unknown kind and for a source that is none.
    """
    name, _, detail = (kind or "").partition(":")
    request = ImportRequest(source, out, detail, sounding)
    if name:
        return _importer_by_name(name).find(request)
    for importer in IMPORTERS:
        if importer.recognises(request.path):
            return importer.find(request)
    return folder.list_recordings(request.path, out)


def _importer_by_name(name: str) -> Importer:
    kinds = {importer.kind: importer for importer in IMPORTERS}
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"unknown kind of source {name!r}{hint} Choose one of: {', '.join(kinds)}")
    return kinds[name]
