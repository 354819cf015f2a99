"""Phrases of melodies made of held notes."""

from collections import Counter

import numpy as np
import pytest

from talim.metrics import phrases


def sung(*semitones, seconds=0.2):
    return np.concatenate([np.full(round(seconds / 0.01), 100.0 * s) for s in semitones])


def test_phrases_are_intervals_octaves_folded_and_keys_forgotten():
    assert phrases.phrases(sung(0, 2, 4, 5), 0.01) == Counter({(2, 2, 1): 1})
    assert phrases.phrases(sung(7, 9, 11, 12), 0.01) == Counter({(2, 2, 1): 1})
    assert phrases.phrases(sung(0, -10, 4, 5), 0.01) == Counter({(2, 2, 1): 1})


def test_no_phrase_reaches_over_a_long_silence():
    track = np.concatenate([sung(0, 2), np.full(150, np.nan), sung(4, 5)])
    assert not phrases.phrases(track, 0.01)


def test_likeness_is_one_to_itself_and_zero_to_strangers():
    mine = phrases.phrases(sung(0, 2, 4, 5, 4, 2, 0), 0.01)
    strange = phrases.phrases(sung(0, 3, 6, 1, 4, 8, 0), 0.01)
    assert phrases.phrase_likeness(mine, [mine]) == pytest.approx(1)
    assert phrases.phrase_likeness(mine, [strange]) == 0
    assert 0 < phrases.phrase_likeness(mine, [mine, strange]) < 1
    assert np.isnan(phrases.phrase_likeness(Counter(), [mine]))


def test_redundancy_counts_what_came_before():
    assert phrases.redundancy(phrases.phrases(sung(0, 2, 4, 5), 0.01)) == 0
    again = phrases.phrases(sung(*([0, 2, 4, 5] * 5)), 0.01)
    assert phrases.redundancy(again) > 0.7
