"""What the adapter made better and worse in the generated audio, next to the untrained base, in plain words.

A score is better or worse only if that is shown: by a t test over recordings, which the prompts come from, with Holm's
correction for all scores. Fewer than HELD_OUT_TO_COMPARE recordings show nothing, and that is said instead.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from talim.evaluation.intervals import Effect
from talim.evaluation.score_table import FEWEST_CLIPS, NO_DISTANCE, TOO_FEW_CLIPS, format_distance
from talim.experiments.effects import holm_adjusted
from talim.html.formatting import NOT_KNOWN, format_number, format_percent
from talim.html.languages import languages, words
from talim.recordings_needed import HELD_OUT_TO_COMPARE
from talim.reporting.catalogue import Texts, counted, in_languages, join, listed, translator

BETTER, WORSE, SAME, UNCLEAR, TOO_FEW = "better", "worse", "same", "unclear", "too_few"
ALPHA = 0.05
SHARE = format_percent
VERDICTS = {each: words("en")[f"samples_verdict_{each}"] for each in (BETTER, WORSE, SAME, UNCLEAR, TOO_FEW)}
COLUMNS = ("samples_score", "samples_after", "samples_before", "samples_real", "samples_verdict")  # of the catalogue
_CELLS = {NOT_KNOWN: "not_known", NO_DISTANCE: "samples_no_distance", TOO_FEW_CLIPS: "samples_too_few_clips"}


def _distance(value: float) -> str:
    return format_distance(value, format_number(value, 1))


_SHOWN = {
    "pitched_fraction": SHARE,
    "adherence_mode": SHARE,
    "adherence_cycle": SHARE,
    "adherence_tempo": SHARE,
    "adherence_instruments": SHARE,
    "adherence_clap": SHARE,
    "kernel_distance_timbre": _distance,
    "kernel_distance_pitch": _distance,
    "kernel_distance_rhythm": _distance,
    "silent_fraction": SHARE,
    "clipped_fraction": SHARE,
}
# score of scores.json: its name on pages, and how its values are shown
NAMES: dict[str, tuple[str, Callable[[float], str]]] = {
    key: (words("en")[f"score_{key}"], show) for key, show in _SHOWN.items()
}
_KEYS = {name: f"score_{key}" for key, (name, _) in NAMES.items()}


@dataclass(frozen=True)
class SampleChange:
    """One score of the samples against the untrained base's: a verdict from BETTER to TOO_FEW, and the values as text.

    `values` are those with the adapter, of the untrained base, and of real music ("" where there is none);
    `recordings` is how many recordings the comparison rests on.
    """

    name: str
    verdict: str
    values: tuple[str, str, str]
    recordings: int = 0

    @property
    def text(self) -> str:
        """The name and the values, for a sentence."""
        after, before, real = self.values
        return f"{self.name} {after} (untrained base {before}{f', real music {real}' if real else ''})"


def sample_changes(
    scores: Mapping[str, Any], names: Mapping[str, tuple[str, Callable[[float], str]]] = NAMES
) -> list[SampleChange]:
    """The scores of scores.json that were measured with and without the adapter, in the order of `names`.

    Values that look the same at the printed precision are the same, but for distances of too few clips and pairs of
    distances of which neither is told from 0. A score that says that it can decide nothing is left out; the table of
    scores has it, with the reason.
    """
    rows = {row.get("name"): row for row in scores.get("scores") or [] if isinstance(row, dict)}
    measured = {
        key: rows[key]
        for key in names
        if key in rows
        and not rows[key].get("undecided")
        and all(_number(rows[key].get(part)) is not None for part in ("value", "baseline"))
    }
    effects = {key: effect for key, row in measured.items() if (effect := _gain(row)) is not None}
    adjusted = dict(zip(effects, holm_adjusted([each.p_value for each in effects.values()]), strict=True))
    return [_change(names[key], row, effects.get(key), adjusted.get(key, 1.0)) for key, row in measured.items()]


def _gain(row: Mapping[str, Any]) -> Effect | None:
    """The gain over the untrained base; None where it rests on too few recordings, or was not recorded."""
    gain, error, recordings = _number(row.get("gain")), _number(row.get("gain_error")), row.get("gain_recordings")
    if gain is None or error is None or not isinstance(recordings, int) or recordings < HELD_OUT_TO_COMPARE:
        return None
    return Effect(gain, error, recordings - 1, 1, recordings, _number(row.get("gain_skewness")) or 0.0)


def _change(
    named: tuple[str, Callable[[float], str]], row: Mapping[str, Any], effect: Effect | None, p_value: float
) -> SampleChange:
    name, show = named
    value, baseline = float(row["value"]), float(row["baseline"])
    reference = _number(row.get("reference"))
    gap, base_gap = (_distance_from_goal(each, row, reference) for each in (value, baseline))
    few = row.get("too_few_clips") or ()
    left_out = {"value", "baseline"} & {*few} or (show is _distance and max(value, baseline) < 0)
    if not left_out and (show(value) == show(baseline) or gap == base_gap):
        verdict = SAME
    elif effect is None:
        verdict = TOO_FEW
    elif show(value) != show(baseline) and p_value <= ALPHA and (effect.mean > 0) == (gap < base_gap):
        verdict = BETTER if gap < base_gap else WORSE
    else:
        verdict = UNCLEAR
    parts = {"value": value, "baseline": baseline, "reference": reference}
    after, before, real = (
        "" if each is None else format_distance(each, show(each), True) if part in few else show(each)
        for part, each in parts.items()
    )
    return SampleChange(name, verdict, (after, before, real), int(row.get("gain_recordings") or 0))


def _distance_from_goal(value: float, row: Mapping[str, Any], reference: float | None) -> float:
    """Smaller is better. Without real music to match, more is better of all that should match it."""
    if row.get("direction") == "lower_is_better":
        return value
    if row.get("direction") == "match_reference" and reference is not None:
        return abs(value - reference)
    return -value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def samples_sentence(scores: Mapping[str, Any], advised: bool = False) -> Texts:
    """What became worse and better in the samples, by name; says so if that was not measured, or not shown.

    `advised`: how to hold out more recordings is told elsewhere.
    """
    changes = sample_changes(scores)
    if not changes:
        return in_languages("point_samples_unknown")
    count = _sample_count(scores)
    where = in_languages("point_in_clips", clips=counted(count, "generated clip")) if count else None
    where = where or in_languages("point_in_audio")
    found = {verdict: [each for each in changes if each.verdict == verdict] for verdict in (WORSE, BETTER, UNCLEAR)}
    parts = [
        in_languages(f"point_samples_{verdict}", names=_listed([each.name for each in group]))
        for verdict, group in found.items()
        if group
    ]
    too_few = [each for each in changes if each.verdict == TOO_FEW]
    if not parts and not too_few:
        return in_languages("point_samples_same", where=where, scores=counted(len(changes), "score"))
    marks = in_languages("parts")
    joined = {language: mark.join(_begun([part[language] for part in parts])) for language, mark in marks.items()}
    shown = in_languages("point_samples_shown", where=where, parts=joined) if parts else dict.fromkeys(marks, "")
    rest = _too_few_sentence(too_few, where, scores, advised)
    return {language: join([shown[language], rest.get(language, "")], language) for language in languages()}


def _begun(parts: Sequence[str]) -> list[str]:
    """The first as it is, the others with a capital letter."""
    return [*parts[:1], *(part[:1].upper() + part[1:] for part in parts[1:])]


def _listed(names: Sequence[str]) -> Texts:
    """Names of scores, one after the other."""
    return listed([in_languages(_KEYS[name]) for name in names], "; ")


def _too_few_sentence(changes: Sequence[SampleChange], where: Texts, scores: Mapping[str, Any], advised: bool) -> Texts:
    """That the comparison rests on too few recordings; empty for no such changes."""
    if not changes:
        return {}
    known = max(each.recordings for each in changes)
    rests = in_languages("point_rests", recordings=counted(known, "recording")) if known else None
    rests = rests or in_languages("point_rests_unknown")
    used = len({prompt["recording"] for prompt in scores.get("prompts") or []})
    return in_languages("point_too_few", where=where, rests=rests, remedy=remedy(scores, "prompts", used, advised))


def remedy(scores: Mapping[str, Any], of: str, used: int, advised: bool = False) -> Texts:
    """What it takes to tell whether a score became better: more "prompts" or "phrases", where recordings are there.

    `used` are the recordings that they came from; where it is `advised` elsewhere, not how to hold out more.
    """
    recordings = ((scores.get("split") or {}).get("held_out") or {}).get("recordings")
    if isinstance(recordings, int) and recordings < HELD_OUT_TO_COMPARE:
        if advised:
            return in_languages("too_few_held_out_only", needed=HELD_OUT_TO_COMPARE, held_out=recordings)
        more = hold_out_more(int((scores.get("corpus") or {}).get("recordings") or recordings), HELD_OUT_TO_COMPARE)
        return in_languages("too_few_held_out", needed=HELD_OUT_TO_COMPARE, held_out=recordings, more=more)
    if used >= HELD_OUT_TO_COMPARE:
        return in_languages("too_few_measured", needed=HELD_OUT_TO_COMPARE, used=used)
    return in_languages(f"too_few_{of}", needed=HELD_OUT_TO_COMPARE)


def hold_out_more(recordings: int, wanted: int) -> Texts:
    """How to have so many held-out recordings: by naming them, where half are left to train on, else by adding."""
    if can_be_held_out(recordings, wanted):
        return in_languages("hold_out_named", wanted=wanted, count=recordings)
    return in_languages("hold_out_added", wanted=wanted)


def can_be_held_out(recordings: int, wanted: int) -> bool:
    """Whether so many `recordings` let `wanted` be held out, with half left to train on."""
    return recordings > wanted and 2 * wanted <= recordings + 1


def samples_table(scores: Mapping[str, Any], language: str = "en") -> list[str]:
    """The values behind `samples_sentence` as lines of a table in plain text; none where nothing was measured."""
    rows = samples_rows(scores, language)
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*lines, *filter(None, [distances_note(scores, language)])]


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: letters of East Asia are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def samples_rows(scores: Mapping[str, Any], language: str = "en") -> list[tuple[str, ...]]:
    """The values behind `samples_sentence`, below their headings: with the adapter, base, real music, and a verdict."""
    tell, changes = translator(language), sample_changes(scores)

    def shown(cell: str) -> str:
        for english, key in _CELLS.items():
            cell = cell.replace(english, tell(key))
        return cell

    rows = (
        (
            _listed([each.name])[language],
            *(shown(value or NOT_KNOWN) for value in each.values),
            tell(f"samples_verdict_{each.verdict}"),
        )
        for each in changes
    )
    return [tuple(map(tell, COLUMNS)), *rows] if changes else []


def distances_note(scores: Mapping[str, Any], language: str = "en") -> str:
    """What a distance is to be read against, where there is one; else empty."""
    names = {words("en")[f"score_{key}"] for key in _SHOWN if "distance" in key}
    has_distances = any(each.name in names for each in sample_changes(scores))
    return translator(language)("samples_distances", fewest=FEWEST_CLIPS) if has_distances else ""


def got_worse(scores: Mapping[str, Any]) -> Sequence[SampleChange]:
    """The scores of the samples that are worse than the untrained base's."""
    return [change for change in sample_changes(scores) if change.verdict == WORSE]


def _sample_count(scores: Mapping[str, Any]) -> int:
    """The number of generated clips that were scored; 0 if it is not recorded."""
    value = (scores.get("protocol") or {}).get("generated")
    return value if isinstance(value, int) else 0
