"""Every kind of source in one table, and the choice among them; a new kind is a row."""

from __future__ import annotations

import difflib
from pathlib import Path

from talim.corpus.importers import folder, hub, loaders, otmm, symbtr
from talim.corpus.importers.contract import Importer, Request, Sounding
from talim.corpus.recordings import Found
from talim.errors import UsageError

# In the order in which a source is tried; the last one takes what no other knows.
IMPORTERS = (
    Importer("otmm", "OTMM metadata, joined with your own files", otmm.recognises, otmm.find),
    Importer("symbtr", "SymbTr scores, rendered (symbtr:theory for KomaAE)", symbtr.recognises, symbtr.find),
    Importer("huggingface", "a Hugging Face data set: parquet, arrow or Hub id", hub.recognises, hub.find),
    Importer("mirdata", "a mirdata loader: mirdata:saraga_hindustani", lambda path: False, loaders.find),
    Importer(
        "folder",
        "your own folder of recordings",
        Path.is_dir,
        lambda request: folder.find(request.path, request.out),
    ),
)


def find(source: str, out: Path, kind: str | None = None, sounding: Sounding | None = None) -> Found:
    """The recordings of a source: of the kind that is named (KIND or KIND:DETAIL), else of the one it looks like.

    Raises UsageError for an unknown kind and for a source that is none.
    """
    name, _, detail = (kind or "").partition(":")
    request = Request(source, out, detail, sounding)
    if name:
        return _named(name).find(request)
    for importer in IMPORTERS:
        if importer.recognises(request.path):
            return importer.find(request)
    return folder.find(request.path, out)


def _named(name: str) -> Importer:
    kinds = {importer.kind: importer for importer in IMPORTERS}
    if name not in kinds:
        near = difflib.get_close_matches(name, kinds, 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"unknown kind of source {name!r}{hint} Choose one of: {', '.join(kinds)}")
    return kinds[name]
