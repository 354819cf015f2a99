"""Where a held-out loss stands to predictors that need no model, in sentences and as a table; from scores.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talim.evaluation.predictor_comparison import ABOVE, KEY, NOT_SHOWN, is_calibration, may_be_chance
from talim.html.formatting import format_ci, format_number, format_percent
from talim.html.languages import languages, words
from talim.reporting.catalogue import Texts, in_languages, join, listed, measure_interval, recording_values


def predictor_name(name: str, with_term: bool = False) -> Texts:
    """A predictor of scores.json in words; `with_term` adds what researchers call it."""
    key, term = f"predictor_{name}", f"predictor_term_{name}"
    text: Texts = in_languages(key) if key in words("en") else {each: name.replace("_", " ") for each in languages()}
    if with_term and term in words("en"):
        return in_languages("predictor_term", name=text, term=in_languages(term))
    return text


def standing_sentences(losses: Mapping[str, Any], with_levels: bool = True) -> Texts:
    """Where base and adapter stand to the best of the predictors; empty if not measured.

    `with_levels` lists the loss of each predictor first, which a page with `predictor_rows` has in its table.
    """
    known = losses.get(KEY)
    if not known:
        return {}
    unit = str(known.get("unit") or losses.get("loss_unit") or "")
    levels = _levels(losses, known, unit) if with_levels else {}
    why = unigram_sentence(losses) if with_levels else {}
    parts = [levels, why, _base(losses, known), _standing(losses, known), _note(known)]
    return {language: join([part[language] for part in parts if part], language) for language in languages()}


def plain_standing(losses: Mapping[str, Any]) -> Texts:
    """Whether the adapter does better than the best guess without a model, in words alone; empty if not measured.

    Where the untrained base already does, that is no success of training, and what the adapter does to it is said.
    """
    known = losses.get(KEY)
    if not known:
        return {}
    best, base = predictor_name(known["best"]), known["base_margin"]["mean"]
    verdict = {ABOVE: "above", NOT_SHOWN: "not_shown"}.get(known["verdict"], "below")
    if verdict == "below" and base > 0:
        change = known["adapted_margin"]["mean"] - base
        effect = "adds" if change > 0 else "takes" if change < 0 else "same"
        by_chance = bool(change) and may_be_chance(losses.get("loss_reduction") or known["adapted_margin"])
        chance = in_languages("plain_chance") if by_chance else ""
        return in_languages("plain_already", best=best, effect=in_languages(f"plain_{effect}", chance=chance))
    return in_languages(f"plain_{verdict}", best=best)


def calibration_sentence(losses: Mapping[str, Any]) -> Texts:
    """That a fall of the loss is calibration, with the figures; empty where it is not."""
    return _standing(losses, losses[KEY]) if is_calibration(losses) else {}


def not_shown_sentence(losses: Mapping[str, Any]) -> Texts:
    """That the adapter is not shown to end below the best predictor; empty where it is, or lies above it."""
    known = losses.get(KEY) or {}
    if known.get("verdict") != NOT_SHOWN:
        return {}
    return in_languages("standing_not_shown", best=predictor_name(known["best"]), interval=_interval(known))


def predictor_rows(losses: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each predictor, the base and the adapter, the highest loss first; nothing if not measured."""
    known = losses.get(KEY)
    if not known:
        return []
    named = {predictor_name(name, with_term=True)["en"]: values for name, values in known["losses"].items()}
    named |= {words("en")[f"predictor_{name}"]: losses[f"{name}_loss"] for name in ("base", "adapted")}
    rows = [
        {
            "name": name,
            "loss": format_number(values["mean"]),
            "ci95": format_ci(*values["ci95"], values=recording_values(values)) if values.get("ci95") else "",
            "parts": ", ".join(format_number(part) for part in values.get("per_part") or []),
        }
        for name, values in sorted(named.items(), key=lambda item: -item[1]["mean"])
    ]
    return rows


def _levels(losses: Mapping[str, Any], known: Mapping[str, Any], unit: str) -> Texts:
    values = sorted(known["losses"].items(), key=lambda item: -item[1]["mean"])
    levels = [
        {
            language: f"{name} {format_number(each['mean'])}"
            for language, name in predictor_name(key, with_term=True).items()
        }
        for key, each in values
    ]
    ends = (losses["base_loss"]["mean"], losses["adapted_loss"]["mean"])
    base, adapted = (format_number(value) for value in ends)
    return in_languages("standing_levels", levels=listed(levels), unit=_unit(unit), base=base, adapted=adapted)


def unigram_sentence(losses: Mapping[str, Any]) -> Texts:
    """Why counting sounds can be worse than a uniform guess, where it is so; empty elsewhere."""
    guesses = (losses.get(KEY) or {}).get("losses") or {}
    if not {"uniform", "unigram"} <= guesses.keys() or guesses["unigram"]["mean"] <= guesses["uniform"]["mean"]:
        return {}
    return in_languages("unigram_worse")


def _unit(unit: str) -> Texts:
    key = f"unit_{unit.replace(' ', '_')}"
    return in_languages(key) if key in words("en") else dict.fromkeys(languages(), unit)


def _base(losses: Mapping[str, Any], known: Mapping[str, Any]) -> Texts:
    """That the base is worse than a guess, which a trained model should never be."""
    guess = known["losses"].get("uniform")
    return in_languages("standing_worse_than_guess") if guess and losses["base_loss"]["mean"] > guess["mean"] else {}


def _standing(losses: Mapping[str, Any], known: Mapping[str, Any]) -> Texts:
    base, adapted = known["base_margin"]["mean"], known["adapted_margin"]["mean"]
    change, best = adapted - base, predictor_name(known["best"])
    figures = {"base": format_number(abs(base)), "adapted": format_number(abs(adapted)), "best": best}
    by_chance = may_be_chance(losses.get("loss_reduction") or known["adapted_margin"])
    figures |= {"change": format_number(abs(change)), "interval": _interval(known)}
    figures |= {"chance": in_languages("maybe_chance") if by_chance else ""}
    if known["verdict"] == ABOVE:
        if is_calibration(losses):
            figures["fell"] = in_languages("standing_fell_by_chance" if by_chance else "standing_fell")
            return in_languages("standing_calibration", share=format_percent(change / -base), **figures)
        return in_languages("standing_lost" if base > 0 else "standing_both_above", **figures)
    if base <= 0:
        key = "standing_passes"
    else:
        key = "standing_further" if change > 0 else "standing_gives_back" if change < 0 else "standing_unchanged"
        figures["share"] = format_percent(abs(change) / base)
    texts = in_languages(key, **figures)
    doubt = not_shown_sentence(losses)
    return {language: join([doubt.get(language, ""), texts[language]], language) for language in languages()}


def _interval(known: Mapping[str, Any]) -> Texts:
    return measure_interval(known["adapted_margin"])


def _note(known: Mapping[str, Any]) -> Texts:
    """What the fit of the predictors had to do without: a corpus with one training recording."""
    return in_languages("standing_one_recording") if (known.get("fit") or {}).get("note") else {}
