"""Recordings that may not be used for what is planned are left out, by name and reason, before they are decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from talim.corpus.importers.folder import find
from talim.corpus.prepare import prepare
from talim.corpus.rights import usable
from talim.errors import TalimError, UsageError


def licensed(folder: Path, make_recordings: Any, *licences: str) -> Path:
    make_recordings(folder, count=len(licences), seconds=3.0)
    rows = [f"take-{n}.wav,{text},p{n}" for n, text in enumerate(licences)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,licence,performer", *rows]) + "\n")
    return folder


def test_what_forbids_it_and_what_nobody_knows_is_left_out(tmp_path: Path, make_recordings: Any) -> None:
    takes = licensed(tmp_path / "takes", make_recordings, "CC0-1.0", "CC BY-NC 4.0", "", "CC BY 4.0")
    found = find(takes, tmp_path / "out")
    kept = usable(found, {}, "commercial")
    assert [file.name for file in kept.files] == ["take-0.wav", "take-3.wav"]
    assert {row["file"]: row["reason"] for row in kept.left_out} == {
        "take-1.wav": "its licence (CC BY-NC 4.0) forbids commercial use",
        "take-2.wav": "its licence (unknown) is not known to allow commercial use",
    }
    assert usable(found, {}) is found
    typed = usable(found, {"take-2.wav": {"licence": "CC0-1.0"}}, "commercial")  # the corpus's own table wins
    assert len(typed.files) == 3
    with pytest.raises(UsageError, match="--use 'selling'"):
        usable(found, {}, "selling")


def test_nothing_left_says_where_to_write_a_licence(tmp_path: Path, make_recordings: Any) -> None:
    takes = licensed(tmp_path / "takes", make_recordings, "", "unknown")
    with pytest.raises(
        TalimError, match=r"none of 2 recordings may be used commercially .* columns file_name"
    ):
        prepare(takes, tmp_path / "out", use="commercial")
    assert not (tmp_path / "out").exists()


def test_a_corpus_for_commercial_use_holds_no_other_clip(tmp_path: Path, make_recordings: Any) -> None:
    takes = licensed(tmp_path / "takes", make_recordings, "CC0-1.0", "CC BY 4.0", "CC BY-NC 4.0")
    corpus = prepare(takes, tmp_path / "out", clip_seconds=2.0, use="commercial")
    assert {clip.licence for clip in corpus.clips} == {"CC0-1.0", "CC BY 4.0"}
    assert [row["file"] for row in corpus.summary["skipped"]] == ["take-2.wav"]
    again = prepare(takes, tmp_path / "out", clip_seconds=2.0)
    assert len({clip.licence for clip in again.clips}) == 3
