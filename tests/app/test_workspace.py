"""The folder of the app: numbered names, the current run, suggestions."""

from __future__ import annotations

from talim.app.workspace import Workspace


def test_next_name_counts_files_and_folders_of_a_stem(work: Workspace) -> None:
    assert work.next_name("music", ".flac") == "music-1.flac"
    for name in (
        "music-1.flac",
        "music-2.flac",
        "music-9",
        "music-10.flac",
        "music-x.flac",
        "mymusic-40",
        "music-3.flac.tmp",
    ):
        (work.folder / name).touch()
    assert [path.name for path in work.numbered("music")] == [
        "music-1.flac",
        "music-2.flac",
        "music-9",
        "music-10.flac",
    ]
    assert work.next_name("music") == "music-11"


def test_run_is_the_chosen_one_else_the_latest(work: Workspace) -> None:
    assert work.run is None
    for number in (2, 10):
        (work.folder / f"run-{number}").mkdir()
    assert work.run == work.folder / "run-10"
    work.choose(run="run-2")
    assert work.run == work.folder / "run-2"
    work.choose(run="gone")
    assert work.run == work.folder / "run-10"


def test_suggestions_are_those_of_the_latest_table_without_their_prefix(work: Workspace) -> None:
    assert work.suggestions() == {}
    (work.folder / "suggested-1.csv").write_text("file_name,suggested_raga\na.wav,Old\n")
    (work.folder / "suggested-2.csv").write_text(
        "file_name,suggested_raga,suggested_mode_probability\na.wav,Yaman,0.74\nb.wav,,\n"
    )
    assert work.suggestions() == {"a.wav": {"raga": "Yaman", "mode_probability": "0.74"}, "b.wav": {}}
