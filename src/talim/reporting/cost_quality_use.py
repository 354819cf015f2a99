"""The result of a run in three points, in every language: cost, quality (what became better and worse), use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from talim.evaluation.predictor_comparison import may_be_chance
from talim.html.formatting import format_count, format_number, format_percent
from talim.html.languages import NOTHING, languages
from talim.reporting import commercial_use, predictor_sentences
from talim.reporting.catalogue import Texts, counted, device_name, duration, in_languages, join, listed
from talim.reporting.run_results import RunResults
from talim.reporting.sample_changes import samples_sentence
from talim.reporting.sentences import (
    NOT_MEASURED,
    is_number,
    loss_verdict,
    plain_change,
    plain_percent,
    stage_of,
    trained_fraction,
)


def points(
    result: RunResults,
    price_per_hour: float | None = None,
    judged: Sequence[str] = (),
    spent: Mapping[str, Any] | None = None,
    *,
    advised: bool = False,
) -> dict[str, list[str]]:
    """Three sentences by language: cost in time and money, quality, use.

    `judged` is what people said, in English sentences; `price_per_hour` of the machine, in any currency. `spent` has
    the "seconds" of a whole of which the training is a part, and of its parts "preparing", "training" (of so many
    "designs") and "evaluating". `advised`: how to hold out more recordings is told elsewhere, with why it stopped.
    """
    texts = [cost_point(result, price_per_hour, spent), quality_point(result, advised), use_point(result, judged)]
    return {language: [text[language] for text in texts] for language in languages()}


def cost_point(
    result: RunResults, price_per_hour: float | None = None, spent: Mapping[str, Any] | None = None
) -> Texts:
    """Time and money, of the whole first where the training is a part of one; energy, device, trained parameters."""
    cost = result.cost
    seconds, trained = cost.get("wall_seconds"), cost.get("trainable_parameters")
    if not result.finished:
        return in_languages("point_cost_unfinished", stage=_stage(result))
    if result.scored_adapter:
        return in_languages("point_cost_scored")
    if not is_number(seconds) and not is_number(trained):
        return in_languages("point_cost_unknown")
    fraction = trained_fraction(result)
    of_base = NOTHING if fraction is None else in_languages("point_of_base", percent=format_percent(fraction))
    device = cost.get("device")
    facts = {
        "time": duration(seconds) if is_number(seconds) else in_languages("point_time_unknown"),
        "device": in_languages("point_device", device=device_name(str(device))) if device else NOTHING,
        "parameters": in_languages("point_parameters", trained=format_count(trained), of_base=of_base)
        if is_number(trained)
        else NOTHING,
        "energy": _energy(result),
    }
    if not spent:
        return in_languages("point_cost", money=_money(seconds, price_per_hour), **facts)
    whole, parts = duration(spent["seconds"]), _parts(spent)
    money = _money(spent["seconds"], price_per_hour)
    of_that = _training_money(seconds, price_per_hour)
    return in_languages("point_cost_whole", whole=whole, parts=parts, money=money, training_money=of_that, **facts)


def _parts(spent: Mapping[str, Any]) -> Texts:
    """What a whole consists of; the rest last."""
    names = [name for name in ("preparing", "training", "evaluating") if spent[name]]
    designs = counted(spent["designs"], "design")
    parts = [in_languages(f"point_part_{name}", time=duration(spent[name]), designs=designs) for name in names]
    rest = spent["seconds"] - sum(spent[name] for name in names)
    return listed([*parts, in_languages("point_part_rest", time=duration(max(0.0, rest)))])


def _stage(result: RunResults) -> Texts:
    done, asked = result.steps_done, result.steps_asked
    if not asked:
        return in_languages("stage_of", done=counted(done, "step")) | {"en": stage_of(result)}
    texts = in_languages("stage_of_asked", done=format_count(done), asked=counted(asked, "step"))
    return texts | {"en": stage_of(result)}


def _money(seconds: float | None, price_per_hour: float | None) -> Texts:
    if not is_number(seconds):
        return in_languages("point_money_unknown")
    if price_per_hour is None:
        return in_languages("point_money_time", time=duration(seconds))
    amount, price = (format_number(value, 2) for value in (seconds / 3600 * price_per_hour, price_per_hour))
    return in_languages("point_money", amount=amount, price=price)


def _training_money(seconds: float | None, price_per_hour: float | None) -> Texts:
    if price_per_hour is None or not is_number(seconds):
        return NOTHING
    return in_languages("point_training_money", amount=format_number(seconds / 3600 * price_per_hour, 2))


def _energy(result: RunResults) -> Texts:
    joules = result.cost.get("energy_joules")
    if is_number(joules):
        return in_languages("point_energy", amount=format_number(joules / 3600, 1))
    return in_languages("point_energy_unknown", note=str(result.cost.get("energy_note") or NOT_MEASURED))


def quality_point(result: RunResults, advised: bool = False) -> Texts:
    """Whether held-out recordings are predicted better, and what became better and worse in the generated audio."""
    if not result.finished:
        return in_languages("point_quality_unfinished")
    return in_languages("point_quality", learning=_learning(result), samples=samples_sentence(result.scores, advised))


def _learning(result: RunResults) -> Texts:
    """Better or worse than the untrained base, by how much as a layman reads it, and whether chance would give that."""
    verdict, _ = loss_verdict(result)
    change = plain_change(result)
    if verdict == "unknown" or change is None:
        return in_languages("point_learning_unknown")
    amount = in_languages("point_equal")
    if change:
        unit = "chance" if result.loss_unit == "nats" else "error"
        key = f"point_{unit}_{'higher' if change > 0 else 'lower'}"
        by_chance = may_be_chance(result.losses["loss_reduction"])
        doubt = in_languages("point_by_chance" if by_chance else "point_above_chance")
        amount = in_languages(key, percent=plain_percent(change), doubt=doubt)
    text = in_languages("point_learning", what=in_languages(f"point_learning_{verdict}"), amount=amount)
    standing = predictor_sentences.plain_standing(result.losses)
    parts = (text, standing, in_languages("point_not_sound"))
    return {language: join([part.get(language, "") for part in parts], language) for language in languages()}


def use_point(result: RunResults, judged: Sequence[str] = ()) -> Texts:
    """What people decided, and whether everything on record lets the music be sold (`commercial_use`)."""
    people = in_languages("point_judged", judged=" ".join(judged)) if judged else in_languages("point_nobody")
    return in_languages("point_use", people=people, selling=commercial_use.sentence(_rights(result)))


def _rights(result: RunResults) -> dict[str, Any]:
    music = result.training_music
    rights = music.get("rights") or {}
    return {
        "base": result.base["name"],
        "base_licence": result.base.get("licence") or "unknown",
        "recordings": rights.get("licences"),
        "consent": rights.get("consent"),
        "attributions": music.get("attributions"),
        "others": result.foreign_licences,
    }
