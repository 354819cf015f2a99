"""Writes one self-contained page about one or several runs: audio, scores, curves, cost, data and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from markupsafe import Markup

from talim.atomic_io import write_text
from talim.backbones import registry
from talim.errors import UsageError
from talim.evaluation.predictor_comparison import may_be_chance
from talim.evaluation.protocol import require_same_protocol
from talim.experiments.goals import SelectionCriteria
from talim.experiments.results import RESULTS, is_study
from talim.html import formatting, plots
from talim.html.languages import languages, words
from talim.html.render import render
from talim.licences import allows_commercial_use
from talim.recordings_needed import HELD_OUT_TO_COMPARE
from talim.reporting import (
    audio_examples,
    commands,
    continuation_section,
    cost_quality_use,
    human_ratings,
    predictor_sentences,
    sample_changes,
    sentences,
    tables,
)
from talim.reporting.catalogue import Texts, counted, in_languages, recording_values, shown_ends, translator
from talim.reporting.run_results import RunResults, find_runs, read_result
from talim.reporting.study_report import study_report
from talim.version import __version__


def write_report(  # noqa: PLR0913
    folder: Path | str,
    criteria: SelectionCriteria | None = None,
    claims_file: Path | None = None,
    *,
    audio: bool = True,
    extra_sections: Sequence[Markup] = (),
    main_run: Path | None = None,
    price_per_hour: float | None = None,
    spent: Mapping[str, Any] | None = None,
    larger: Mapping[str, Any] | None = None,
    advised: bool = False,
) -> Path:
    """Write FOLDER/report/index.html and return its path; reads files only, loads no torch.

    FOLDER is a study (it holds results.jsonl), a run, or a folder of runs: then `main_run` (else the first with audio)
    is shown in full, and a table compares all. `extra_sections` are HTML sections shown after the result;
    `price_per_hour` is that of the machine, and `spent` its seconds where more was done than one training
    (`cost_quality_use.points`); `larger` has the registry's name of the "base" to go on with after a miniature, the
    "command" for it where it is known, and what is planned (`commands.full_training_text`). `advised`: an extra
    section says how to hold out more.
    `criteria`, claims and `audio` apply to studies: UsageError for a run. TalimError if there is no run or a file is
    damaged; values that were not measured are marked as such.
    """
    folder = Path(folder)
    if is_study(folder):
        return study_report(folder, criteria, claims_file, audio=audio)
    if criteria is not None or claims_file is not None or not audio:
        raise UsageError(f"{folder} holds no {RESULTS}: goals, limits, claims and --no-audio are for studies")
    results = [read_result(path) for path in find_runs(folder)]
    protocols = {str(each.folder): each.scores.get("protocol") for each in results}
    require_same_protocol(
        {folder: protocol for folder, protocol in protocols.items() if isinstance(protocol, dict)},
        "run talim evaluate on both with the same settings, or report on each alone",
    )
    result = next((each for each in results if each.samples), results[0])
    result = next((each for each in results if each.folder == main_run), result)
    target = folder / "report" / "index.html"
    values = context(folder, result, results, extra_sections, price_per_hour, spent, advised=advised)
    notice = miniature_notice(result, larger or {}, price_per_hour)
    write_text(
        target, render("report.html", **values | {"notice": notice} | _translated(result, values["points"], notice))
    )
    return target


def context(
    folder: Path,
    result: RunResults,
    results: Sequence[RunResults],
    extra_sections: Sequence[Markup] = (),
    price_per_hour: float | None = None,
    spent: Mapping[str, Any] | None = None,
    *,
    advised: bool = False,
) -> dict[str, Any]:
    """Every value of the template, in its order."""
    has_audio = any(sample.path.is_file() for sample in result.samples)
    tracker = audio_examples.pitch_tracker() if has_audio else None
    examples, more = audio_examples.collect_audio_examples(result, tracker)
    ratings = human_ratings.load_ratings(folder, folder / "report" / "index.html")
    judged = [sentence for rating in ratings for sentence in rating.sentences[:1]]
    points = cost_quality_use.points(result, price_per_hour, judged, spent, advised=advised)
    return {
        "version": __version__,
        "title": folder.resolve().name,
        "result": result,
        "heading": heading(result),
        "deck": subtitle(result),
        "notice": miniature_notice(result),
        "verdict": sentences.loss_verdict(result),
        "figures": key_figures(result, spent),
        "points": points,
        **_translated(result, points, miniature_notice(result)),
        "details": details(result, with_copies=not extra_sections),  # those of a proof of concept have them
        "predictor_rows": predictor_sentences.predictor_rows(result.losses),
        "predictor_note": predictor_sentences.unigram_sentence(result.losses).get("en", ""),
        "samples": _samples(result),
        "continued": {
            language: continuation_section.continuation_table(result.scores, language) for language in languages()
        },
        "unfinished": sentences.unfinished_sentence(result),
        "caution": (result.losses.get("loss_reduction") or {}).get("ci_note") or "",
        "reduction_plots": loss_reduction_plots(result),
        "runs": runs_table(folder, results) if len(results) > 1 else [],
        "extra_sections": extra_sections,
        "continuation": continuation_section.continuation_section(result, tracker),
        "ratings": ratings,
        "examples": examples,
        "more_examples": more,
        "loss_plots": loss_plots(result),
        "part_plots": part_plots(result),
        "meaning": sentences.loss_meaning(result),
        "cost": tables.cost_table(result),
        "data": tables.data_table(result),
        "corpus_note": result.corpus_note,
        "skipped": result.corpus.get("skipped") or [],
        "make_music": make_music_commands(result),
        "commands": commands.reproduce_commands(result),
        "provenance": tables.provenance_table(result),
        "recipe": yaml.safe_dump(result.recipe, sort_keys=False, allow_unicode=True) if result.recipe else "",
    }


def _translated(
    result: RunResults, points: Mapping[str, Sequence[str]], notice: Mapping[str, Any] | None
) -> dict[str, Any]:
    """{"translated": what the page says of the result, by language}."""
    by_language = {
        language: [
            *_notice_with_commands(notice, language),
            *points_of,
            *_with_commands(translator(language)("make_music"), *make_music_commands(result)),
            *filter(None, [_standing(result, language)]),
            *filter(None, [sentences.copies_texts(result.scores).get(language) if result.finished else None]),
            *continuation_section.translated_sentences(result.scores, language),
        ]
        for language, points_of in points.items()
    }
    return {"translated": by_language}


def _notice_with_commands(notice: Mapping[str, Any] | None, language: str) -> list[str | dict[str, str]]:
    if not notice:
        return []
    tell = translator(language)
    items = [
        *(text[language] for text in notice["texts"]),
        *_with_commands(tell("notice_command"), notice["command"]),
        *_with_commands(tell("notice_plan"), *filter(None, [notice["plan_command"]])),
    ]
    return [*items, *_with_commands(notice["sale"][language], notice["saleable_command"])] if notice["sale"] else items


def _with_commands(sentence: str, *commands: str) -> list[str | dict[str, str]]:
    """A sentence, then the commands that it leads to; nothing without any."""
    return [sentence, *({"command": command} for command in commands)] if commands else []


def details(result: RunResults, with_copies: bool = True) -> list[str]:
    """The loss, what the adapter changes and what was found of copies; nothing before training is finished."""
    if not result.finished:
        return []
    of = (sentences.loss_sentence, sentences.melody_sentence, sentences.start_sentence, sentences.effect_sentence)
    copies = [str((result.scores.get("copies") or {}).get("sentence") or "")] if with_copies else []
    standing = _standing(result, "en")
    return [text for text in [of[0](result), standing, *(sentence(result) for sentence in of[1:]), *copies] if text]


def _samples(result: RunResults) -> dict[str, Any]:
    """The table of scores of the generated audio by language; empty where nothing was measured."""
    if not sample_changes.samples_rows(result.scores):
        return {}
    return {
        language: {
            "label": translator(language)("samples_label"),
            "caption": translator(language)("samples_caption"),
            "rows": sample_changes.samples_rows(result.scores, language),
            "note": sample_changes.distances_note(result.scores, language),
        }
        for language in languages()
    }


def _standing(result: RunResults, language: str) -> str:
    """Where the loss stands to predictors that need no model, with its figures; empty if not measured."""
    return predictor_sentences.standing_sentences(result.losses, with_levels=False).get(language, "")


def heading(result: RunResults) -> str:
    """The page's title: the base, and how far training has come."""
    if result.finished:
        return f"{result.base['name']}, before and after"
    return f"{result.base['name']}: training {'is not finished' if result.steps_done else 'has not begun'}"


def subtitle(result: RunResults) -> str:
    """One line under the title: the design, its training data, and the steps so far."""
    music = result.training_music
    listed = music.get("recordings")
    recordings = listed if isinstance(listed, int) else len(listed) if isinstance(listed, list) else 0
    parts = [f"The adapter {result.design}" if result.design else "An adapter"]
    if result.scored_adapter:
        return f"{parts[0]} of {result.scored_adapter.get('name')}, scored without a run of its own."
    if result.start:
        parts[0] += f", begun from {result.start.get('name')}"
    if recordings and music.get("seconds"):
        amount = formatting.format_duration(music["seconds"])
        verb = "trained" if result.finished else "to be trained"
        parts.append(f"{verb} on {formatting.format_counted(recordings, 'recording')}, {amount} of music")
    if result.steps_done or not result.finished:
        parts.append(sentences.stage_of(result))
    return ", ".join(parts) + "."


def miniature_notice(
    result: RunResults, larger: Mapping[str, Any] = MappingProxyType({}), price_per_hour: float | None = None
) -> dict[str, Any] | None:
    """For a miniature: sentences by language ("texts") and commands, of the base to use instead, its download size
    and licence, a full training of it with the planned hours and their price, and what the miniature says of it.

    `larger` is that of `write_report`. Beside a base whose licence forbids to sell its music, also one that may be
    sold.
    """
    if not result.miniature:
        return None
    usable, saleable = registry.MODELS[larger.get("base", commands.REFERENCE_BASE)], saleable_base()
    full = commands.full_training(result, usable.name)
    training = commands.poc_training(full)
    for_sale = allows_commercial_use(usable.licence) == "allowed"
    use = " --use commercial" * for_sale
    price = "" if price_per_hour is None else f" --price-per-hour {formatting.format_setting(price_per_hour)}"
    plan = commands.plan_command(result, usable.name)
    forbids = in_languages("miniature_not_for_sale") if "NC" in usable.licence else ""
    about = [
        in_languages("miniature_what", base=str(result.base["name"])),
        sentences.carry_over_sentence(result, usable.hub_id) if result.finished else {},
        in_languages("miniature_next", **_offer(usable), forbids=forbids),
        {} if full is None else commands.full_training_text(full, larger, price_per_hour),
    ]
    sale = {} if for_sale else in_languages("miniature_sale", **_offer(saleable))
    return {
        "texts": [text for text in about if text],
        "planned": full is not None and larger.get("hours") is not None,
        "plan_command": plan and f"{plan}{price}",
        "command": larger.get("command") or f"talim poc FOLDER --base {usable.hub_id}{training}{use}{price} --out DIR",
        "sale": sale,
        "saleable_command": f"talim poc FOLDER --base {saleable.hub_id} --use commercial --out DIR",
    }


def hold_out_first(result: RunResults) -> Texts:
    """What to do before a longer training where too few recordings are held out to decide; empty for enough."""
    held_out = len((result.losses.get("loss_reduction") or {}).get("per_recording") or {})
    if not 0 < held_out < HELD_OUT_TO_COMPARE:
        return {}
    count = int((result.scores.get("corpus") or {}).get("recordings") or held_out)
    more = sample_changes.hold_out_more(count, HELD_OUT_TO_COMPARE)
    return in_languages("next_hold_out", more=more, recordings=counted(held_out, "held-out recording"))


def _offer(base: registry.ModelEntry) -> dict[str, str]:
    size = formatting.format_bytes(base.download_gb * formatting.GB)
    return {"base": base.hub_id, "licence": base.licence, "download": size}


def larger_base(license_use: str) -> registry.ModelEntry:
    """The base to go on with after a miniature, for the use that `--use` names."""
    return saleable_base() if license_use == "commercial" else registry.MODELS[commands.REFERENCE_BASE]


def saleable_base() -> registry.ModelEntry:
    """The base with the smallest download, shipped miniatures aside, whose licence allows commercial use."""
    allowed = [
        entry
        for entry in registry.MODELS.values()
        if entry.hub_id and allows_commercial_use(entry.licence) == "allowed"
    ]
    return min(allowed, key=lambda entry: entry.download_gb)


def make_music_commands(result: RunResults) -> list[str]:
    """The command that generates music with a trained run: a caption that it was trained on, as an example."""
    if not (result.folder / "adapter").is_dir() or not result.recipe or not result.finished:
        return []
    prompt = result.corpus.get("example_caption") or next((each.prompt for each in result.samples if each.prompt), "")
    return [commands.generate_command(result.folder, result.adapter, prompt or "music")]


def key_figures(result: RunResults, spent: Mapping[str, Any] | None = None) -> list[tuple[str, str, bool, str]]:
    """Up to three key numbers: each with its meaning, whether it is a change shown not to be chance, and a doubt.

    What the adapter changes on held-out recordings, the trained fraction, and the time, that of the whole first.
    """
    change, seconds = sentences.plain_change(result), result.cost.get("wall_seconds")
    fraction, figures = sentences.trained_fraction(result), []
    if change is not None:
        by_chance = may_be_chance(result.losses["loss_reduction"])
        meaning = (
            "the probability that what really comes next in held-out recordings is given"
            if result.loss_unit == "nats"
            else "the error of the prediction on held-out recordings"
        )
        shown = change if result.loss_unit == "nats" else -change
        sign = "+" if shown > 0 else "−" if shown < 0 else ""
        doubt = words("en")["point_by_chance"] if by_chance else ""
        better = f" ({'better' if change > 0 else 'worse'})" if change and not doubt else ""
        meaning = f"{meaning}, against the untrained base{better}"
        figures.append((f"{sign}{sentences.plain_percent(change)}", meaning, bool(change) and not by_chance, doubt))
    if fraction is not None:
        figures.append((formatting.format_percent(fraction), "of the base's size was trained", False, ""))
    if spent:
        whole = "of machine time in all"
        part = "" if seconds is None else f", {formatting.format_duration(seconds)} of it training this design"
        figures.append((formatting.format_duration(spent["seconds"]), f"{whole}{part}", False, ""))
    elif seconds is not None:
        figures.append((formatting.format_duration(seconds), "of training, without evaluation", False, ""))
    return figures


def loss_reduction_plots(result: RunResults) -> dict[str, Markup]:
    """The loss reduction of each held-out recording, and their mean with its interval."""
    reduction = result.losses.get("loss_reduction") or {}
    rows = [
        plots.ErrorBar(str(name), *_value_and_ends(value))
        for name, value in (reduction.get("per_recording") or {}).items()
    ]
    if not rows or reduction.get("mean") is None:
        return {}
    ends = shown_ends(*sentences.interval_of(reduction), recording_values(reduction))
    label = "mean" if ends == (None, None) else "mean, 95 % interval"
    rows.append(plots.ErrorBar(label, reduction["mean"], *ends, strong=True))
    alt = "; ".join(f"{row.label}: {formatting.format_number(row.value)}" for row in rows)
    label = f"loss reduction in {result.loss_unit}, right is better"
    return plots.responsive_pair(rows, alt=f"Loss reduction, {alt}.", x_label=label, widths_inches=(8.4, 4.4))


def _value_and_ends(value: Any) -> tuple[float, float | None, float | None]:
    return (value["mean"], *sentences.interval_of(value)) if isinstance(value, dict) else (float(value), None, None)


def runs_table(folder: Path, results: Sequence[RunResults]) -> list[dict[str, str]]:
    """A row for each run: its folder, design, base, steps and loss reduction."""
    rows = []
    for result in results:
        reduction = result.losses.get("loss_reduction") or {}
        mean = reduction.get("mean")
        row = {
            "name": result.folder.relative_to(folder).as_posix(),
            "design": result.design,
            "base": str(result.base["name"]),
            "stage": sentences.stage_of(result),
            "loss_reduction": sentences.NOT_MEASURED if mean is None else formatting.format_number(mean),
            "ci95": formatting.format_ci(
                *sentences.interval_of(reduction), missing="", values=recording_values(reduction)
            ),
        }
        rows.append(row)
    return rows


def loss_plots(result: RunResults) -> dict[str, Markup]:
    """Training and validation loss over the steps, for a wide and a narrow screen."""
    train, validation = ([row for row in result.log if row.get("split") == split] for split in ("train", "validation"))
    lines = [line for line in (_smoothed(train), _line(validation, "validation", "accent")) if line.xs]
    if not lines:
        return {}
    alt = "Loss over the training steps. " + " ".join(_log_message(line) for line in lines)
    return plots.responsive_curves(lines, alt=alt, x_label="training step", y_label=f"loss in {result.loss_unit}")


def part_plots(result: RunResults) -> list[Markup]:
    """The validation loss of each part: by codebook, or by noise level."""
    validation = [row for row in result.log if row.get("split") == "validation" and row.get("parts")]
    if len(validation) < 2:
        return []
    drawings = []
    for index in range(len(validation[0]["parts"])):
        line = plots.LineSeries([row["step"] for row in validation], [row["parts"][index] for row in validation], "")
        title = part_title(validation[0].get("part_names") or [], index)
        alt = f"{title}: {_log_message(line)}"
        drawings.append(plots.curve_plot([line], alt=alt, title=title, size_inches=(4.4, 2.1)))
    return drawings


def part_title(names: Sequence[str], index: int) -> str:
    """A part's title; codebooks are counted from 1."""
    name = names[index] if index < len(names) else f"codebook {index}"
    return f"Codebook {index + 1}" if name.startswith("codebook") else name.capitalize()


def _line(rows: list[dict[str, Any]], label: str, role: plots.Role) -> plots.LineSeries:
    return plots.LineSeries([row["step"] for row in rows], [row["loss"] for row in rows], label, role)


def _smoothed(rows: list[dict[str, Any]], points: int = 40) -> plots.LineSeries:
    """Means over neighbouring steps: the loss of one batch depends more on the batch than on the model."""
    width = max(1, len(rows) // points)
    groups = [rows[start : start + width] for start in range(0, len(rows) - width + 1, width)]
    means = [{key: sum(row[key] for row in part) / width for key in ("step", "loss")} for part in groups]
    return _line(means, "training", "quiet")


def _log_message(line: plots.LineSeries) -> str:
    name = f"{line.label.capitalize()} " if line.label else ""
    first, last = (formatting.format_number(line.ys[end], 2) for end in (0, -1))
    return f"{name}from {first} to {last}." if len(line.ys) > 1 else f"{name}{first}, at one step."
