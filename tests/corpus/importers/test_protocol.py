"""What importers are given, and recordings found by the MusicBrainz id in their name or folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from talim.corpus.importers.protocol import MBID, ImportRequest, audio_by_mbid

FIRST, SECOND = "0a1b2c3d-1111-2222-3333-444455556666", "FFFFFFFF-1111-2222-3333-444455556666"


def test_import_request_path_is_the_source() -> None:
    assert ImportRequest("a/b", Path("out")).path == Path("a/b")


def test_mbid_is_found_within_a_name() -> None:
    found = MBID.search(f"12 - {SECOND}.mp3")
    assert found is not None
    assert found.group() == SECOND
    assert not MBID.search("0a1b2c3d-1111-2222-3333")


def test_audio_by_mbid_takes_the_id_of_the_file_then_of_its_folder(folder: Path, out: Path) -> None:
    (folder / SECOND).mkdir()
    names = (
        f"{FIRST}.mp3",
        f"{SECOND}/take.wav",
        f"{SECOND}/{FIRST} two.flac",
        "other.wav",
        f"{FIRST}.txt",
        f".{FIRST}.mp3",
    )
    for name in names:
        (folder / name).write_bytes(b"x")
    skipped: list[dict[str, str]] = []
    found = audio_by_mbid(folder, out, skipped)
    assert found == {
        FIRST: [folder / f"{FIRST}.mp3", folder / SECOND / f"{FIRST} two.flac"],
        SECOND.lower(): [folder / SECOND / "take.wav"],
    }
    assert skipped == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
def test_audio_by_mbid_names_folders_that_cannot_be_read(folder: Path, out: Path) -> None:
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0)
    skipped: list[dict[str, str]] = []
    try:
        assert audio_by_mbid(folder, out, skipped) == {}
    finally:
        (folder / "locked").chmod(0o755)
    assert skipped[0]["file"] == "locked"
