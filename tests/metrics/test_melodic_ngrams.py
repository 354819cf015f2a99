"""N-grams of melodies made of held notes."""

from collections import Counter

import numpy as np
import pytest

from talim.metrics import melodic_ngrams


def sung(*semitones, seconds=0.2):
    return np.concatenate([np.full(round(seconds / 0.01), 100.0 * s) for s in semitones])


def test_melodic_ngrams_are_invariant_to_octave_and_key():
    assert melodic_ngrams.melodic_ngrams(sung(0, 2, 4, 5), 0.01) == Counter({(2, 2, 1): 1})
    assert melodic_ngrams.melodic_ngrams(sung(7, 9, 11, 12), 0.01) == Counter({(2, 2, 1): 1})
    assert melodic_ngrams.melodic_ngrams(sung(0, -10, 4, 5), 0.01) == Counter({(2, 2, 1): 1})


def test_melodic_ngrams_do_not_span_a_long_silence():
    track = np.concatenate([sung(0, 2), np.full(150, np.nan), sung(4, 5)])
    assert not melodic_ngrams.melodic_ngrams(track, 0.01)


def test_ngram_similarity_to_itself_is_one_and_to_disjoint_music_zero():
    mine = melodic_ngrams.melodic_ngrams(sung(0, 2, 4, 5, 4, 2, 0), 0.01)
    strange = melodic_ngrams.melodic_ngrams(sung(0, 3, 6, 1, 4, 8, 0), 0.01)
    assert melodic_ngrams.ngram_similarity(mine, [mine]) == pytest.approx(1)
    assert melodic_ngrams.ngram_similarity(mine, [strange]) == 0
    assert 0 < melodic_ngrams.ngram_similarity(mine, [mine, strange]) < 1
    assert np.isnan(melodic_ngrams.ngram_similarity(Counter(), [mine]))


def test_ngram_repetition_counts_repeated_ngrams():
    assert melodic_ngrams.ngram_repetition(melodic_ngrams.melodic_ngrams(sung(0, 2, 4, 5), 0.01)) == 0
    again = melodic_ngrams.melodic_ngrams(sung(*([0, 2, 4, 5] * 5)), 0.01)
    assert melodic_ngrams.ngram_repetition(again) > 0.7
