"""What tags tell of a sound's making."""

from __future__ import annotations

import pytest

from talim.audio.provenance import generated_by, given_seconds


def test_generated_by_with_a_part_of_the_tags_still_tells() -> None:
    assert generated_by({"software": "talim 1.2 (libsndfile-1.2.2)"}) == "talim 1.2"
    assert generated_by({"ai_generated": "yes", "seed": "3"}) == "an unnamed program, seed 3"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"phrase_kept": "yes", "phrase_seconds": "1.250"}, 1.25),
        ({"phrase_kept": "no", "phrase_seconds": "1.250"}, 0.0),
        ({"phrase_use": "varied", "phrase_seconds": "1.250"}, 0.0),
        ({"phrase_kept": "yes", "phrase_seconds": "some"}, 0.0),
        ({"phrase_kept": "yes", "phrase_seconds": "inf"}, 0.0),
        ({"phrase_kept": "yes"}, 0.0),
        ({}, 0.0),
    ],
)
def test_given_seconds_is_the_length_of_a_phrase_that_was_kept(tags: dict[str, str], expected: float) -> None:
    assert given_seconds(tags) == expected
