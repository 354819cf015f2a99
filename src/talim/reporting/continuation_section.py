"""The part of a run's page about held-out recordings that were continued: scores with their control, and players."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from talim.atomic_io import read_jsonl
from talim.errors import TalimError
from talim.html.audio_player import audio_player, read_audio
from talim.html.formatting import format_counted, format_number, format_percent
from talim.html.languages import words
from talim.inside_folder import resolve_inside
from talim.recordings_needed import HELD_OUT_TO_COMPARE
from talim.reporting import sample_changes
from talim.reporting.audio_examples import AudioExample, ExampleGroup, Tracker, spectrogram_of
from talim.reporting.catalogue import Texts, counted, in_languages, listed, recognised, translator
from talim.reporting.run_results import RunResults
from talim.reporting.sample_changes import VERDICTS
from talim.run import Run

MAX_EXAMPLES = 4
TITLES = {"phrase": "Phrase", "real": "The recording goes on", "before": "The base alone", "after": "With the adapter"}
NOT_TESTABLE = words("en")["continuation_untestable"]


def _distance(value: float) -> str:
    return format_number(value, 2)


def _cents(value: float) -> str:
    return f"{format_number(value, 0)} cents"


# score: its name on the page, and how its values are shown
NAMES: dict[str, tuple[str, Callable[[float], str]]] = {
    key: (words("en")[f"score_{key}"], show)
    for key, show in {
        "continuation_mode_probability": format_percent,
        "continuation_intonation_cents": _cents,
        "continuation_scale_distance": _distance,
        "continuation_nearness_timbre": format_percent,
        "continuation_nearness_pitch": format_percent,
        "continuation_nearness_rhythm": format_percent,
    }.items()
}
_CELLS = [  # of the table, in the catalogue
    *("continuation_cents", "continuation_untestable", "brief_page_not_measured"),
    *(f"samples_verdict_{verdict}" for verdict in VERDICTS),
    *(f"score_{key}" for key in NAMES),
]
_REASONS = [f"continuation_{name}" for name in ("not_recorded", "not_asked", "varies", "short")]


def continuation_section(result: RunResults, tracker: Tracker | None) -> dict[str, Any]:
    """The values of its template; empty for a run that was evaluated before there were continuations."""
    results = result.scores.get("continuations")
    if not isinstance(results, dict):
        return {}
    if not results.get("scores"):
        return {"reason": not_continued(result.scores)["en"]}
    examples, more = _examples(result, tracker)
    count = format_counted(int(results["clips"]), "held-out clip")
    return {
        "reason": "",
        "sentence": continuation_sentence(result.scores).get("en", ""),
        "meaning": _meaning(results)["en"],
        "count": f"{count} of {format_counted(int(results['recordings']), 'recording')}",
        "rows": [_row(row, change) for row, change in _changes(results)],
        "notes": [
            words("en")["continuation_table_note"],
            *(f"Note: {text}." for text in results.get("warnings") or []),
        ],
        "examples": examples,
        "more": more,
        "folder": f"{result.folder.name}/{Run(result.folder).continuations.name}",
    }


def translated_sentences(scores: Mapping[str, Any], language: str) -> list[str]:
    """What the page says of continuations in a language: what was done, what became better and worse, or why not."""
    results = scores.get("continuations")
    if not isinstance(results, dict):
        return []
    texts = [_meaning(results), continuation_sentence(scores)] if results.get("scores") else [not_continued(scores)]
    return [text[language] for text in texts]


def continuation_table(scores: Mapping[str, Any], language: str) -> dict[str, Any]:
    """The table of scores of the continuations in a language, as `samples_beside` draws it; empty without any."""
    results = scores.get("continuations")
    if not isinstance(results, dict) or not results.get("scores"):
        return {}
    tell = translator(language)
    heads = ("samples_score", "samples_after", "samples_before", "continuation_control", "continuation_reference")
    rows = [[recognised(cell, _CELLS)[language] for cell in _row(*each).values()] for each in _changes(results)]
    return {
        "label": tell("continuation_label"),
        "caption": tell("continuation_caption", count=counted(int(results["clips"]), "held-out phrase")),
        "rows": [[tell(key) for key in (*heads, "samples_verdict")], *rows],
        "note": tell("continuation_table_note"),
    }


def not_continued(scores: Mapping[str, Any]) -> Texts:
    """That no held-out recording was continued, and why, by language."""
    reason = str(scores["continuations"].get("reason") or words("en")["continuation_not_recorded"])
    return in_languages("continuation_none", reason=recognised(reason, _REASONS))


def _meaning(results: Mapping[str, Any]) -> Texts:
    phrase, new = (format_number(results[key], 1) for key in ("phrase_seconds", "seconds"))
    return in_languages("continuation_meaning", phrase=phrase, seconds=new)


def continuation_sentence(scores: Mapping[str, Any]) -> Texts:
    """What became better and worse in the continuations, by language; empty where there are none."""
    results = scores.get("continuations")
    if not isinstance(results, dict) or not results.get("scores"):
        return {}
    changes = [(str(row["name"]), change) for row, change in _changes(results) if change is not None]
    shown = [
        in_languages(f"continuation_{verdict}", scores=listed(texts, "; "))
        for verdict in (sample_changes.WORSE, sample_changes.BETTER)
        if (texts := [_score(*each) for each in changes if each[1].verdict == verdict])
    ]
    if not changes:
        what = in_languages("continuation_not_testable")
    elif shown:
        verdicts = listed([shown[0], *({**part, "en": part["en"].capitalize()} for part in shown[1:])], ". ")
        what = in_languages("continuation_shown", verdicts=verdicts)
    elif any(change.verdict == sample_changes.TOO_FEW for _, change in changes):
        needed = sample_changes.remedy(scores, "phrases", int(results["recordings"]))
        what = in_languages("continuation_too_few", needed=needed)
    else:
        what = in_languages("continuation_same")
    return in_languages("continuation_begun", phrases=counted(int(results["clips"]), "held-out phrase"), what=what)


def _score(name: str, change: sample_changes.SampleChange) -> Texts:
    """The name of a score and its values, for a sentence."""
    after, before, real = (recognised(text, ["continuation_cents"]) for text in change.values)
    with_real = in_languages("continuation_real", real=real) if real["en"] else ""
    name_texts = in_languages(f"score_{name}")
    return in_languages("continuation_score", name=name_texts, after=after, before=before, real=with_real)


def _changes(results: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], sample_changes.SampleChange | None]]:
    """The rows in the order of NAMES, each with what the adapter changed, None where that was not measured."""
    rows = {row.get("name"): row for row in results["scores"] if isinstance(row, dict)}
    enough = int(results.get("recordings") or 0) >= HELD_OUT_TO_COMPARE  # with fewer, that is what is told
    testable = [row for row in rows.values() if row.get("testable", True) or not enough]
    changes = sample_changes.sample_changes({"scores": testable}, NAMES)
    by_name = {change.name: change for change in changes}
    return [(rows[key], by_name.get(name)) for key, (name, _) in NAMES.items() if key in rows]


def _row(row: Mapping[str, Any], change: sample_changes.SampleChange | None) -> dict[str, str]:
    name, show = NAMES[str(row["name"])]
    values = {key: _shown(row.get(key), show) for key in ("value", "baseline", "control", "reference")}
    return {"name": name, **values, "verdict": VERDICTS[change.verdict] if change else _why_none(row)}


def _why_none(row: Mapping[str, Any]) -> str:
    return "not measured" if row.get("value") is None else NOT_TESTABLE


def _shown(value: Any, show: Callable[[float], str]) -> str:
    return show(float(value)) if isinstance(value, int | float) else "-"


def _examples(result: RunResults, tracker: Tracker | None) -> tuple[list[ExampleGroup], int]:
    folder = Run(result.folder).continuations
    if not (folder / "manifest.jsonl").is_file():
        return [], 0
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in read_jsonl(folder / "manifest.jsonl"):
        if isinstance(row, dict) and row.get("file"):
            groups.setdefault(str(row["file"]).partition("-")[0], {})[str(row.get("role"))] = row
    shown = [
        ExampleGroup(_title(rows), None, [_card(result, role, rows.get(role), tracker) for role in TITLES])
        for rows in list(groups.values())[:MAX_EXAMPLES]
    ]
    return shown, max(0, len(groups) - MAX_EXAMPLES)


def _title(rows: Mapping[str, Mapping[str, Any]]) -> str:
    row = next(iter(rows.values()))
    return str(row.get("prompt") or f"{row.get('recording') or 'A recording'}, without words")


def _card(result: RunResults, role: str, row: Mapping[str, Any] | None, tracker: Tracker | None) -> AudioExample:
    if row is None:
        return AudioExample(role, TITLES[role], "", problem="it is missing in the folder")
    try:
        audio = read_audio(resolve_inside(Run(result.folder).continuations, str(row["file"])))
    except TalimError as error:
        return AudioExample(role, TITLES[role], "", problem=str(error))
    phrase_seconds = row.get("phrase_seconds")
    seam = float(phrase_seconds) if isinstance(phrase_seconds, int | float) and role != "phrase" else None
    drawing, voiced = spectrogram_of(TITLES[role], audio, tracker, seam)
    begins = "" if seam is None else f"goes on at {format_number(seam, 1)} s (dashed line)"
    origin = str(row.get("recording") or "") if role in ("phrase", "real") else ""
    details = ", ".join(filter(None, [origin, begins, voiced]))
    player = audio_player(audio, f"{TITLES[role]}: {row.get('recording')}")
    return AudioExample(role, TITLES[role], details, drawing, player)
