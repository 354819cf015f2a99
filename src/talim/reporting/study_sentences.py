"""Sentences of a study's report in English and Japanese: the best design, the recommended one, its cost, caveats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from talim.backbones.registry import is_miniature
from talim.experiments.goals import SelectionCriteria
from talim.experiments.recommend import DEMONSTRATED, INCONCLUSIVE, NOTHING, ONLY
from talim.experiments.results import ANY_LEVEL, StudyResults
from talim.html.formatting import (
    NOT_KNOWN,
    format_bytes,
    format_ci,
    format_count,
    format_counted,
    format_duration,
    format_number,
    format_percent,
    format_scientific,
)
from talim.reporting.sentences import NOT_MEASURED

# "With DESIGN ...", in English and in Japanese; scores use their own names.
BEST_BY_MEASURE = {
    "loss_reduction": ("the held-out loss is reduced most", "保留データの損失が最も大きく下がる"),
    "loss_reduction_ornaments": ("the held-out loss on ornaments is reduced most", "装飾音での損失が最も大きく下がる"),
    "repeat_gain": ("the additional reduction on repeats is largest", "再現部での改善が最も大きい"),
    "score.kernel_distance_timbre": ("the timbre is closest to real music", "音色が実際の音楽に最も近い"),
}
MEASURE_NAMES = {
    "base_loss": "base loss",
    "adapted_loss": "adapted loss",
    "loss_reduction": "loss reduction",
    "loss_reduction_ornaments": "loss reduction on ornaments",
    "loss_reduction_plain": "loss reduction on plain notes",
    "loss_reduction_first": "loss reduction on first occurrences",
    "loss_reduction_repeat": "loss reduction on repeats",
    "repeat_gain": "additional loss reduction on repeats",
    "log_seconds": "training time",
    "log_memory": "peak memory",
}
LOGARITHMS = ("log_seconds", "log_memory")
GOALS = {
    "learning": "the loss",
    "jingle": "a short jingle: ornaments and timbre",
    "background": "long background music: structure",
}
COSTS = {
    "parameters": ("trained parameters", format_count),
    "flops": ("FLOPs of training", format_scientific),
    "seconds": ("training time", format_duration),
    "memory": ("peak memory", format_bytes),
    "bytes": ("adapter on disk", format_bytes),
}


def measure_name(measure: str) -> str:
    """A measure as text: `score.ngram_repetition` becomes `ngram repetition`."""
    return MEASURE_NAMES.get(measure, measure.removeprefix("score.").replace("_", " "))


def recommendation_text(found: Mapping[str, Any]) -> str:
    """One recommendation of study.json in one or two sentences."""
    design, outcome = found["design"], found["outcome"]
    if outcome == NOTHING:
        missing = ", ".join(found["missing"]) or "every design"
        return f"Nothing to recommend: {missing} was not measured or is over the limits."
    if outcome == ONLY:
        return f"{design} is the only design within the limits, so nothing was compared."
    if outcome == INCONCLUSIVE:
        chosen, text = _candidate(found, design), f"Cannot tell {len(found['unresolved'])} designs apart; "
        if design == found["best"]:
            return f"{text}{design} has the best mean, and none within the margin costs less."
        return (
            f"{text}{found['best']} has the best mean. Take the cheaper: {design} is "
            f"{format_number(chosen['gap'])} behind ({format_ci(chosen['gap_low'], chosen['gap_high'])})."
        )
    objective = found["objectives"][0]
    margin = f"{format_number(objective['margin'])} in {measure_name(objective['measure'])}"
    text = f"{design} is the cheapest design shown to be within {margin} of every other one."
    if found["within_margin"] != design:
        text += f" The mean of {found['within_margin']}, which costs less, is too, but it is not shown."
    return text


# English sentence, Japanese sentence, key figure
TextPart = tuple[str, str, dict[str, Any]]


def summary(base: Mapping[str, Any], criteria: SelectionCriteria) -> dict[str, Any]:
    """A headline, and three sentences with one key figure and its interval each, in English and Japanese."""
    found = base["recommendations"][0]
    text = recommendation_text(found)
    if found["outcome"] == NOTHING:
        return {"headline": text, "en": [text], "ja": [], "figures": []}
    design = found["design"]
    headline = {
        DEMONSTRATED: f"Take {design}: nothing that costs less is shown to be as good.",
        INCONCLUSIVE: f"These data cannot tell which design is best. Take the cheaper: {design}.",
        ONLY: f"{design} is the only design with results.",
    }[found["outcome"]]
    parts = [_quality(base, found), _choice(base, found, criteria), _cost(found)]
    return {
        "headline": headline,
        "en": [english for english, _, _ in parts],
        "ja": [japanese for _, japanese, _ in parts],
        "figures": [figure for _, _, figure in parts],
    }


def _quality(base: Mapping[str, Any], found: Mapping[str, Any]) -> TextPart:
    """The best design and its mean."""
    best_mean, measure = found["best_mean"], found["objectives"][0]["measure"]
    count, corpora, unit = len(found["candidates"]), len(found["corpora"]), base["unit"] or ""
    name = measure_name(measure)
    best, best_ja = BEST_BY_MEASURE.get(measure, (f"{name} is best", name))
    mean = format_number(best_mean["mean"])
    over = f"{corpora} corpora" if corpora != 1 else "1 corpus"
    english = (
        f"Of {format_counted(count, 'design')} in {base['base']}, {best} with {found['best']}: "
        f"{f'{mean} {unit}'.rstrip()} ({_interval(best_mean)}), over {over}."
    )
    japanese = (
        f"{base['base']}の{count}種類の設計のうち、{best_ja}のは{found['best']}で、"
        f"その値は{mean}{unit}です({_interval_ja(best_mean)}、コーパス{corpora}個)。"
    )
    meaning = f"{name} with {found['best']}{', in ' + unit if unit else ''}"
    return english, japanese, _figure(mean, meaning, best_mean)


def _choice(base: Mapping[str, Any], found: Mapping[str, Any], criteria: SelectionCriteria) -> TextPart:
    """The recommended design and its distance from the best; if it is the best, the distance of the next best."""
    design, outcome = found["design"], found["outcome"]
    name, unit = measure_name(found["objectives"][0]["measure"]), base["unit"] or ""
    chosen = _candidate(found, design)
    stability = f" In {format_percent(chosen['selected_fraction'])} of resamples it is the cheapest within the margin."
    if design == found["best"] and outcome == DEMONSTRATED:
        others = [each for each in found["candidates"] if each["design"] != design]
        second = min(others, key=lambda each: each["gap"])
        ends = {"low": second["gap_low"], "high": second["gap_high"]}
        amount = format_number(second["gap"])
        english = (
            f"It is also the recommended design; {second['design']} comes next, "
            f"{f'{amount} {unit}'.rstrip()} behind ({_interval(ends)}).{stability}"
        )
        japanese = (
            f"推奨する設計は平均も最良の{design}です。次点の{second['design']}との差は{amount}{unit}"
            f"({_interval_ja(ends)})です。"
        )
        return english, japanese, _figure(amount, f"{name}: gap of {second['design']}, the next best", ends)
    ends = {"low": chosen["gap_low"], "high": chosen["gap_high"]}
    amount, tolerance = format_number(chosen["gap"]), format_percent(criteria.tolerance)
    if design == found["best"]:
        english = f"{design} has the best mean and is the recommended design."
    else:
        english = f"{design} costs less and is {f'{amount} {unit}'.rstrip()} behind it ({_interval(ends)})"
        english += {
            DEMONSTRATED: f", which is shown to be within the margin of {tolerance}.",
            INCONCLUSIVE: f"; the margin is {tolerance}, and which of {len(found['unresolved'])} designs are within "
            "it, these data cannot tell.",
            ONLY: ".",
        }[outcome]
    verdict_ja = {
        DEMONSTRATED: f"許容幅({tolerance})以内であることが示されました",
        INCONCLUSIVE: f"許容幅({tolerance})以内かどうかは、このデータでは判断できません",
        ONLY: "比較できる設計はほかにありません",
    }[outcome]
    japanese = f"推奨する設計は{design}です。最良の平均との差は{amount}{unit}({_interval_ja(ends)})で、{verdict_ja}。"
    return english + stability, japanese, _figure(amount, f"{name}: gap of {design} to the best", ends)


def _cost(found: Mapping[str, Any]) -> TextPart:
    """Trained parameters and training time, relative to a reference design if there is one."""
    design = found["design"]
    costs = _candidate(found, design)["costs"]
    trained = format_count(costs["parameters"] or 0)
    percent = format_percent(found["trained_percent"] / 100) if found["trained_percent"] else ""
    of_base, of_base_ja = (f", {percent} of the base,", f"(基盤モデルの{percent})") if percent else ("", "")
    ratio = found["cost_ratios"].get("seconds")
    if ratio is None:
        seconds = costs["seconds"]
        time = format_duration(seconds) if seconds is not None else f"a time that was {NOT_MEASURED}"
        return (
            f"It trains {trained} parameters{of_base} in {time}.",
            f"学習するパラメータは{trained}個{of_base_ja}です。",
            _figure(trained, f"trained parameters of {design}", {"low": None, "high": None}),
        )
    amount, reference = format_number(ratio["ratio"], 2), found["reference"]
    return (
        f"It trains {trained} parameters{of_base} in {amount} times the time of {reference} ({_interval(ratio)}).",
        f"学習するパラメータは{trained}個{of_base_ja}、学習時間は{reference}の{amount}倍({_interval_ja(ratio)})です。",
        _figure(amount, f"times the training time of {reference}", ratio),
    )


def _figure(value: str, meaning: str, ends: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": value, "meaning": meaning, "ci95": format_ci(ends["low"], ends["high"])}


def _interval(ends: Mapping[str, Any]) -> str:
    return f"95\u202f% interval {format_ci(ends['low'], ends['high'])}"


def _interval_ja(ends: Mapping[str, Any]) -> str:
    text = format_ci(ends["low"], ends["high"])
    return "95%信頼区間:" + ("不明" if text == NOT_KNOWN else text.replace(" to ", "〜"))


def _candidate(found: Mapping[str, Any], design: str) -> Mapping[str, Any]:
    return next(each for each in found["candidates"] if each["design"] == design)


def caveats(study: StudyResults) -> list[str]:
    """Caveats shown above the results."""
    sentences = []
    seeds = {table.name: Counter(trial.design for trial in table.trials) for table in study.tables}
    if seeds and all(count == 1 for counts in seeds.values() for count in counts.values()):
        sentences.append(
            "Every design was trained with one seed: the intervals cover the variance between recordings, not that "
            "between seeds."
        )
    incomplete = {
        design for counts in seeds.values() for design, count in counts.items() if count < max(counts.values())
    }
    if incomplete:
        number = format_counted(len(incomplete), "design")
        verb = "has" if len(incomplete) == 1 else "have"
        sentences.append(f"{number} {verb} fewer seeds than others: the study is not finished.")
    recordings = [len(trial.measures.get("loss_reduction", {})) for trial in study.trials]
    if recordings and min(recordings) < 5:
        number = format_counted(min(recordings), "recording")
        sentences.append(f"Some trials were evaluated on {number} only: their intervals are imprecise.")
    if study.failed:
        sentences.append(f"{format_counted(len(study.failed), 'trial')} failed and are in no table.")
    if study.excluded:
        number = format_counted(len(study.excluded), "trial")
        sentences.append(f"{number} with other settings are in no table.")
    miniatures = [base for base in study.bases if is_miniature(base)]
    if miniatures:
        are = "is a miniature model" if len(miniatures) == 1 else "are miniature models"
        sentences.append(f"{' and '.join(miniatures)} {are}: results may differ for large models.")
    return sentences


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
    """The effect with its interval; if undecided, also the minimum detectable effect."""
    if result.get("mean") is None:
        return result.get("reason") or "no two trials differ in this alone"
    mean, low, high, detectable = (_amount(result, name) for name in ("mean", "low", "high", "min_detectable_effect"))
    text = f"{mean} ({low} to {high})" if result["low"] is not None else f"{mean} (interval not known)"
    if result["verdict"] == "undecided":
        known = result["min_detectable_effect"] is not None
        text += f"; detectable from {detectable}" if known else "; one pair gives no error"
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
    if "kind" in texts and "site" in texts:
        texts = {"kind": f"{texts['kind']}@{texts.pop('site')}", **{n: t for n, t in texts.items() if n != "kind"}}
    return " ".join(texts.values())
