"""Phrases of melodies made of held notes."""

from collections import Counter

import numpy as np
import pytest

from talim.metrics import melodic_ngrams


def sung(*semitones, seconds=0.2):
    return np.concatenate([np.full(round(seconds / 0.01), 100.0 * s) for s in semitones])


def test_phrases_are_intervals_octaves_folded_and_keys_forgotten():
    assert melodic_ngrams.melodic_ngrams(sung(0, 2, 4, 5), 0.01) == Counter({(2, 2, 1): 1})
    assert melodic_ngrams.melodic_ngrams(sung(7, 9, 11, 12), 0.01) == Counter({(2, 2, 1): 1})
    assert melodic_ngrams.melodic_ngrams(sung(0, -10, 4, 5), 0.01) == Counter({(2, 2, 1): 1})


def test_no_phrase_reaches_over_a_long_silence():
    track = np.concatenate([sung(0, 2), np.full(150, np.nan), sung(4, 5)])
    assert not melodic_ngrams.melodic_ngrams(track, 0.01)


def test_likeness_is_one_to_itself_and_zero_to_strangers():
    mine = melodic_ngrams.melodic_ngrams(sung(0, 2, 4, 5, 4, 2, 0), 0.01)
    strange = melodic_ngrams.melodic_ngrams(sung(0, 3, 6, 1, 4, 8, 0), 0.01)
    assert melodic_ngrams.ngram_similarity(mine, [mine]) == pytest.approx(1)
    assert melodic_ngrams.ngram_similarity(mine, [strange]) == 0
    assert 0 < melodic_ngrams.ngram_similarity(mine, [mine, strange]) < 1
    assert np.isnan(melodic_ngrams.ngram_similarity(Counter(), [mine]))


def test_redundancy_counts_what_came_before():
    assert melodic_ngrams.ngram_repetition(melodic_ngrams.melodic_ngrams(sung(0, 2, 4, 5), 0.01)) == 0
    again = melodic_ngrams.melodic_ngrams(sung(*([0, 2, 4, 5] * 5)), 0.01)
    assert melodic_ngrams.ngram_repetition(again) > 0.7
