"""What commands print on stdout when they have finished."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim.corpus.corpus_folder import missing_captions_lines
from talim.corpus.labels import UNKNOWN_NAMES
from talim.corpus.metadata import MOST_UNMATCHED
from talim.corpus.recordings import GENERATED_COLUMN
from talim.html import formatting
from talim.html.languages import words
from talim.html.phrases import translate
from talim.licences import licence_remark
from talim.recordings_needed import COMPARISON_SENTENCE, held_out_note
from talim.reporting import (
    catalogue,
    continuation_section,
    human_ratings,
    predictor_sentences,
    run_results,
    sample_changes,
    sentences,
    study_sentences,
)
from talim.run import Run
from talim.terminal_text import printable

MAX_NAMES, MAX_NAME = 4, 50  # in one line on the terminal
ANSWERS = {True: "met", False: "not met", None: "not decided"}


def corpus_message(summary: Mapping[str, Any], out: Path, source: Path | str) -> str:
    """A corpus `out` prepared from `source`: size, split, licences, captions, copies, skipped files, a line each."""
    split = summary["split"]
    lines = [
        f"{formatting.format_counted(summary['clips'], 'clip')} of "
        f"{formatting.format_counted(summary['recordings'], 'recording')}{_in_files(summary)}, "
        f"{float(summary['seconds']) / 60:.1f} minutes",
        f"{_side(split['train'])} to train on, {_side(split['validation'])} to choose by (validation), "
        f"{_side(split['held_out'])} to test with (held out), split by {split['strategy']}",
        *filter(None, [split.get("explanation"), _few_recordings(summary)]),
        "licences: "
        + ", ".join(f"{name}{licence_remark(name)} ({n})" for name, n in summary["rights"]["licences"].items()),
    ]
    if generated := summary.get("ai_generated"):
        lines += _generated_lines(generated)
    if missing := summary.get("missing_captions"):
        lines += [printable(line) for line in missing_captions_lines(missing, out, source)]
    doubts = [row["note"] for row in summary["notes"] if row["file"] == UNKNOWN_NAMES]
    lines += [printable(f"unknown name, in captions as written: {line}") for line in doubts]
    lines += [printable(line) for line in sound_group_lines(summary)]
    alone = [row for row in summary["skipped"] if not row.get("copy_of") and GENERATED_COLUMN not in row]
    lines += [printable(f"skipped {row['file']}: {row['reason']}") for row in alone]
    unused = [row for row in summary["notes"] if MOST_UNMATCHED in row["note"]]  # said before the work, and far above
    lines += [printable(f"note: {row['file']}: {row['note']}") for row in unused]
    run = out.parent / f"{out.resolve().name}-run"
    train = f"talim train --corpus {shlex.quote(str(out))} --out {shlex.quote(str(run))}"
    lines += [f"page: {out / 'report' / 'index.html'}", f"next: {train}"]
    return "\n".join(lines)


def _side(amount: Mapping[str, Any]) -> str:
    clips = formatting.format_counted(amount["clips"], "clip")
    return f"{clips} of {formatting.format_counted(amount['recordings'], 'recording')}" if amount["clips"] else clips


def _few_recordings(summary: Mapping[str, Any]) -> str:
    """One note on both sides: fewer than half of the recordings are learned from, too few are held out."""
    held_out = int(summary["split"]["held_out"].get("recordings") or 0)
    few = held_out_note(held_out) if held_out else ""
    sentences_of = [_little_training(summary, held_out), few and f"{few}. {COMPARISON_SENTENCE}"]
    first, *more = [*filter(None, sentences_of)] or [""]
    return " ".join([f"note: {first}", *(f"{text[0].upper()}{text[1:]}" for text in more)]) if first else ""


def _little_training(summary: Mapping[str, Any], held_out: int) -> str:
    """That fewer than half of the recordings are learned from, and what gives more to learn from."""
    trained, recordings = summary["split"]["train"]["recordings"], summary["recordings"]
    if 2 * trained >= recordings:
        return ""
    validation = recordings - trained - held_out  # recordings of which no clip is trained on
    kept = f"{held_out} {'is' if held_out == 1 else 'are'} kept for the test"
    fewer = "fewer held out do too, but decide less"
    if validation > 0:
        kept += f" and {validation} for validation"
        fewer = "fewer held out may not, as validation takes a share of what they leave, and they decide less"
    learned = f"only {trained} of {formatting.format_counted(recordings, 'recording')} are learned from"
    advice = f"more recordings give more to learn from{f'; {fewer}' if held_out > 1 else ''}"
    return f"{learned}, as {kept}: {advice}."


def _in_files(summary: Mapping[str, Any]) -> str:
    """The number of files where several count as one recording, as they share a stretch of sound."""
    files = len(summary.get("source_levels", ()))
    return f" in {files} files" if files > summary["recordings"] else ""


def _generated_lines(generated: Mapping[str, Any]) -> list[str]:
    counted, lines = formatting.format_counted, []
    if generated["left_out"]:  # each was named when the work began
        lines.append(f"left out as AI-generated: {counted(generated['left_out'], 'file')}, named above")
    if generated["used"]:
        held_out = f", {generated['held_out']} of them held out" if generated["held_out"] else ""
        lines.append(f"AI-generated and used on purpose: {counted(len(generated['used']), 'recording')}{held_out}")
    return lines


def sound_group_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line for each set of recordings with the same sound: copies, which are left out, and common stretches."""
    copies: dict[str, list[str]] = {}
    for row in summary["skipped"]:
        if row.get("copy_of"):
            copies.setdefault(row["copy_of"], []).append(row["file"])
    lines = [f"same sound as {_short(name)}, left out: {_few(files)}" for name, files in copies.items()]
    groups: list[set[str]] = []
    for pair in summary["near_duplicates"]:
        joined = {pair["first"], pair["second"]}
        apart = [group for group in groups if not group & joined]
        groups = [*apart, joined.union(*(group for group in groups if group & joined))]
    return lines + [f"share a stretch of sound, so count as one recording: {_few(sorted(group))}" for group in groups]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(_short, names[:MAX_NAMES])) + more


def _short(name: str) -> str:
    """A long name without its middle."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME // 2]}...{name[-MAX_NAME // 2 :]}"


def training_message(folder: Path) -> str:
    """A finished training: its steps, time and stored weights, whether these are untrained, and the next command."""
    result = run_results.read_result(folder)
    cost = result.cost
    loss, best = cost["best_validation_loss"], "no validation: the weights of the last step are stored"
    if loss is not None:
        unit, step = cost.get("loss_unit", "nats"), cost["best_step"]
        best = (
            f"lowest prediction error on validation clips (loss) {formatting.format_number(loss)} {unit} at step {step}"
        )
        if cost["stored_step"] != step:
            best += f"; stored are the weights of the last step, {cost['stored_step']} (training.save_weights=last)"
    early = " (stopped early)" if cost.get("stopped_early") else ""
    lines = [
        f"{formatting.format_counted(cost['steps'], 'step')}{early} in "
        f"{formatting.format_duration(cost['wall_seconds'])}; {best}",
        sentences.unchanged_sentence(result),
        *_after_training(result),
    ]
    return "\n".join(filter(None, lines))


def _after_training(result: run_results.RunResults) -> list[str]:
    """What to type after a training: the evaluation, or, where it changed nothing, a training that may."""
    if not sentences.unchanged_sentence(result):
        return [f"next: talim evaluate {shlex.quote(str(result.folder))}"]
    return [
        "A lower learning rate, as in the command below, may learn something; more recordings to train on help most. "
        "With --set training.save_weights=last added to it, the last weights are stored whatever validation says.",
        f"next: {Run(result.folder).gentler_command}",
    ]


def evaluation_message(folder: Path) -> str:
    """An evaluated run: the loss, the effect of the adapter, the next command. Its warnings were told as they arose."""
    result = run_results.read_result(folder)
    continued = continuation_section.continuation_sentence(result.scores).get("en", "")
    return "\n".join(
        [
            sentences.loss_sentence(result),
            *filter(None, [predictor_sentences.standing_sentences(result.losses).get("en")]),
            *filter(None, [sentences.start_sentence(result)]),
            sample_changes.samples_sentence(result.scores)["en"],
            *sample_changes.samples_table(result.scores),
            *filter(None, [continued]),
            sentences.effect_sentence(result),
            f"next: talim report {shlex.quote(str(folder))}",
        ]
    )


def report_message(page: Path, folder: Path, study: Mapping[str, Any] | None = None) -> str:
    """The page that was written, and what to type next; of a `study` also its controls, verdicts and headline."""
    named, browser = shlex.quote(str(folder)), "next: open this page in a browser"
    if study is not None:
        return "\n".join([str(page), *_study_lines(study), browser])
    if not run_results.is_run(folder):
        return f"{page}\n{browser}"
    result = run_results.read_result(folder)
    if not result.finished:
        return f"{page}\n{sentences.stage_of(result)}; next: {Run(folder).resume_command}"
    if not result.scores:
        return "\n".join([str(page), *_after_training(result)])
    return f"{page}\n{browser}; a blind test of its audio: {human_ratings.listen_command(named)}"


def _study_lines(study: Mapping[str, Any]) -> list[str]:
    """Controls, then verdicts, then the headline of study.json, which the controls may keep from naming a design."""
    lines = [line for line in (study_sentences.controls_text(study["controls"]),) if line]
    for row in study["verdicts"]:
        reason = f" ({row['reason']})" if row["reason"] else ""
        lines.append(printable(f"hypothesis {row['id']}: {row['verdict']}{reason}"))
    return [*lines, printable(study["summary"]["headline"])] if study["summary"] else lines


def folder_scores_message(result: Mapping[str, Any], out: Path | None = None) -> str:
    """Scores of a folder of generated audio, a line each, the warnings, and where they are kept (`out`)."""
    generated, real = result["generated"], result["real"]
    files = f"{formatting.format_counted(generated['files'], 'generated file')} against {real['files']} real ones"
    header = f"{files}; scores are comparable only within one protocol, this is {result['protocol']['hash']}"
    kept = f"page: {out.with_suffix('.html')}" if out else "next: the same command with --out scores.json keeps a page"
    notes = (f"note: {text}" for text in result["warnings"])
    return "\n".join([header, *(row["sentence"] for row in result["scores"]), *notes, kept])


def people_message(result: Mapping[str, Any], language: str = "en") -> str:
    """What reviewers or listeners decided: the sentences of the result, and the page."""
    page = catalogue.translator(language)("message_page", page=result["page"])
    return "\n".join([*_said(result, "sentences", language), page])


def poc_message(result: Mapping[str, Any], language: str = "en") -> str:
    """The result of `talim poc` or `talim demo`: sentences, gates, why it stopped, the page, a blind test.

    What a result has in English alone is told in English.
    """
    tell = catalogue.translator(language)
    gates = [tell("message_gate", title=t, answer=a) for t, a in _gates(result.get("stages"), language)]
    lines = [
        *_said(result, "sentences", language),
        *sample_changes.samples_table(result.get("scores") or {}, language),
        *_next_steps(result, language),
        stored_sentences((result.get("tuning") or {}).get("note") or "", language),
        _said(result.get("learning_curve") or {}, "sentence", language),
        *(stored_sentences(line, language) for row in result.get("continuations") or [] for line in row["sentences"]),
        tell("message_gates", gates=words(language)["comma"].join(gates)) if gates else "",
        _said(result, "stopped", language),
        _said(result, "time_note", language),
        *(tell("message_music", command=command) for command in result.get("make_music") or []),
        tell("message_page", page=result["page"]),
        tell("message_blind", command=result["listen"]) if "listen" in result else "",
    ]
    return "\n".join(line for line in lines if line)


def _said(result: Mapping[str, Any], key: str, language: str) -> Any:
    """What a result says under a key: in the language where it has it, else in English."""
    return (result.get(f"{key}_translated") or {}).get(language) or result.get(key)


def _next_steps(result: Mapping[str, Any], language: str) -> list[str]:
    """What to do next, a line each; in English alone where a result has it as one text."""
    steps = [f"{step.get(language) or step['en']} {step['command']}".strip() for step in result.get("next_steps") or ()]
    return steps or [result.get("next_step", "")]


def _gates(rows: Sequence[Mapping[str, Any]] | None, language: str) -> list[tuple[str, str]]:
    """Titles and answers of stages."""
    known = words(language, "poc")
    titles, answers = known.get("titles", {}), known.get("answers", {})
    return [
        (titles.get(row.get("name"), row.get("title", "")), answers.get(answer, answer))
        for row in rows or []
        for answer in [ANSWERS[row["passed"]]]
    ]


def stored_sentences(text: str, language: str) -> str:
    """What a proof of concept stored in English alone, by the phrases of words/LANGUAGE/poc.json."""
    phrases = words(language, "poc").get("phrases", {})
    each = (translate(sentence, phrases) for sentence in re.split(r"(?<=[.]) (?=[A-Z])", text))
    return catalogue.join(each, language)
