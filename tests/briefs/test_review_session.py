"""The review session: audio of candidates, frozen candidates."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fixtures.brief_folder import Reviewer, brief_of, opened_brief, tone

from talim import audio
from talim.atomic_io import read_jsonl, write_jsonl
from talim.audio import Audio
from talim.briefs.automatic_checks import run_checks
from talim.briefs.review_session import WORDS, ReviewSession
from talim.html.phrases import translate
from talim.listening.session import read_translations


def test_wav_of_loop_is_repeated(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "loop", brief_of(loop=True))
    samples, rate_hz = soundfile.read(io.BytesIO(opened.wav("linear-001")))
    assert len(samples) == 4 * rate_hz
    assert (samples[: 2 * rate_hz] == samples[2 * rate_hz :]).all()


def test_open_brief_changed_candidates_after_first_review_raise_error(
    reviewer: Reviewer, opened: ReviewSession
) -> None:
    from talim.briefs.review_session import open_brief
    from talim.errors import TalimError

    assert open_brief(opened.folder, opened.brief).brief_hash == opened.brief_hash
    reviewer.post("/api/reviews", reviewer.review_body())
    with pytest.raises(TalimError, match=r"frozen since its first review, but decision_rule.* changed"):
        open_brief(opened.folder, brief_of(decision_rule={"acceptance_at_least": 0.1}))
    rows = read_jsonl(opened.folder / "candidates.jsonl")
    write_jsonl(opened.folder / "candidates.jsonl", rows[:-1])
    with pytest.raises(TalimError, match="but the candidates changed"):
        open_brief(opened.folder, opened.brief)


ALLOWED = re.compile(r"LUFS|LU|dB|tone|[A-Z][a-z]+")  # units, and names of recordings and modes


@pytest.mark.parametrize("loop", [False, True])
def test_every_check_is_said_in_japanese(tmp_path: Path, loop: bool) -> None:
    """Measured and required values of pieces that pass, fail or cannot be checked hold no English word."""
    phrases = read_translations(tmp_path, ("ja",), WORDS)["ja"]["phrases"]
    brief = brief_of(loop=loop, tempo_bpm=90.0, tradition="hindustani", mode="Yaman", cycle="Tintal", seconds=2.0)
    silence, short = np.zeros((1, 16000), np.float32), tone(1, 0.1).samples
    clipped = np.clip(8 * tone(2, 3.0).samples, -1, 1)
    said = []
    for number, samples in enumerate((silence, short, clipped, tone(3, 2.0).samples)):
        audio.write(tmp_path / f"{number}.wav", Audio(samples, 8000))
        checks = run_checks(tmp_path / f"{number}.wav", brief)
        said += [check for check in checks if check["passed"] is not None]  # the page shows those that failed
    said += [{"measured": text, "required": ""} for text in FURTHER]
    texts = {translate(check[key], phrases) for check in said for key in ("measured", "required")}
    assert [text for text in texts if re.search("[A-Za-z]{3,}", ALLOWED.sub("", text))] == []
    assert not any(mark in text for text in texts for mark in ("(", ")", ": "))


FURTHER = (
    "at 1.2 s most similar to Tone at 3.4 s (p = 0.01)",
    "rank 5 with 3%; first Bhairav with 40%",
    "68 beats per minute",
    "correlation 0.31, by chance 0.10",
)


def test_wanted_music_is_said_in_the_reviewers_language(tmp_path: Path) -> None:
    labels = {"tradition": "hindustani", "mode": "Yaman", "instruments": ["sitar", "tabla"], "tempo_bpm": 90.0}
    opened = opened_brief(tmp_path / "a", brief_of(prompt=None, mood="calm, zany", **labels))
    wanted = opened.wanted()
    assert wanted["prompt"]["en"] == opened.brief.prompt_text
    assert (
        wanted["prompt"]["ja"]
        == "北インド古典音楽（ヒンドゥスターニー音楽）、旋法「Yaman」、シタール、タブラ、毎分 90 拍"
    )
    assert wanted["mood"] == {"en": "calm, zany", "ja": "穏やか、「zany」"}
    own = opened_brief(tmp_path / "b", brief_of(prompt="slow flute")).wanted()
    assert own["prompt"] == {"en": "slow flute", "ja": "「slow flute」（モデルに与えた文のまま）"}
    assert own["mood"] == {"en": "", "ja": ""}
