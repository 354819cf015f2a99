"""Beat and chord tokens: empty conditions, padding, embeddings."""

from __future__ import annotations

import torch

from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.conditioning import ConditionTokens, time_embedding
from talim.beats_chords import BeatGrid, ChordTrack


def test_tokens_of_empty_conditions_are_padding_and_one_n() -> None:
    beats, chords = ConditionTokens.of_beats([BeatGrid()]), ConditionTokens.of_chords([ChordTrack()])
    assert beats.ids.shape == (1, 50)
    assert not beats.mask.any()
    assert not beats.times_seconds.any()
    assert chords.ids[0, 0].tolist() == [1, 1, 1]
    assert chords.mask[0].tolist() == [True] + [False] * 19


def test_beat_tokens_padding_repeats_the_last_time() -> None:
    beats = ConditionTokens.of_beats([BeatGrid((0.5, 1.25), (1, 2)), BeatGrid()])
    assert beats.times_seconds[0].tolist() == [0.5] + [1.25] * 49
    assert beats.mask.sum(dim=1).tolist() == [2, 0]


def test_attended_tokens_end_with_the_longest_row() -> None:
    grids = [BeatGrid((0.5, 1.25), (1, 2)), BeatGrid(), BeatGrid((0.0, 1.0, 2.0), (1, 2, 1))]
    beats = ConditionTokens.of_beats(grids)
    fewer = beats.attended()
    assert fewer.mask.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    assert torch.equal(fewer.ids, beats.ids[:, :3])
    assert torch.equal(fewer.times_seconds, beats.times_seconds[:, :3])
    assert ConditionTokens.of_beats([BeatGrid()] * 2).attended().mask.tolist() == [[True]] * 2
    assert ConditionTokens.of_chords([ChordTrack()]).attended().ids.tolist() == [[[1, 1, 1]]]
    full = ConditionTokens.of_beats([BeatGrid(tuple(float(n) for n in range(50)), (1,) * 50)])
    assert torch.equal(full.attended().mask, full.mask)
    assert not beats.mask[1].any()  # the given ones are as they were


def test_time_embedding_distinguishes_hundredths() -> None:
    at = time_embedding(torch.tensor([0.0, 0.01, 5.0]), 1024)
    assert at[0, ::2].abs().max() == 0
    assert (at[0, 1::2] == 1).all()
    assert (at[0] - at[1]).abs().max() > 5e-3


@torch.no_grad()
def test_embeddings_depend_on_root_kind_inversion_position_and_time(tiny: Mustango) -> None:
    def chord(name: str, time: float = 1.0) -> torch.Tensor:
        tokens = ConditionTokens.of_chords([ChordTrack((time,), (name,))])
        return tiny.model.chord_embedding_layer(tokens.ids, tokens.times_seconds)[0, 0]

    def beat(position: int, time: float = 1.0) -> torch.Tensor:
        tokens = ConditionTokens.of_beats([BeatGrid((time,), (position,))])
        return tiny.model.beat_embedding_layer(tokens.ids, tokens.times_seconds)[0, 0]

    plain = chord("C")
    assert torch.equal(plain, chord("B#"))
    assert torch.equal(chord("C/E"), chord("C/G")), "the bass note itself is not part of the model"
    for changed in (chord("D"), chord("Cm"), chord("C/E"), chord("C", 2.0)):
        assert (plain - changed).abs().max() > 1e-2
    assert (beat(1) - beat(2)).abs().max() > 1e-2
    assert (beat(1) - beat(1, 2.0)).abs().max() > 1e-2
