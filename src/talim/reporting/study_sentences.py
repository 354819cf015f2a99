"""A study in sentences, English and Japanese: what is best, what to take, what it costs, what to be careful of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from talim.backbones.registry import is_miniature
from talim.experiments.goals import SelectionCriteria
from talim.experiments.recommend import DEMONSTRATED, INCONCLUSIVE, NOTHING, ONLY
from talim.experiments.results import StudyResults
from talim.html import formatting
from talim.html.formatting import format_number
from talim.reporting import sentences

# What a measure says, in English and in Japanese; scores have their own names.
MEASURES = {
    "fall": ("the held-out loss falls most", "保留データの損失が最も大きく下がる"),
    "ornament_fall": ("the held-out loss falls most on ornaments", "装飾音での損失が最も大きく下がる"),
    "return_gain": ("most more is gained where material returns", "再現部での改善が最も大きい"),
    "score.kernel_distance_timbre": ("the timbre is nearest to real music", "音色が実際の音楽に最も近い"),
}
NAMES = {
    "before": "loss before",
    "after": "loss after",
    "fall": "fall of the loss",
    "ornament_fall": "fall on ornaments",
    "plain_fall": "fall between ornaments",
    "first_fall": "fall on what comes first",
    "again_fall": "fall on what returns",
    "return_gain": "more gained on what returns",
    "log_seconds": "time of training",
    "log_memory": "peak memory",
}
LOGARITHMS = ("log_seconds", "log_memory")
GOALS = {
    "learning": ("the loss", "損失"),
    "jingle": ("a short jingle: ornaments and timbre", "短いジングル(装飾音と音色)"),
    "background": ("long background music: structure", "長い背景音楽(構造)"),
}
COSTS = {
    "parameters": ("trained parameters", formatting.format_count),
    "operations": ("operations of training", formatting.format_scientific),
    "seconds": ("time of training", formatting.format_duration),
    "memory": ("peak memory", formatting.format_bytes),
    "bytes": ("adapter on disk", formatting.format_bytes),
}


def measure_name(measure: str) -> str:
    """A measure's name for people."""
    return NAMES.get(measure, measure.removeprefix("score.").replace("_", " "))


def format_ci(low: float | None, high: float | None) -> str:
    """`0.1 to 0.3`, or that it is not known."""
    if low is None or high is None or low != low or high != high:
        return "not known"
    return f"{format_number(low)} to {format_number(high)}"


def recommendation_text(found: Mapping[str, Any]) -> str:
    """One piece of advice in a sentence or two."""
    if found["outcome"] == NOTHING:
        return f"Nothing to choose from: {', '.join(found['missing']) or 'no design'} was not measured or not allowed."
    chosen = _candidate(found, found["design"])
    margin = f"{format_number(found['aims'][0]['margin'])} in {measure_name(found['aims'][0]['measure'])}"
    if found["outcome"] == ONLY:
        return f"{found['design']} is the only one within the limits, so nothing was compared."
    if found["outcome"] == INCONCLUSIVE:
        ends = format_ci(chosen["behind_low"], chosen["behind_high"])
        return (
            f"Cannot tell {len(found['unresolved'])} designs apart, {found['best']} has the best mean; "
            f"take the cheaper: {found['design']} is {format_number(chosen['behind'])} behind ({ends})."
        )
    text = f"{found['design']} is the cheapest that is shown to be within {margin} of any other."
    if found["likely"] != found["design"]:
        text += f" By the means {found['likely']} is too, and costs less: these data cannot tell."
    return text


def summary(base: Mapping[str, Any], wish: SelectionCriteria) -> dict[str, Any]:
    """The headline, three sentences with one figure and its range each, in English and Japanese, and the figures."""
    found = base["advice"][0]
    if found["outcome"] == NOTHING:
        return {
            "headline": recommendation_text(found),
            "en": [recommendation_text(found)],
            "ja": [],
            "figures": [],
        }
    parts = [_quality(base, found), _choice(base, found, wish), _cost(found)]
    return {
        "headline": _headline(found),
        "en": [part[0] for part in parts],
        "ja": [part[1] for part in parts],
        "figures": [part[2] for part in parts],
    }


def _headline(found: Mapping[str, Any]) -> str:
    design = found["design"]
    return {
        DEMONSTRATED: f"Take {design}: nothing that costs less is shown to be as good.",
        INCONCLUSIVE: f"These data cannot tell which is best. Take the cheaper: {design}.",
        ONLY: f"{design} is all there is to judge yet.",
    }[found["outcome"]]


TextPart = tuple[str, str, dict[str, Any]]


def _lead(base: Mapping[str, Any], found: Mapping[str, Any]) -> TextPart:
    """Where the best is also what to take: how far the next best is behind it."""
    others = [each for each in found["candidates"] if each["design"] != found["design"]]
    second = min(others, key=lambda each: each["behind"])
    behind = {"low": second["behind_low"], "high": second["behind_high"]}
    amount, unit = format_number(second["behind"]), base["unit"] or ""
    share = formatting.format_percent(_candidate(found, found["design"])["chosen_share"])
    english = (
        f"It has the best mean and is also what to take; {second['design']} comes next, "
        f"{f'{amount} {unit}'.rstrip()} behind (95\u202f% range {format_ci(behind['low'], behind['high'])}). Drawn again, "
        f"the means choose it in {share} of cases."
    )
    japanese = (
        f"勧めるのは平均も最良の{found['design']}です。次点の{second['design']}との差は{amount}{unit}"
        f"(95%の範囲:{_format_ci_ja(behind)})です。"
    )
    meaning = (
        f"{measure_name(found['aims'][0]['measure'])}: how far {second['design']}, the next best, is behind"
    )
    return english, japanese, _figure(amount, meaning, behind)


def _quality(base: Mapping[str, Any], found: Mapping[str, Any]) -> TextPart:
    level, aim = found["best_level"], found["aims"][0]
    count, corpora, unit = len(found["candidates"]), len(found["corpora"]), base["unit"] or ""
    says, says_ja = MEASURES.get(
        aim["measure"], (f"{measure_name(aim['measure'])} is best", measure_name(aim["measure"]))
    )
    mean, ends = format_number(level["mean"]), format_ci(level["low"], level["high"])
    english = (
        f"Of {formatting.format_counted(count, 'design')} in {base['base']}, with {found['best']} {says}: "
        f"{mean} {unit}".rstrip()
        + f" (95\u202f% range {ends}), over {formatting.format_counted(corpora, 'corpus').replace('corpuss', 'corpora')}."
    )
    japanese = (
        f"{base['base']}の{count}種類の設計のうち、{says_ja}のは{found['best']}で、"
        f"その値は{mean}{unit}です(95%の範囲:{_format_ci_ja(level)}、コーパス{corpora}個)。"
    )
    meaning = f"{measure_name(aim['measure'])} with {found['best']}{', in ' + unit if unit else ''}"
    return english, japanese, _figure(mean, meaning, level)


def _choice(base: Mapping[str, Any], found: Mapping[str, Any], wish: SelectionCriteria) -> TextPart:
    if found["design"] == found["best"] and found["outcome"] == DEMONSTRATED:
        return _lead(base, found)
    chosen, aim = _candidate(found, found["design"]), found["aims"][0]
    behind = {"low": chosen["behind_low"], "high": chosen["behind_high"]}
    amount, tenth = format_number(chosen["behind"]), formatting.format_percent(wish.margin_share)
    ends = f"(95\u202f% range {format_ci(behind['low'], behind['high'])})"
    unit = f" {base['unit']}" if base["unit"] else ""
    if found["design"] == found["best"]:
        english = f"{found['design']} has the best mean and is also what to take."
    else:
        english = f"{found['design']} costs less and is {amount}{unit} behind it {ends}"
    share = formatting.format_percent(chosen["chosen_share"])
    if found["design"] != found["best"]:
        english += {
            DEMONSTRATED: f", which is shown to be within the margin of {tenth}.",
            INCONCLUSIVE: f", and no more than {tenth} is allowed: which of {len(found['unresolved'])} designs keep to "
            "that, these data cannot tell.",
            ONLY: ".",
        }[found["outcome"]]
    english += f" Drawn again, the means choose it in {share} of cases."
    told = {
        DEMONSTRATED: f"許容幅({tenth})以内であることが示されました",
        INCONCLUSIVE: f"許容幅({tenth})以内かどうかは、このデータでは決められません",
        ONLY: "比較できる設計はほかにありません",
    }[found["outcome"]]
    japanese = (
        f"勧めるのは{found['design']}です。最良の平均との差は{amount}{base['unit'] or ''}"
        f"(95%の範囲:{_format_ci_ja(behind)})で、{told}。"
    )
    meaning = f"{measure_name(aim['measure'])}: how far {found['design']} is behind the best"
    return english, japanese, _figure(amount, meaning, behind)


def _cost(found: Mapping[str, Any]) -> TextPart:
    chosen = _candidate(found, found["design"])
    trained = formatting.format_count(chosen["prices"]["parameters"] or 0)
    of = f", {formatting.format_percent(found['percent'] / 100)} of the base," if found["percent"] else ""
    of_ja = f"(土台の{formatting.format_percent(found['percent'] / 100)})" if found["percent"] else ""
    ratio = found["ratios"].get("seconds")
    if ratio is None:
        seconds = chosen["prices"]["seconds"]
        took = (
            formatting.format_duration(seconds)
            if seconds is not None
            else f"a time that was {sentences.NOT_MEASURED}"
        )
        return (
            f"It trains {trained} parameters{of} in {took}.",
            f"学習するパラメータは{trained}個{of_ja}です。",
            _figure(trained, f"parameters that {found['design']} trains", {"low": None, "high": None}),
        )
    amount, ends = format_number(ratio["ratio"], 2), format_ci(ratio["low"], ratio["high"])
    return (
        f"It trains {trained} parameters{of} in {amount} times the time of {found['reference']} "
        f"(95\u202f% range {ends}).",
        f"学習するパラメータは{trained}個{of_ja}、学習時間は{found['reference']}の{amount}倍"
        f"(95%の範囲:{_format_ci_ja(ratio)})です。",
        _figure(amount, f"times the time of {found['reference']}", ratio),
    )


def _figure(value: str, meaning: str, ends: Mapping[str, Any]) -> dict[str, Any]:
    return {"value": value, "meaning": meaning, "range": format_ci(ends["low"], ends["high"])}


def _format_ci_ja(ends: Mapping[str, Any]) -> str:
    text = format_ci(ends["low"], ends["high"])
    return "不明" if text == "not known" else text.replace(" to ", "〜")


def _candidate(found: Mapping[str, Any], design: str) -> Mapping[str, Any]:
    return next(each for each in found["candidates"] if each["design"] == design)


def caveats(study: StudyResults) -> list[str]:
    """What a reader has to know before he believes the numbers."""
    said = []
    seeds = {table.name: Counter(row.design for row in table.rows) for table in study.tables}
    if seeds and all(count == 1 for counted in seeds.values() for count in counted.values()):
        said.append(
            "Every design was trained with one seed. The ranges cover other recordings, but not other seeds: how much "
            "of a difference is that seed's luck, one seed cannot show."
        )
    most = {name: max(counted.values()) for name, counted in seeds.items()}
    few = {
        design for name, counted in seeds.items() for design, count in counted.items() if count < most[name]
    }
    if few:
        said.append(
            f"{formatting.format_counted(len(few), 'design')} have fewer seeds than others: the study is not finished."
        )
    recordings = [len(row.trial.measures.get("fall", {})) for row in study.rows]
    if recordings and min(recordings) < 5:
        said.append(
            f"Some trials were judged on {formatting.format_counted(min(recordings), 'recording')}: the ranges are rough."
        )
    if study.failed:
        said.append(f"{formatting.format_counted(len(study.failed), 'trial')} failed and stand in no table.")
    if study.set_aside:
        said.append(
            f"{formatting.format_counted(len(study.set_aside), 'trial')} had other settings and stand in no table."
        )
    small = [base for base in study.bases if is_miniature(base)]
    if small:
        are = "is a miniature" if len(small) == 1 else "are miniatures"
        said.append(f"{' and '.join(small)} {are}: what holds there need not hold for a large model.")
    return said


def comparison_text(finding: Mapping[str, Any]) -> str:
    """What one comparison of a claim compares: `conv over linear: fall on ornaments less fall between ornaments`."""
    minus = f" less {measure_name(finding['minus'])}" if finding.get("minus") else ""
    text = f"{_factors(finding['this'])} over {_factors(finding['that'])}: {measure_name(finding['measure'])}{minus}"
    if finding.get("between"):
        text += f", {' against '.join(_factors(group) for group in finding['between'])}"
    if finding.get("within"):
        text += f", in {_factors(finding['within'])}"
    return text


def findings_text(finding: Mapping[str, Any]) -> str:
    """What one comparison gave: the effect with its interval, and what an undecided one could have seen."""
    if finding.get("mean") is None:
        return finding.get("why") or "no two trials differ so"
    mean, low, high, seen = (_amount(finding, name) for name in ("mean", "low", "high", "smallest_visible"))
    text = f"{mean} ({low} to {high})" if finding["low"] is not None else f"{mean} (range not known)"
    if finding["verdict"] == "undecided":
        known = finding["smallest_visible"] is not None
        text += f"; {seen} would have been seen" if known else "; from one pair no error is known"
    return text


def expected_text(finding: Mapping[str, Any]) -> str:
    """`more by 0.03`, `no more by 0.03`, `differ by 0.03`."""
    return f"{finding.get('expect', 'more')} by {_amount(finding, 'interest')}"


def _amount(finding: Mapping[str, Any], name: str) -> str:
    """A number of a finding; logarithms are told as ratios."""
    value = finding.get(name)
    if value is None:
        return "not known"
    if finding["measure"] in LOGARITHMS:
        return f"{format_number(math.exp(value), 2)} times"
    return format_number(value).rstrip("0").rstrip(".") if value else "0"


def _factors(factors: Mapping[str, Any]) -> str:
    said = {name: str(value) for name, value in factors.items() if value != "*"}
    if isinstance(share := factors.get("share"), float):
        said["share"] = f"{100 * share:g} %"
    if "kind" in said and "site" in said:
        said = {"kind": f"{said['kind']}@{said['site']}"} | {
            n: t for n, t in said.items() if n not in ("kind", "site")
        }
    return " ".join(said.values())
