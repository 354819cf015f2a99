"""The result of a run in three points, in every language: cost, quality (what became better and worse), use."""

from __future__ import annotations

from collections.abc import Sequence

from talim.evaluation.loss_standing import may_be_chance
from talim.html.formatting import format_count, format_number, format_percent
from talim.licences import allows_commercial_use
from talim.reporting import predictor_sentences
from talim.reporting.catalogue import LANGUAGES, Texts, duration, in_languages, join, listed
from talim.reporting.run_results import RunResults
from talim.reporting.sample_changes import samples_sentence
from talim.reporting.sentences import NOT_MEASURED, is_number, loss_verdict, stage_of, trained_fraction

NOTHING = dict.fromkeys(LANGUAGES, "")


def points(result: RunResults, price_per_hour: float | None = None, judged: Sequence[str] = ()) -> dict[str, list[str]]:
    """Three sentences by language: cost in time and money, quality, use.

    `judged` is what people said, in English sentences; `price_per_hour` of the machine, in any currency.
    """
    texts = [cost_point(result, price_per_hour), quality_point(result), use_point(result, judged)]
    return {language: [text[language] for text in texts] for language in LANGUAGES}


def cost_point(result: RunResults, price_per_hour: float | None = None) -> Texts:
    """Time, money, energy, device and trained parameters."""
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
    return in_languages(
        "point_cost",
        time=duration(seconds) if is_number(seconds) else in_languages("point_time_unknown"),
        device=in_languages("point_device", device=device) if device else NOTHING,
        parameters=in_languages("point_parameters", trained=format_count(trained), of_base=of_base)
        if is_number(trained)
        else NOTHING,
        money=_money(result, price_per_hour),
        energy=_energy(result),
    )


def _stage(result: RunResults) -> Texts:
    done, asked = format_count(result.steps_done), result.steps_asked
    japanese = f"{format_count(asked)}ステップ中{done}" if asked else f"{done}ステップ"
    return {"en": stage_of(result), "ja": f"{japanese}まで進み、学習は未完了"}


def _money(result: RunResults, price_per_hour: float | None) -> Texts:
    seconds = result.cost.get("wall_seconds")
    if not is_number(seconds):
        return in_languages("point_money_unknown")
    if price_per_hour is None:
        return in_languages("point_money_time", time=duration(seconds))
    amount, price = (format_number(value, 2) for value in (seconds / 3600 * price_per_hour, price_per_hour))
    return in_languages("point_money", amount=amount, price=price)


def _energy(result: RunResults) -> Texts:
    joules = result.cost.get("energy_joules")
    if is_number(joules):
        return in_languages("point_energy", amount=format_number(joules / 3600, 1))
    return in_languages("point_energy_unknown", note=str(result.cost.get("energy_note") or NOT_MEASURED))


def quality_point(result: RunResults) -> Texts:
    """Whether held-out recordings are predicted better, and what became better and worse in the generated audio."""
    if not result.finished:
        return in_languages("point_quality_unfinished")
    return in_languages("point_quality", learning=_learning(result), samples=samples_sentence(result.scores))


def _learning(result: RunResults) -> Texts:
    verdict, _ = loss_verdict(result)
    mean = (result.losses.get("loss_reduction") or {}).get("mean")
    base = (result.losses.get("base_loss") or {}).get("mean")
    if verdict == "unknown" or not is_number(mean):
        return in_languages("point_learning_unknown")
    amount = in_languages("point_equal")
    if mean:
        key = "lower" if mean > 0 else "higher"
        amount = in_languages(f"point_just_{key}")
        if is_number(base) and base:
            amount = in_languages(f"point_{key}", percent=format_percent(abs(mean) / base))
    key = "point_learning_by_chance" if may_be_chance(result.losses["loss_reduction"]) else "point_learning"
    text = in_languages(key, what=in_languages(f"point_learning_{verdict}"), amount=amount)
    standing = predictor_sentences.standing_sentences(result.losses, with_levels=False)
    return {language: join([text[language], standing.get(language, "")], language) for language in LANGUAGES}


def use_point(result: RunResults, judged: Sequence[str] = ()) -> Texts:
    """What people decided, and whether the licences of base, recordings and adapters of others allow commercial use."""
    people = in_languages("point_judged", judged=" ".join(judged)) if judged else in_languages("point_nobody")
    obstacles = _obstacles(result)
    key = "point_selling_open" if obstacles else "point_selling_allowed"
    selling = in_languages(key, obstacles=listed(obstacles))
    return in_languages("point_use", people=people, selling=selling)


def _obstacles(result: RunResults) -> list[Texts]:
    """What is not known to allow commercial use, with its licence."""
    recordings = (result.training_music.get("rights") or {}).get("licences") or {}
    licence = result.base.get("licence") or "unknown"
    obstacles = []
    if allows_commercial_use(licence) != "allowed":
        obstacles.append(in_languages("point_obstacle_base", name=result.base["name"], licence=licence))
    obstacles += [
        in_languages("point_obstacle_recordings", licence=repr(each))
        for each in recordings
        if allows_commercial_use(each) != "allowed"
    ]
    obstacles += [
        in_languages("point_obstacle", name=name, licence=each)
        for name, each in result.foreign_licences.items()
        if allows_commercial_use(each or name) != "allowed"
    ]
    return obstacles if recordings else [*obstacles, in_languages("point_obstacle_unknown")]
