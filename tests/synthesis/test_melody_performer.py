"""Players: breaths, silence between them, strokes, consonants, and a record that agrees with the curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from talim.synthesis.instruments import CONTROL_SECONDS, INSTRUMENTS
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.melody_line import NoteEvent
from talim.synthesis.melody_performer import MelodyPerformer
from talim.synthesis.styles import style_of
from talim.traditions.tradition import load

PLAIN = replace(
    style_of("makam").expression,
    ornaments={},
    scoop_probability=0.0,
    drop_probability=0.0,
    drift_cents=0.0,
    scatter_cents=0.0,
)
LINE = [NoteEvent(0.5, 0.5, 0.0, "a"), NoteEvent(1.0, 0.5, 204.0, "a"), NoteEvent(2.0, 1.0, 498.0, "b", slurred=False)]


def player(instrument: str, **changed: object) -> MelodyPerformer:
    tradition = load("makam")
    ways = MelodicMotion(tradition.mode("Rast"), -500, 1500)
    return MelodyPerformer(
        INSTRUMENTS[instrument], replace(PLAIN, **changed), tradition.ornaments, ways, np.random.default_rng(1)
    )


@pytest.mark.parametrize("instrument", ["voice", "ney", "kanun", "violin"])
def test_play_plain_events_have_written_onsets_and_pitches(instrument: str) -> None:
    played = player(instrument).play(LINE, 4.0)
    cents = played.curve.cents
    assert played.ornaments == ()
    assert [(n.onset_seconds, n.cents, n.part) for n in played.notes] == [
        (t.onset_seconds, t.cents, t.part) for t in LINE
    ]
    for event in LINE:
        middle = round((event.onset_seconds + event.seconds / 2) / CONTROL_SECONDS)
        assert cents[middle] == pytest.approx(event.cents, abs=1e-6)
        assert played.curve.level[middle] > 0.3
    assert np.isnan(cents[: round(0.49 / CONTROL_SECONDS)]).all()
    assert np.isnan(cents[round(3.6 / CONTROL_SECONDS) :]).all()
    assert (played.curve.level[np.isnan(cents)] == 0).all()


def test_play_instrument_of_fixed_pitch_has_no_transitions() -> None:
    cents = player("kanun").play(LINE, 4.0).curve.cents
    sounding = cents[np.isfinite(cents)]
    assert set(np.round(sounding, 3)) == {0.0, 204.0, 498.0}


def test_play_voice_separates_syllables_and_flute_does_not() -> None:
    line = [NoteEvent(0.2, 0.8, 0.0, "a"), NoteEvent(1.0, 0.8, 204.0, "a", slurred=False)]
    seam = slice(round(0.9 / CONTROL_SECONDS), round(1.0 / CONTROL_SECONDS))
    assert np.isnan(player("voice").play(line, 2.0).curve.cents[seam]).any()
    assert np.isfinite(player("ney").play(line, 2.0).curve.cents[seam]).all()


def test_play_every_ornament_shape_can_be_forced() -> None:
    events = [NoteEvent(k * 1.5, 1.5, (0.0, 498.0)[k % 2], "a") for k in range(40)]
    for shape in ("glide", "shake", "swing", "touch", "turn"):
        played = player("violin", ornaments={shape: 1.0}).play(events, 60.0)
        assert {o.shape for o in played.ornaments} == {shape}
        assert len(played.ornaments) > 20


def test_play_without_events_is_silent() -> None:
    played = player("voice").play([], 1.0)
    assert np.isnan(played.curve.cents).all()
    assert played.notes == played.ornaments == ()
