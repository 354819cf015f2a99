"""What a studio needs from the page of a corpus, in another language, from the same facts as the English page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talim.corpus.manifest import UNKNOWN
from talim.corpus.recordings import GENERATED_COLUMN
from talim.html.formatting import format_count, format_percent
from talim.html.languages import duration_in, words
from talim.html.phrases import translate
from talim.licences import allows_commercial_use
from talim.recordings_needed import GOOD_SECONDS, HELD_OUT_FOR_INTERVAL, HELD_OUT_TO_COMPARE, TO_COMPARE

NAME = "corpus"  # words/LANGUAGE/corpus.json
MAX_REASONS = 200  # of files left out, as in the English list
MAX_PAIRS = 8  # of files with the same audio; the English list has all


def translated_report(language: str, facts: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any]:
    """The values of the template: {"sections": [{"title", "sentences", "steps"}]}.

    `facts` are those of summary.json, `counts` those of `report.problem_counts`. "steps" are a list of things to do.
    """
    say, texts = _Sayer(language), words(language, NAME)
    titles = texts["titles"]
    sections = {
        "read": _read(say, facts),
        "split": _split(say, facts["split"]),
        "left_out": _left_out(say, facts, counts),
        "rights": _rights(say, facts["rights"], counts),
        "duplicates": _duplicates(say, facts["near_duplicates"]),
    }
    rows = [{"title": titles[name], "sentences": sentences, "steps": []} for name, sentences in sections.items()]
    rows.append({"title": titles["next"], "sentences": [], "steps": _next(say, facts, counts)})
    rows.append({"title": titles["reading"], "sentences": _reading(say, facts), "steps": []})
    return {"sections": rows}


def translated_reason(reason: str, language: str) -> str:
    """Why a file was left out; what nobody foresaw stays in English."""
    return translate(reason, words(language, NAME).get("phrases", {}))


@dataclass(frozen=True)
class _Sayer:
    """Says sentences of a language."""

    language: str

    def __call__(self, key: str, **counts: int | str) -> str:
        """A sentence of the file, with counts as pages show them."""
        text: Any = words(self.language, NAME)
        for part in key.split("."):
            text = text[part]
        return text.format(**{name: format_count(n) if isinstance(n, int) else n for name, n in counts.items()})

    def time(self, seconds: float) -> str:
        return duration_in(self.language, seconds)


def _read(say: _Sayer, facts: Mapping[str, Any]) -> list[str]:
    time = say.time(facts["seconds"])
    amount = say("amount", recordings=facts["recordings"], time=time, clips=facts["clips"])
    known, generated = facts["performers"], len((facts.get("ai_generated") or {"used": []})["used"])
    people = say("performers", count=known) if known else say("no_performers")
    return [amount, *([say("generated_used", count=generated)] if generated else []), people]


def _split(say: _Sayer, split: Mapping[str, Any]) -> list[str]:
    sides = ("train", "validation", "held_out")
    clips = {side: split[side]["clips"] for side in sides}
    recordings = {f"{side}_recordings": split[side]["recordings"] for side in sides}
    held_out = split["held_out"]["recordings"]
    few = "none" if held_out < HELD_OUT_FOR_INTERVAL else "two" if held_out == HELD_OUT_FOR_INTERVAL else "rough"
    ours, random = ((split[key] or {}).get("any") for key in ("leakage", "random_split_leakage"))
    by_chance = say("random_unknown") if random is None else format_percent(random)
    leakage = say("leakage_unknown")
    if ours is not None:
        leakage = say("leakage", ours=format_percent(ours), random=by_chance)
    sentences = [
        say("sides", **clips, **recordings),
        say("gap", count=split["gap"]["clips"]) if split["gap"]["clips"] else "",
        say("meaning"),
        say(f"strategies.{split['strategy']}"),
        say("relaxed") if split["relaxed"] else "",
        say(f"validation.{split['validation_from']}"),
        leakage,
        say(f"few.{few}", count=held_out) if held_out < HELD_OUT_TO_COMPARE else "",
    ]
    return [text for text in sentences if text]


def _left_out(say: _Sayer, facts: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
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
    lines = [say("skipped", count=len(kinds)) if kinds else say("nothing_skipped")]
    lines += [
        say(f"reasons.{kind}", count=kinds.count(kind))
        for kind in words(say.language, NAME)["reasons"]
        if kind in kinds
    ]
    shown = [
        say("reason", file=row["file"], reason=translated_reason(row["reason"], say.language))
        for row in facts["skipped"][:MAX_REASONS]
    ]
    lines += [say("each_reason"), *shown] if shown else []
    lines += [say("more_reasons", count=len(kinds) - len(shown))] if len(kinds) > len(shown) else []
    lines += [say("kept_out", count=counts["kept_out"])] if counts["kept_out"] else []
    silence = facts["silence_skipped_seconds"]
    return [*lines, say("silence", time=say.time(silence))] if silence >= 1 else lines


def _rights(say: _Sayer, rights: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """The licences, and how many recordings lack a licence, a consent or the name of a performer."""
    known = {name: n for name, n in rights["licences"].items() if allows_commercial_use(name) != "unknown"}
    lines = [say("licence", name=name, count=n) for name, n in sorted(known.items(), key=lambda row: (-row[1], row))]
    lines += [say("forbidden", count=counts["forbidden"])] if counts["forbidden"] else []
    lines += [say("licence_unknown", count=counts["unlicensed"])] if counts["unlicensed"] else []
    for name in ("consent", "performer"):
        missing = counts[f"no_{name}"]
        lines.append(say(f"{name}_missing", count=missing) if missing else say(f"{name}_complete"))
    lines += [say("consent_refused", count=counts["refused"])] if counts["refused"] else []
    return [*lines, say("no_advice")]


def _duplicates(say: _Sayer, pairs: list[Mapping[str, Any]]) -> list[str]:
    if not pairs:
        return [say("no_duplicates")]
    shown = [
        say("duplicate", first=pair["first"], second=pair["second"], seconds=str(pair["seconds"]))
        for pair in pairs[:MAX_PAIRS]
    ]
    more = [say("more_duplicates", count=len(pairs) - MAX_PAIRS)] if len(pairs) > MAX_PAIRS else []
    return [say("duplicates", count=len(pairs)), *shown, *more]


def _reading(say: _Sayer, facts: Mapping[str, Any]) -> list[str]:
    """What the notes of the English page explain about its tables."""
    captions, labels = facts["captions"], any({*names} - {UNKNOWN} for names in facts["labels"].values())
    names = ["labels" if labels else "no_labels"]
    names += ["captions"] if any(count for origin, count in captions.items() if origin != "none") else []
    names += ["no_captions"] if captions.get("none") else []
    return [say(f"reading.{name}") for name in (*names, "loudness", "random")]


def _next(say: _Sayer, facts: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """What is missing, the most serious first, and what comes after it."""
    columns = {"licence": "unlicensed", "consent": "no_consent", "performer": "no_performer"}
    empty = [column for column, count in columns.items() if counts[count]]
    missing = facts["missing_captions"] or {"file": ""}
    needed = {"needed": HELD_OUT_TO_COMPARE, "all": TO_COMPARE, "half": 2 * HELD_OUT_TO_COMPARE}
    steps = [
        (counts["refused"], "refused", {}),
        (empty, "rights", {"columns": words(say.language)["comma"].join(empty)}),
        (counts["no_caption"], "captions", {"count": counts["no_caption"], "file": missing["file"]}),
        (counts["clipped"], "clipped", {"count": counts["clipped"]}),
        (counts["doubtful_names"], "names", {"count": counts["doubtful_names"]}),
        (facts["split"]["held_out"]["recordings"] < HELD_OUT_TO_COMPARE, "held_out", needed),
        (facts["seconds"] < GOOD_SECONDS, "amount", {}),
    ]
    found = [say(f"next.{name}", **values) for needs, name, values in steps if needs]
    return [*found, *([say("next.again")] if found else []), say("next.train")]
