"""Which recordings may be used for what is planned, by their licences, before any of them is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from talim.corpus.captions import describe_file
from talim.corpus.recordings import Found, SourceFile
from talim.errors import TalimError, UsageError
from talim.licences import against

USES = ("any", "commercial")


def usable(found: Found, edited: Mapping[str, Mapping[str, str]], use: str = "any") -> Found:
    """The source without the recordings whose licence does not allow the use; they and why are in `left_out`.

    `edited` are the corpus's own rows by name, which win over the source's. UsageError for an unknown use, TalimError
    where nothing remains.
    """
    if use not in USES:
        raise UsageError(f"--use {use!r} is not known; choose one of {', '.join(USES)}")
    if use == "any":
        return found
    kept, refused = [], []
    for file in found.files:
        why = against(_licence(file, edited))
        if why:
            refused.append({"file": file.name, "reason": why})
        else:
            kept.append(file)
    if not kept:
        first = f"{refused[0]['file']}: {refused[0]['reason']}" if refused else "there is none"
        raise TalimError(
            f"{found.place}: none of {len(found.files)} recordings may be used commercially ({first}); write what you "
            "know into its metadata.csv, columns file_name and licence, such as CC BY 4.0"
        )
    return replace(found, files=tuple(kept), left_out=(*found.left_out, *refused))


def _licence(file: SourceFile, edited: Mapping[str, Mapping[str, str]]) -> str:
    try:
        return describe_file(file, edited.get(file.name, {}), None).licence
    except TalimError:  # its words cannot be read: whoever prepares it says so, and its rights are not known
        return "unknown"
