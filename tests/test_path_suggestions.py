"""Near paths: what a mistyped path was probably meant to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.path_suggestions import did_you_mean


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("recordings/Raga Yaman", "my-run/adapter", ".hidden", "Ålesund", "録音"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("brief.yaml", "recordings/yaman.flac", "recordings/metadata.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("recordngs", "recordings"),
        ("recordngs/", "recordings"),
        ("./recordingss", "recordings"),
        ("Recordings", "recordings"),
        ("my_run", "my-run"),
        ("my run/adaptor", "my-run/adapter"),
        ("recordings/raga-yaman", "recordings/Raga Yaman"),
        ("recodings/yamn.flac", "recordings/yaman.flac"),
        ("recordings/yaman.wav", "recordings/yaman.flac"),
        ("recordings/yaman", "recordings/yaman.flac"),
        ("brief", "brief.yaml"),
        ("brief.yml", "brief.yaml"),
        ("alesund", "Ålesund"),
        (".hiden", ".hidden"),
        ("録音s", "録音"),
        ("my-run/../recordngs", "my-run/../recordings"),
    ],
)
def test_did_you_mean_names_what_is_near(here: Path, typed: str, meant: str) -> None:
    assert did_you_mean(Path(typed)) == f"; did you mean {meant}?"
    assert did_you_mean(here / typed) == f"; did you mean {here / meant}?"


@pytest.mark.parametrize(
    "typed", ["recordings", "xyz", "hidden", "recordings/gone.mp3", "recordings/yaman.flac/x", "a\0b", "x" * 300, ""]
)
def test_did_you_mean_of_other_paths_is_nothing(here: Path, typed: str) -> None:
    assert did_you_mean(Path(typed)) == ""


def test_did_you_mean_below_a_folder_that_cannot_be_listed_is_nothing(here: Path, monkeypatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.scandir", forbidden)
    assert did_you_mean(Path("recordngs")) == ""
