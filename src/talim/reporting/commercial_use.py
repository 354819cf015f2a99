"""Whether what was trained may be sold: judged here alone, from licences, consent and performers on record.

It never comes to a yes while one of these is unknown, and what is on record may be wrong: no legal advice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from talim.licences import Use, allows_commercial_use, refuses_consent
from talim.reporting.catalogue import Texts, counted, in_languages, listed

UNKNOWN = ("", "unknown")
NO_PERFORMER = "not needed"  # how a consent begins where no person performs


def judge(rights: Mapping[str, Any]) -> tuple[Use, list[Texts]]:
    """The strictest of everything on record, and each obstacle by language, what forbids it first.

    `rights`: "base" and "base_licence"; "recordings" {licence: count}, "consent" {status: count} and "attributions" (a
    row per recording) of the training recordings; "adapter" and "adapter_licence", or "others" {what: licence}, of
    adapters of others; the "phrase" ({"file", "rights"}) that pieces go on from, also where it is no part of them.
    """
    named = [("point_obstacle_base", rights["base"], rights["base_licence"])]
    named += [("point_obstacle_recordings", "", each) for each in rights.get("recordings") or {}]
    named += [("point_obstacle", name, licence or name) for name, licence in (rights.get("others") or {}).items()]
    if "adapter" in rights:
        named.append(("point_obstacle_adapter", rights["adapter"], rights["adapter_licence"]))
    if phrase := rights.get("phrase"):
        named.append(("point_obstacle_phrase", phrase["file"], phrase["rights"]))
    shown = {"unknown": in_languages("licence_unknown")}
    found: list[tuple[Use, Texts]] = [
        (use, in_languages(key, name=name, licence=shown.get(licence, licence)))
        for key, name, licence in named
        if (use := allows_commercial_use(licence)) != "allowed"
    ]
    if not rights.get("recordings"):
        found.append(("unknown", in_languages("point_obstacle_unknown")))
    found += [*_consent(rights), *_performers(rights)]
    found.sort(key=lambda each: each[0] != "forbidden")
    return (found[0][0] if found else "allowed"), [text for _, text in found]


def sentence(rights: Mapping[str, Any]) -> Texts:
    """The judgement in words, without a full stop; it names every obstacle."""
    return sentence_of(judge(rights)[1])


def sentence_of(obstacles: Sequence[Texts]) -> Texts:
    """The `sentence` of rights whose obstacles `judge` has found."""
    return in_languages("point_selling_open" if obstacles else "point_selling_recorded", obstacles=listed(obstacles))


def _consent(rights: Mapping[str, Any]) -> list[tuple[Use, Texts]]:
    consent = rights.get("consent") or {}
    found: list[tuple[Use, Texts]] = [
        ("forbidden", in_languages("point_obstacle_refused", consent=repr(each)))
        for each in consent
        if refuses_consent(each)
    ]
    missing = sum(count for each, count in consent.items() if each in UNKNOWN)
    if not consent or any(each in UNKNOWN for each in consent):
        found.append(("unknown", in_languages("point_obstacle_consent", recordings=_of_recordings(missing))))
    return found


def _performers(rights: Mapping[str, Any]) -> list[tuple[Use, Texts]]:
    rows = rights.get("attributions") or []
    missing = sum(
        any(name in UNKNOWN for name in str(row.get("performer", "")).split("; "))
        and not str(row.get("consent", "")).startswith(NO_PERFORMER)
        for row in rows
    )
    if rows and not missing:
        return []
    return [("unknown", in_languages("point_obstacle_performers", recordings=_of_recordings(missing)))]


def _of_recordings(count: int) -> Texts:
    return counted(count, "recording") if count else in_languages("point_all_recordings")
