"""How many recordings, and how much music, are needed for what: the one place for these numbers and their reasons."""

from __future__ import annotations

HELD_OUT_FOR_INTERVAL = 2  # intervals are over recordings: one tells nothing of how much these differ
# An interval over two recordings is 25 times as wide as these lie apart, over three about 5 times (Student's t with one
# and two degrees of freedom): the values say more, and are shown instead. Verdicts go by the interval all the same.
HELD_OUT_TO_SHOW_INTERVAL = 4
HELD_OUT_TO_COMPARE = 6  # scores are coarse and bounded; five that agree by chance are no rarer than one in sixteen
# How many recordings of about one length have so many held out where nobody says (`corpus.split.default_fraction`).
FOR_INTERVAL, TO_COMPARE = 6, 16
GOOD_SECONDS = 3600.0  # of music, from which on more of it is not the first thing to try

COMPARISON_SENTENCE = (
    f"A comparison decides from {HELD_OUT_TO_COMPARE} held-out recordings on: {TO_COMPARE} recordings, or "
    f"{2 * HELD_OUT_TO_COMPARE} of which half are named by --held-out."
)
STATEMENT = (
    f"Two recordings are enough to train on one and to test with the other. Of {FOR_INTERVAL} of about one length "
    f"{HELD_OUT_FOR_INTERVAL} are held out, the least for an interval. {COMPARISON_SENTENCE} An hour of music is a "
    "good beginning."
)


def too_few_for_interval(count: int) -> bool:
    """Whether so many recordings have an interval that is not shown, as it says less than their values."""
    return HELD_OUT_FOR_INTERVAL <= count < HELD_OUT_TO_SHOW_INTERVAL


def held_out_note(count: int) -> str:
    """What too few held-out recordings mean for intervals by recording; empty where there are enough."""
    if count < HELD_OUT_FOR_INTERVAL:
        return "only one held-out recording: an interval by recording needs two or more"
    if too_few_for_interval(count):
        return (
            f"only {count} held-out recordings: too few for an interval that says anything; the value of each is shown"
        )
    return f"only {count} held-out recordings: the interval is rough" if count < HELD_OUT_TO_COMPARE else ""
