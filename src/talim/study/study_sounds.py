"""What a study's designs sound like, side by side: the same words and seed in each, as far as runs left sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from talim.errors import TalimError
from talim.pages.players import player, read_sound
from talim.study.exhibits import Card, drawing_of
from talim.study.results import Result, Sample, read_result
from talim.study.trials import Row, Study, Table
from talim.study.words import duration

MOST_DESIGNS, MOST_CORPORA = 6, 2  # a sound of ten seconds is a tenth of a megabyte of the page


@dataclass(frozen=True)
class SideBySide:
    """One corpus and prompt: real music, the base alone, and designs after training."""

    corpus: str
    prompt: str
    cards: Sequence[Card]


def runs_of(study: Study) -> dict[str, Result]:
    """The run of one trial for each design and corpus, by trial id; trials whose folder is gone are left out."""
    found = {}
    for table in study.tables:
        for design in table.designs:
            for row in table.of(design):
                if row.run and (study.folder / row.run).is_dir():
                    found[row.id] = read_result(study.folder / row.run)
                    break
    return found


def side_by_side(study: Study, runs: Mapping[str, Result], worth: Sequence[str]) -> list[SideBySide]:
    """For the first corpora whose runs left sounds: what can be heard of the designs that are worth hearing.

    Pitches are not drawn here, since following them takes a second a sound and more: each run's own page has them.
    """
    found = []
    for table in study.tables:
        heard = _heard(table, runs, worth)
        if heard and len(found) < MOST_CORPORA:
            found.append(_shown(table, heard))
    return found


def _heard(table: Table, runs: Mapping[str, Result], worth: Sequence[str]) -> list[tuple[Row, Result]]:
    rows = [row for row in table.rows if row.id in runs and runs[row.id].samples]
    rows.sort(key=lambda row: worth.index(row.design) if row.design in worth else len(worth))
    return [(row, runs[row.id]) for row in rows[:MOST_DESIGNS]]


def _shown(table: Table, heard: Sequence[tuple[Row, Result]]) -> SideBySide:
    first = heard[0][1].samples
    lead = next((sample for sample in first if sample.role == "after"), first[0])
    cards = []
    for role, title in (("real", "Real"), ("before", f"{table.base} alone")):
        sample = _of(first, role, lead)
        if sample:
            cards.append(_card(role, title, sample))
    for row, result in heard:
        sample = _of(result.samples, "after", lead)
        if sample is None:
            cards.append(Card("after", row.design, "", problem="no sound of this prompt"))
        else:
            cards.append(_card("after", row.design, sample))
    return SideBySide(table.corpus, lead.prompt, cards)


def _of(samples: Sequence[Sample], role: str, lead: Sample) -> Sample | None:
    """The sample of a role with the lead's prompt, and its recording and seed where there are several."""
    fitting = [sample for sample in samples if sample.role == role and sample.prompt == lead.prompt]
    return max(
        fitting, key=lambda one: (one.recording == lead.recording) + (one.seed == lead.seed), default=None
    )


def _card(role: str, title: str, sample: Sample) -> Card:
    try:
        sound = read_sound(sample.path)
    except TalimError as error:
        return Card(role, title, "", problem=str(error))
    drawing, _ = drawing_of(title, sound, None)
    label = f"{title}: {sample.prompt or sample.recording}"
    return Card(role, title, duration(sound.seconds), drawing, player(sound, label))
