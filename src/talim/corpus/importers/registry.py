"""All source formats in one table, and the choice among them; a new format is a row."""

from __future__ import annotations

import difflib
from pathlib import Path

from talim.corpus.importers import folder, huggingface, mirdata, otmm, symbtr
from talim.corpus.importers.protocol import Importer, ImportRequest
from talim.corpus.recordings import ImportResult
from talim.errors import UsageError

# Tried in this order; the last one takes any folder.
IMPORTERS = (
    Importer("otmm", "OTMM metadata, joined with your own files", otmm.matches, otmm.list_recordings),
    Importer("symbtr", "SymbTr scores, rendered (symbtr:theory for KomaAE)", symbtr.matches, symbtr.list_recordings),
    Importer("huggingface", "a Hugging Face data set: parquet, arrow or Hub id", huggingface.matches,
             huggingface.list_recordings),
    Importer("mirdata", "a mirdata loader: mirdata:saraga_hindustani", lambda path: False, mirdata.list_recordings),
    Importer("folder", "your own folder of recordings", Path.is_dir,
             lambda request: folder.list_recordings(request.path, request.out)),
)  # fmt: skip


def list_recordings(source: str, out: Path, format: str | None = None) -> ImportResult:
    """The recordings of a source in the given FORMAT or FORMAT:DETAIL, else in the first format that matches.

    Raises UsageError for an unknown format, TalimError for a source that does not exist.
    """
    name, _, detail = (format or "").partition(":")
    request = ImportRequest(source, out, detail)
    importers = {importer.format: importer for importer in IMPORTERS}
    if not name:
        importer = next((importer for importer in IMPORTERS if importer.matches(request.path)), importers["folder"])
    elif name in importers:
        importer = importers[name]
    else:
        near = difflib.get_close_matches(name, importers, 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"unknown source format {name!r}{hint} Choose one of: {', '.join(importers)}")
    return importer.list_recordings(request)
