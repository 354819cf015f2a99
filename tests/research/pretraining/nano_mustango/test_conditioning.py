"""Conditioning of nano-mustango: beats and chords of a piece, dropout, and the condition probe."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures import tiny_nano_mustango

from research.pretraining.nano_mustango import conditioning
from research.pretraining.nano_mustango.conditioning import beats_chords_of, chords_of, without_attribute
from research.pretraining.western_style import perform
from talim.audio.load_librosa import load_librosa

FACTS = {
    "caption": "guitar with chords and drums, B minor, 120 bpm",
    "tempo_bpm": 120,
    "beats_per_bar": 4,
    "tonic_class": 11,
    "scale": "minor",
    "progression": [0, 6, 5, 4],
}


def test_beats_chords_of_a_piece_are_those_performed() -> None:
    music = beats_chords_of(FACTS, 5.0)
    assert music.beats.positions == (1, 2, 3, 4, 1, 2, 3, 4, 1, 2)
    assert music.beats.times_seconds[:3] == (0.0, 0.5, 1.0)
    assert music.chords.names == ("Bm", "A", "G")
    assert music.chords.times_seconds == (0.0, 2.0, 4.0)
    assert chords_of(FACTS | {"scale": "major", "tonic_class": 0, "progression": [0, 5, 3, 4]}, 8.0).names == (
        "C", "Am", "F", "G"
    )  # fmt: skip
    assert chords_of(FACTS | {"progression": []}, 5.0).names == ()


def test_chords_of_a_piece_are_the_loudest_pitch_classes() -> None:
    librosa = load_librosa()

    piece = next(p for p in (perform(s, "western", 8.0) for s in range(30)) if p.facts["chords"])
    chroma = librosa.feature.chroma_cqt(y=piece.samples, sr=piece.rate_hz, hop_length=512, bins_per_octave=36)
    chords = chords_of(piece.facts, 8.0)
    times = np.arange(chroma.shape[1]) * 512 / piece.rate_hz
    now = np.searchsorted(chords.times_seconds, times, side="right") - 1
    inside = []
    for frame, index in enumerate(now):
        name = chords.names[index]
        root = conditioning.ROOTS.index(name.removesuffix("m"))
        tones = [(root + step) % 12 for step in (0, 3 if name.endswith("m") else 4, 7)]
        inside.append(chroma[tones, frame].mean() / chroma[:, frame].mean())
    assert np.mean(inside) > 1.4


def test_without_attribute_removes_tempo_and_key() -> None:
    caption = "132 bpm, F sharp major, solo violin, waltz"
    assert without_attribute(caption, tempo=True, key=False) == "F sharp major, solo violin, waltz"
    assert without_attribute(caption, tempo=False, key=True) == "132 bpm, solo violin, waltz"
    assert without_attribute("solo flute, C minor, 60 bpm", tempo=True, key=True) == "solo flute"


def test_draw_drops_each_attribute_independently() -> None:
    latents = np.zeros((10, 4, 8, 8), np.float16)
    drawn = [conditioning.draw(latents, [FACTS] * 10, step, 1) for step in range(60)]
    captions = [caption for _, _, texts, _, _ in drawn for caption in texts]
    music = [each for _, _, _, given, _ in drawn for each in given]
    for dropped in (
        ["bpm" not in caption for caption in captions],
        ["minor" not in caption for caption in captions],
        [not each.beats.times_seconds for each in music],
        [not each.chords.names for each in music],
    ):
        assert 0.2 < np.mean(dropped) < 0.4
    both = [not m.beats.times_seconds and not m.chords.names for m in music]
    assert 0.04 < np.mean(both) < 0.16
    assert 0.04 < np.mean([flag for *_, flags in drawn for flag in flags]) < 0.18


def test_draw_in_the_auxiliary_phase_gives_either_text_or_beats_and_chords() -> None:
    latents = np.zeros((10, 4, 8, 8), np.float16)
    for step in range(5):
        _, _, captions, music, _ = conditioning.draw(latents, [FACTS] * 10, step, 1, auxiliary=True)
        for caption, given in zip(captions, music, strict=True):
            assert ("bpm" in caption) == ("minor" in caption) != bool(given.beats) == bool(given.chords)


def test_probe_targets_are_those_of_the_piece() -> None:
    targets, mask = conditioning.probe_targets([FACTS, FACTS | {"progression": []}], 64)
    # columns are 0.16 s apart; the fourth's middle lies 0.06 s into the second beat of half a second
    assert targets[0, 3, 0] == pytest.approx(np.sin(2 * np.pi * 0.06 / 0.5), abs=1e-5)
    assert targets[0, 3, 3] == pytest.approx(np.cos(2 * np.pi * 0.56 / 2), abs=1e-5)
    assert targets[0, 0, 4:16].nonzero()[:, 0].tolist() == [2, 6, 11]  # B minor
    assert targets[0, 13, 4:16].nonzero()[:, 0].tolist() == [1, 4, 9]  # from two seconds on A major
    assert targets[0, 9, 28:].argmax() == 8  # 120 bpm
    assert targets[0, 0, 16:28].nonzero()[:, 0].tolist() == [1, 2, 4, 6, 7, 9, 11]
    assert mask[0].all()
    assert not mask[1, 0, 4:16].any()
    assert mask[1, 0, 16:].all()


def test_condition_probe_alone_stops_the_forward_pass() -> None:
    torch.manual_seed(0)
    model = tiny_nano_mustango.SHAPE.model()
    probe = conditioning.ConditionProbe(model.unet)
    inputs = [torch.randn(1, 4, 8, 8), torch.tensor([900])]
    condition = conditioning.conditions(model, ["solo flute"], [beats_chords_of(FACTS, 1.28)], [False])
    model(*inputs, *condition)
    whole = probe.errors([FACTS])
    probe.alone = True
    with pytest.raises(conditioning.StopForward):
        model(*inputs, *condition)
    torch.testing.assert_close(probe.errors([FACTS]), whole)
    whole.sum().backward()
    assert probe.read[1].weight.grad is not None
