"""Names in tables as people write them, and the recordings that they mean."""

from __future__ import annotations

import unicodedata

import pytest

from talim.corpus.file_matching import FileMatch, FileMatcher

NAMES = frozenset({
    "yaman.m4a", "Bhupali at the temple.mp3", "deep/Kırık Hava.wav", "deep/take.wav", "other/take.wav", "both.wav",
    "both.mp3", "1.wav", "çargâh.wav", "İstanbul.wav", "録音 一.wav", "a.b.wav",
})  # fmt: skip


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Yaman.M4A", "yaman.m4a"),
        ("yaman", "yaman.m4a"),
        ("yaman.wav", "yaman.m4a"),
        ("./yaman.m4a", "yaman.m4a"),
        (" yaman.m4a ", "yaman.m4a"),
        ("'yaman.m4a'", "yaman.m4a"),
        (r"C:\Users\Meera\Music\yaman.m4a", "yaman.m4a"),
        ("/Volumes/Takes/YAMAN.m4a", "yaman.m4a"),
        ("file:///media/takes/yaman.m4a", "yaman.m4a"),
        ("Bhupali%20at%20the%20temple.mp3", "Bhupali at the temple.mp3"),
        ("bhupali  at the\u00a0temple", "Bhupali at the temple.mp3"),
        ("kirik hava.wav", "deep/Kırık Hava.wav"),
        ("DEEP/KIRIK HAVA.WAV", "deep/Kırık Hava.wav"),
        ("istanbul", "İstanbul.wav"),
        ("ISTANBUL.WAV", "İstanbul.wav"),
        (unicodedata.normalize("NFD", "Çargâh.WAV"), "çargâh.wav"),
        ("ｙａｍａｎ．ｍ４ａ", "yaman.m4a"),
        ("録音\u3000一.wav", "録音 一.wav"),
        ("1", "1.wav"),
        ("a.b", "a.b.wav"),
        ("other\\take", "other/take.wav"),
        ("x/y/other/take.wav", "other/take.wav"),
    ],
)
def test_match_finds_the_only_recording_that_is_meant(written: str, name: str) -> None:
    assert FileMatcher(NAMES).match(written).name == name


def test_match_of_the_very_name_is_exact() -> None:
    matcher = FileMatcher(NAMES)
    assert matcher.match("yaman.m4a") == FileMatch("yaman.m4a", exact=True)
    assert matcher.match(unicodedata.normalize("NFD", "çargâh.wav")).exact
    assert matcher.match("take.wav", "deep") == FileMatch("deep/take.wav", exact=True)
    assert matcher.match("../both.mp3", "deep") == FileMatch("both.mp3", exact=True)


def test_match_in_a_folder_prefers_what_lies_in_it() -> None:
    assert FileMatcher(NAMES).match("TAKE", "deep") == FileMatch("deep/take.wav")
    assert FileMatcher(NAMES).match("yaman", "deep") == FileMatch("yaman.m4a")


@pytest.mark.parametrize(
    ("written", "candidates"),
    [
        ("both", ("both.mp3", "both.wav")),
        ("take.wav", ("deep/take.wav", "other/take.wav")),
        ("Both.flac", ("both.mp3", "both.wav")),
    ],
)
def test_match_of_an_ambiguous_name_gives_all_candidates(written: str, candidates: tuple[str, ...]) -> None:
    assert FileMatcher(NAMES).match(written) == FileMatch(candidates=candidates)


@pytest.mark.parametrize(
    "written", ["nobody.wav", "deep", "deep/", "*.wav", "..", "/", "%", "\\\\server\\share\\x.wav"]
)
def test_match_of_another_name_gives_none(written: str) -> None:
    assert FileMatcher(NAMES).match(written).name == ""


def test_match_offers_the_nearest_name() -> None:
    assert FileMatcher(NAMES).match("yamann.m4a").nearest == "yaman.m4a"
