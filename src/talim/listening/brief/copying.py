"""Whether a candidate holds a copy of a recording that its design was trained on, told by their sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talim import audio
from talim.audio import Audio
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.listening.brief.checks import Check, Originality
from talim.listening.brief.rights import corpus_of
from talim.metrics import originality, sound_match
from talim.run import Run

NAME = "originality"
WANTED = "nothing that fewer than 1 in 100 strangers come as near to"
RATE_HZ = 16000  # that the prints are made at


def search_of(run: Run) -> Originality:
    """The check of one candidate's file against the training clips of `run`, whose prints are made here, once."""
    place = corpus_of(run)
    if place is None:
        return _unchecked("the corpus of this run is not there")
    try:
        corpus = Corpus.load(place)
        recordings = [clip.recording for clip in corpus.train]
        if len(set(recordings)) < 2:
            return _unchecked("one recording alone does not tell what strangers share")
        sources = sound_match.sound_library([_print(corpus.read_clip(clip)) for clip in corpus.train])
    except TalimError as error:
        return _unchecked(str(error))
    strangers = originality.sound_strangers(sources, recordings)

    def check(path: Path) -> Check:
        found = originality.copied_sound(_print(audio.read(path)), sources, strangers)
        if found is None:
            return Check(NAME, None, "not checked: too short to hold a passage", WANTED)
        clip = corpus.train[found.source]
        at, where = found.clip_seconds[0], clip.start_seconds + found.source_seconds[0]
        told = f"nearest: {clip.recording} at {where:.1f} s, from {at:.1f} s on (p = {found.p_value:.2g})"
        return Check(NAME, found.p_value > originality.FALSE_ALARMS, told, WANTED)

    return check


def _print(sound: Audio) -> np.ndarray:
    return sound_match.sound_print(sound.mono().resample(RATE_HZ).samples[0])


def _unchecked(reason: str) -> Originality:
    return lambda path: Check(NAME, None, f"not checked: {reason}", WANTED)
