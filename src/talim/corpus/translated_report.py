"""What a studio needs from the page of a corpus, in Japanese, from the same facts as the English page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from talim.corpus.recordings import GENERATED_COLUMN
from talim.html.formatting import format_count, format_duration_in_japanese, format_percent
from talim.html.phrases import translate
from talim.licences import allows_commercial_use
from talim.recordings_needed import GOOD_SECONDS, HELD_OUT_FOR_INTERVAL, HELD_OUT_TO_COMPARE, TO_COMPARE

WORDS = Path(__file__).parent / "report.ja.json"
MAX_REASONS = 200  # of files left out, as in the English list
MAX_PAIRS = 8  # of files with the same audio; the English list has all


@cache
def _words() -> dict[str, Any]:
    return json.loads(WORDS.read_text(encoding="utf-8"))


def translated_report(facts: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """The values of the template: {"sections": [{"title", "sentences", "steps"}], "heads": {English: Japanese}}.

    `facts` are those of summary.json, `counts` those of `report.problem_counts`. "steps" are a list of things to do.
    """
    titles = _words()["titles"]
    sections = {
        "read": _read(facts),
        "split": _split(facts["split"]),
        "left_out": _left_out(facts, counts),
        "rights": _rights(facts["rights"], counts),
        "duplicates": _duplicates(facts["near_duplicates"]),
    }
    rows = [{"title": titles[name], "sentences": sentences, "steps": []} for name, sentences in sections.items()]
    rows.append({"title": titles["next"], "sentences": [], "steps": _next(facts, counts)})
    return {"sections": rows, "heads_title": titles["heads"], "heads": _words()["heads"]}


def translated_reason(reason: str) -> str:
    """Why a file was left out; what nobody foresaw stays in English."""
    return translate(reason, _words()["phrases"])


def _say(key: str, **counts: int | str) -> str:
    """A sentence of the file, with counts as pages show them."""
    text: Any = _words()
    for part in key.split("."):
        text = text[part]
    return text.format(**{name: format_count(n) if isinstance(n, int) else n for name, n in counts.items()})


def _read(facts: Mapping[str, Any]) -> list[str]:
    time = format_duration_in_japanese(facts["seconds"])
    amount = _say("amount", recordings=facts["recordings"], time=time, clips=facts["clips"])
    known, generated = facts["performers"], len((facts.get("ai_generated") or {"used": []})["used"])
    people = _say("performers", count=known) if known else _say("no_performers")
    return [amount, *([_say("generated_used", count=generated)] if generated else []), people]


def _split(split: Mapping[str, Any]) -> list[str]:
    sides = ("train", "validation", "held_out")
    clips = {side: split[side]["clips"] for side in sides}
    recordings = {f"{side}_recordings": split[side]["recordings"] for side in sides}
    held_out = split["held_out"]["recordings"]
    few = "none" if held_out < HELD_OUT_FOR_INTERVAL else "two" if held_out == HELD_OUT_FOR_INTERVAL else "rough"
    ours, random = ((split[key] or {}).get("any") for key in ("leakage", "random_split_leakage"))
    by_chance = _say("random_unknown") if random is None else format_percent(random)
    leakage = _say("leakage_unknown")
    if ours is not None:
        leakage = _say("leakage", ours=format_percent(ours), random=by_chance)
    sentences = [
        _say("sides", **clips, **recordings),
        _say("gap", count=split["gap"]["clips"]) if split["gap"]["clips"] else "",
        _say("meaning"),
        _say(f"strategies.{split['strategy']}"),
        _say("relaxed") if split["relaxed"] else "",
        _say(f"validation.{split['validation_from']}"),
        leakage,
        _say(f"few.{few}", count=held_out) if held_out < HELD_OUT_TO_COMPARE else "",
    ]
    return [text for text in sentences if text]


def _left_out(facts: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """How many files were left out, by the kind of reason, what is not trained on, and how much silence."""
    kinds = [
        "copies"
        if row.get("copy_of")
        else "generated"
        if GENERATED_COLUMN in row
        else "commercial"
        if "commercial use" in row["reason"]
        else "others"
        for row in facts["skipped"]
    ]
    lines = [_say("skipped", count=len(kinds)) if kinds else _say("nothing_skipped")]
    lines += [_say(f"reasons.{kind}", count=kinds.count(kind)) for kind in _words()["reasons"] if kind in kinds]
    shown = [
        _say("reason", file=row["file"], reason=translated_reason(row["reason"]))
        for row in facts["skipped"][:MAX_REASONS]
    ]
    lines += [_say("each_reason"), *shown] if shown else []
    lines += [_say("more_reasons", count=len(kinds) - len(shown))] if len(kinds) > len(shown) else []
    lines += [_say("kept_out", count=counts["kept_out"])] if counts["kept_out"] else []
    silence = facts["silence_skipped_seconds"]
    return [*lines, _say("silence", time=format_duration_in_japanese(silence))] if silence >= 1 else lines


def _rights(rights: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """The licences, and how many recordings lack a licence, a consent or the name of a performer."""
    known = {name: n for name, n in rights["licences"].items() if allows_commercial_use(name) != "unknown"}
    lines = [_say("licence", name=name, count=n) for name, n in sorted(known.items(), key=lambda row: (-row[1], row))]
    lines += [_say("forbidden", count=counts["forbidden"])] if counts["forbidden"] else []
    lines += [_say("licence_unknown", count=counts["unlicensed"])] if counts["unlicensed"] else []
    for name in ("consent", "performer"):
        missing = counts[f"no_{name}"]
        lines.append(_say(f"{name}_missing", count=missing) if missing else _say(f"{name}_complete"))
    lines += [_say("consent_refused", count=counts["refused"])] if counts["refused"] else []
    return [*lines, _say("no_advice")]


def _duplicates(pairs: list[Mapping[str, Any]]) -> list[str]:
    if not pairs:
        return [_say("no_duplicates")]
    shown = [
        _say("duplicate", first=pair["first"], second=pair["second"], seconds=str(pair["seconds"]))
        for pair in pairs[:MAX_PAIRS]
    ]
    more = [_say("more_duplicates", count=len(pairs) - MAX_PAIRS)] if len(pairs) > MAX_PAIRS else []
    return [_say("duplicates", count=len(pairs)), *shown, *more]


def _next(facts: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """What is missing, the most serious first, and what comes after it."""
    columns = {"licence": "unlicensed", "consent": "no_consent", "performer": "no_performer"}
    empty = [column for column, count in columns.items() if counts[count]]
    missing = facts["missing_captions"] or {"file": ""}
    needed = {"needed": HELD_OUT_TO_COMPARE, "all": TO_COMPARE, "half": 2 * HELD_OUT_TO_COMPARE}
    steps = [
        (counts["refused"], "refused", {}),
        (empty, "rights", {"columns": "、".join(empty)}),
        (counts["no_caption"], "captions", {"count": counts["no_caption"], "file": missing["file"]}),
        (counts["clipped"], "clipped", {"count": counts["clipped"]}),
        (counts["doubtful_names"], "names", {"count": counts["doubtful_names"]}),
        (facts["split"]["held_out"]["recordings"] < HELD_OUT_TO_COMPARE, "held_out", needed),
        (facts["seconds"] < GOOD_SECONDS, "amount", {}),
    ]
    found = [_say(f"next.{name}", **values) for needs, name, values in steps if needs]
    return [*found, *([_say("next.again")] if found else []), _say("next.train")]
