"""Sentences of a study's report: the best design, the recommended one, its cost, caveats, hypotheses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from talim.backbones.registry import is_miniature
from talim.experiments.goals import SelectionCriteria
from talim.experiments.recommend import BY_CORPUS, DEMONSTRATED, INCONCLUSIVE, NOTHING, WITHHELD
from talim.experiments.results import ANY_LEVEL, StudyResults
from talim.html.formatting import (
    NOT_KNOWN,
    format_bytes,
    format_ci,
    format_count,
    format_counted,
    format_duration,
    format_number,
    format_p_value,
    format_percent,
    format_scientific,
)
from talim.html.languages import languages, words
from talim.reporting.catalogue import counted, duration, in_languages, interval_in_languages, join, named
from talim.reporting.sentences import NOT_MEASURED

LOGARITHMS = ("log_seconds", "log_memory")
WORDS = words("en", "study")
COSTS = {
    "parameters": ("trained parameters", format_count),
    "flops": ("FLOPs of training", format_scientific),
    "seconds": ("training time", format_duration),
    "memory": ("peak memory", format_bytes),
    "bytes": ("adapter on disk", format_bytes),
}


def measure_name(measure: str) -> str:
    """A measure as text: `score.ngram_repetition` becomes `ngram repetition`."""
    return WORDS["measures"].get(measure, measure.removeprefix("score.").replace("_", " "))


def recommendation_text(found: Mapping[str, Any]) -> str:
    """One recommendation of study.json in one or two sentences."""
    texts, design, outcome = WORDS["recommendations"], found["design"], found["outcome"]
    values = {**found, "unresolved": len(found["unresolved"])}
    if outcome == NOTHING:
        values["missing"] = ", ".join(map(measure_name, found["missing"])) or "every design"
    elif outcome == INCONCLUSIVE:
        outcome += "_best" if design == found["best"] else "_cheaper"
        chosen = _candidate(found, design)
        values |= {"gap": format_number(chosen["gap"]), "ends": format_ci(chosen["gap_low"], chosen["gap_high"])}
    elif outcome == WITHHELD:
        values["controls"] = listed(found["not_passed"])
    elif outcome == BY_CORPUS:
        choices = "; ".join(f"{corpus}: {choice}" for corpus, choice in found["choices"].items())
        values |= {**_interaction(found), "choices": choices}
    elif outcome == DEMONSTRATED:
        objective = found["objectives"][0]
        values |= {"margin": format_number(objective["margin"]), "measure": measure_name(objective["measure"])}
        key = f"{outcome}_{'best' if design == found['best'] else 'cheaper'}"
        more = texts["cheaper_not_shown"] if found["within_margin"] != design else ""
        return (texts[key] + more).format(**values)
    return texts[outcome].format(**values)


def _interaction(found: Mapping[str, Any]) -> dict[str, str]:
    """The test of whether the best design depends on the corpus."""
    interaction = found["interaction"]
    df = ", ".join(format_number(each, 0) for each in interaction["df"])
    return {"df": df, "f": format_number(interaction["f"], 1), "p": format_p_value(interaction["p_value"])}


def controls_text(controls: Sequence[Mapping[str, Any]]) -> str:
    """How many controls passed, and the names of the others; empty without any."""
    failed = [control["name"] for control in controls if not control["passed"]]
    if not controls:
        return ""
    if not failed:
        return f"{'All' if len(controls) > 1 else 'The'} {format_counted(len(controls), 'control')} passed."
    return (
        f"{len(controls) - len(failed)} of {format_counted(len(controls), 'control')} passed; not "
        f"{listed(list(dict.fromkeys(failed)))}."
    )


def listed(names: Sequence[str]) -> str:
    """Names as text: `rate, planted and equal`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


# A sentence by language, and its key figure
SummaryPart = tuple[dict[str, str], dict[str, Any]]


def summary(base: Mapping[str, Any], criteria: SelectionCriteria) -> dict[str, Any]:
    """A headline, three sentences with a key figure and its interval each, and one on use, in every language."""
    found = base["recommendations"][0]
    if found["outcome"] == NOTHING:
        translated = {language: [words(language, "study")["recommendations"][NOTHING]] for language in _translations()}
        return {"headline": found["text"], "en": [found["text"]], **translated, "figures": []}
    caveat = miniature_caveat([base["base"]]) if is_miniature(base["base"]) else {}
    caveat |= {"en": ""}  # shown above the results
    use = {code: join([words(code)["use"], caveat.get(code, "")], code) for code in languages()}
    if not found["design"]:
        mean, unit = found["best_mean"], f" {base['unit']}" if base["unit"] else ""
        values = {"amount": format_number(mean["mean"]) + unit, "ends": format_ci(mean["low"], mean["high"])}
        best = [WORDS["recommendations"]["best_so_far"].format(design=found["best"], **values)]
        sentences = [found["text"], *(best if found["outcome"] == WITHHELD else []), use["en"]]
        translated = {code: [*_without_a_design(base, found, code), use[code]] for code in _translations()}
        return {"headline": WORDS["headlines"][found["outcome"]], "en": sentences, **translated, "figures": []}
    parts = [_quality(base, found), _choice(base, found, criteria), _cost(base, found)]
    return {
        "headline": WORDS["headlines"][found["outcome"]].format(design=found["design"]),
        **{language: [*(texts[language] for texts, _ in parts), use[language]] for language in languages()},
        "figures": [figure for _, figure in parts],
    }


def _translations() -> list[str]:
    """The languages besides English that say why no design is recommended."""
    return [language for language in languages("study") if language != "en"]


def _without_a_design(base: Mapping[str, Any], found: Mapping[str, Any], language: str) -> list[str]:
    """Why no design is recommended, in another language than English."""
    known, comma = words(language, "study"), words(language)["comma"]
    texts = known["recommendations"]
    if found["outcome"] == BY_CORPUS:
        choices = comma.join(
            texts["choice"].format(corpus=corpus, choice=choice) for corpus, choice in found["choices"].items()
        )
        return [texts[BY_CORPUS].format(**_interaction(found), choices=choices)]
    controls = comma.join(known["controls"].get(name, name) for name in found["not_passed"])
    mean = found["best_mean"]
    amount = in_languages("amount", value=format_number(mean["mean"]), unit=base["unit"])[language]
    best = texts["best_so_far"].format(design=found["best"], amount=amount, interval=_interval(mean)[language])
    return [texts[WITHHELD].format(controls=controls), best]


def _quality(base: Mapping[str, Any], found: Mapping[str, Any]) -> SummaryPart:
    """The best design and its mean."""
    measure, best = found["objectives"][0]["measure"], found["best"]
    count, corpora, unit = len(found["candidates"]), len(found["corpora"]), base["unit"]
    name, mean = measure_name(measure), format_number(found["best_mean"]["mean"])
    texts = in_languages(
        "quality",
        base=base["base"],
        designs=counted(count, "design"),
        best=in_languages(f"best_{measure}" if f"best_{measure}" in words("en") else "best_other", measure=name),
        design=best,
        amount=_with_unit(mean, unit),
        interval=_interval(found["best_mean"]),
        corpora=counted(corpora, "corpus") | {"en": f"{corpora} corpora" if corpora != 1 else "1 corpus"},
    )
    figure = _figure(mean, f"{name} with {best}{f', in {unit}' if unit else ''}", found["best_mean"])
    low, high = found["best_mean"]["low"], found["best_mean"]["high"]
    return texts, figure | {"shown": bool(low and low > 0) or bool(high and high < 0)}  # not by chance


def _choice(base: Mapping[str, Any], found: Mapping[str, Any], criteria: SelectionCriteria) -> SummaryPart:
    """The recommended design and its distance from the best; if it is the best, the distance of the next best."""
    design, outcome = found["design"], found["outcome"]
    key = f"{'best' if design == found['best'] else 'cheaper'}_{outcome}"
    chosen = measured = _candidate(found, design)
    if key == f"best_{DEMONSTRATED}":
        others = [each for each in found["candidates"] if each["design"] != design]
        measured = min(others, key=lambda each: each["gap"])
    ends, amount = {"low": measured["gap_low"], "high": measured["gap_high"]}, format_number(measured["gap"])
    texts = in_languages(
        key,
        design=design,
        second=measured["design"],
        amount=_with_unit(amount, base["unit"]),
        interval=_interval(ends),
        tolerance=format_percent(criteria.tolerance),
        unresolved=len(found["unresolved"]),
    )
    stability = in_languages("stability", fraction=format_percent(chosen["selected_fraction"]))
    gap = f"gap of {design} to the best" if measured is chosen else f"gap of {measured['design']}, the next best"
    meaning = f"{measure_name(found['objectives'][0]['measure'])}: {gap}"
    return {language: texts[language] + stability[language] for language in texts}, _figure(amount, meaning, ends)


def _cost(base: Mapping[str, Any], found: Mapping[str, Any]) -> SummaryPart:
    """The training time of all trials first; trained parameters and time of the design, beside a reference if any."""
    texts, figure = _design_cost(found)
    training = base.get("training") or {}  # none in files of earlier versions
    if training.get("seconds") is None:
        return texts, figure
    trials = counted(training["trials"], "trial")
    whole = in_languages("cost_study", trials=trials, time=duration(training["seconds"]))
    return {language: join([whole[language], texts[language]], language) for language in languages()}, figure


def _design_cost(found: Mapping[str, Any]) -> SummaryPart:
    design, percent, ratio = found["design"], found["trained_percent"], found["cost_ratios"].get("seconds")
    costs = _candidate(found, design)["costs"]
    trained, seconds = format_count(costs["parameters"] or 0), costs["seconds"]
    of_base = in_languages("of_base", percent=format_percent(percent / 100)) if percent else ""
    if ratio is None:
        time = format_duration(seconds) if seconds is not None else f"a time that was {NOT_MEASURED}"
        figure = {"value": trained, "meaning": f"trained parameters of {design}", "ci95": None, "doubt": ""}
        return in_languages("cost", trained=trained, of_base=of_base, time=time), figure
    values = {"ratio": format_number(ratio["ratio"], 2), "reference": found["reference"], "interval": _interval(ratio)}
    figure = _figure(values["ratio"], f"times the training time of {found['reference']}", ratio, 1)
    return in_languages("cost_ratio", trained=trained, of_base=of_base, **values), figure


def _with_unit(value: str, unit: str) -> str | dict[str, str]:
    return in_languages("amount", value=value, unit=unit) if unit else value


def _figure(value: str, meaning: str, ends: Mapping[str, Any], no_change: int = 0) -> dict[str, Any]:
    """A key figure with its interval, and that it is not told apart from what would be no change, where it is so."""
    low, high = ends["low"], ends["high"]
    doubt = low is not None and high is not None and low <= no_change <= high and low < high
    figure = {"value": value, "meaning": meaning, "ci95": format_ci(low, high)}
    return figure | {"doubt": f"not told apart from {no_change}" if doubt else ""}


def _interval(ends: Mapping[str, Any]) -> dict[str, str]:
    return interval_in_languages(ends["low"], ends["high"])


def _candidate(found: Mapping[str, Any], design: str) -> Mapping[str, Any]:
    return next(each for each in found["candidates"] if each["design"] == design)


def caveats(study: StudyResults) -> list[str]:
    """Caveats shown above the results."""
    seeds = {table.name: Counter(trial.design for trial in table.trials) for table in study.tables}
    counts = [count for by_design in seeds.values() for count in by_design.values()]
    incomplete = {
        design for by_design in seeds.values() for design, n in by_design.items() if n < max(by_design.values())
    }
    recordings = min((len(trial.measures.get("loss_reduction", {})) for trial in study.trials), default=5)
    miniatures = [base for base in study.bases if is_miniature(base)]
    machines = {trial.cost.machine for trial in study.trials}
    texts = {
        "Every design was trained with one seed: the intervals cover the variance between recordings, not that between "
        "seeds.": bool(counts) and max(counts) == 1,
        f"{format_counted(len(incomplete), 'design')} {'has' if len(incomplete) == 1 else 'have'} fewer seeds than "
        "others: the study is not finished.": bool(incomplete),
        f"Some trials were evaluated on {format_counted(recordings, 'recording')} only: their intervals are "
        "imprecise.": recordings < 5,
        f"{format_counted(len(study.failed), 'trial')} failed and are in no table.": bool(study.failed),
        f"{format_counted(len(study.excluded), 'trial')} with other settings or in another precision are in no "
        "table.": bool(study.excluded),
        "Trials ran on several machines, or on some that are not named: the medians of times and memory, and what is "
        "chosen or drawn by them, mix these. Ratios and differences are of trials on one machine.": len(machines) > 1,
        miniature_caveat(miniatures)["en"]: bool(miniatures),
    }
    return [text for text, applies in texts.items() if applies]


def miniature_caveat(miniatures: Sequence[str]) -> dict[str, str]:
    """That results of miniature bases need not hold for large ones, in every language."""
    return in_languages("miniatures", names=named(miniatures))


def comparison_text(result: Mapping[str, Any]) -> str:
    """What a hypothesis compares: `conv over linear: loss reduction on ornaments, in makam`."""
    relative = f" minus {measure_name(result['relative_to'])}" if result.get("relative_to") else ""
    groups = f"{_levels(result['treatment'])} over {_levels(result['control'])}"
    text = f"{groups}: {measure_name(result['measure'])}{relative}"
    if result.get("interaction"):
        text += f", {' against '.join(_levels(group) for group in result['interaction'])}"
    if result.get("where"):
        text += f", in {_levels(result['where'])}"
    return text


def expectation_text(result: Mapping[str, Any]) -> str:
    """`greater by 0.03`, `not greater by 0.03`, `different by 0.03`."""
    return f"{result.get('hypothesis', 'greater').replace('_', ' ')} by {_amount(result, 'smallest_effect')}"


def result_text(result: Mapping[str, Any]) -> str:
    """The effect with its interval, its pairs and seeds; if undecided, also the minimum detectable effect."""
    if result.get("mean") is None:
        return result.get("reason") or "no two trials differ in this alone"
    mean, low, high, detectable = (_amount(result, name) for name in ("mean", "low", "high", "min_detectable_effect"))
    text = f"{mean} ({low} to {high})" if result["low"] is not None else f"{mean} (interval not known)"
    if "seeds" in result:
        pairs, seeds = (format_counted(result[name], name.removesuffix("s")) for name in ("pairs", "seeds"))
        text += f"; {pairs} of {seeds}, counted on each corpus"
    if result["verdict"] == "undecided":
        known = result["min_detectable_effect"] is not None
        text += f"; detectable from {detectable}" if known else "; one seed on one recording gives no error"
    return text


def _amount(result: Mapping[str, Any], name: str) -> str:
    """A number of a result; differences of logarithms are given as ratios."""
    value = result.get(name)
    if value is None:
        return NOT_KNOWN
    if result["measure"] in LOGARITHMS:
        return f"{format_number(math.exp(value), 2)} times"
    return format_number(value).rstrip("0").rstrip(".") if value else "0"


def _levels(factors: Mapping[str, Any]) -> str:
    texts = {name: str(value) for name, value in factors.items() if value != ANY_LEVEL}
    if isinstance(fraction := factors.get("size_fraction"), float):
        texts["size_fraction"] = f"{100 * fraction:g} %"
    if "width" in texts:
        texts["width"] = f"width {texts['width']}"
    if "kind" in texts and "site" in texts:
        texts = {"kind": f"{texts['kind']}@{texts.pop('site')}", **{n: t for n, t in texts.items() if n != "kind"}}
    return " ".join(texts.values())
