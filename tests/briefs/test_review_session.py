"""The review session: audio of candidates, frozen candidates."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import soundfile
from fixtures.brief_folder import Reviewer, brief_of, opened_brief

from talim.atomic_io import read_jsonl, write_jsonl
from talim.briefs.review_session import ReviewSession


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
