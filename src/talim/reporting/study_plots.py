"""Plots of a study's report, drawn from the values of study.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from talim.experiments.comparison import levels_text
from talim.html import plots
from talim.html.design_charts import DesignPoint, ErrorBarSeries, pareto_plot, size_curve_plot
from talim.html.formatting import GB, format_counted, format_number, format_percent
from talim.reporting.study_sentences import COSTS, measure_name

Summary = Mapping[str, Any]
LOSS = "loss_reduction"
AXES = {  # cost -> axis label, unit in that of COSTS
    "parameters": ("trained parameters, thousands", 1e3),
    "seconds": ("seconds of training", 1.0),
    "memory": ("peak memory, GB", GB),
    "bytes": ("adapter on disk, MB", 1e6),
}
MAX_COST_BARS = 14


def pareto_markers(base: Summary) -> dict[str, str]:
    """A number for each design on any Pareto front, the smallest design first."""
    designs = [row["design"] for row in base["overall"] if row["fronts"]]
    return {design: str(number) for number, design in enumerate(designs, start=1)}


def pareto_plots(base: Summary) -> list[Markup]:
    """A plot for each measured cost: mean loss reduction over the corpora against the cost."""
    markers, recommended, drawings = pareto_markers(base), base["recommendations"][0]["design"], []
    for cost, (label, unit) in AXES.items():
        rows = [row for row in base["overall"] if row["costs"][cost] and LOSS in row["measures"]]
        if len(rows) < 2:
            continue
        points = []
        for row in rows:
            design, on_front = row["design"], cost in row["fronts"]
            marker, quality = markers[design] if on_front else "", row["measures"][LOSS]["mean"]
            points.append(DesignPoint(row["costs"][cost] / unit, quality, marker, on_front, design == recommended))
        name, front = COSTS[cost][0], ", ".join(row["design"] for row in rows if cost in row["fronts"])
        alt = f"Loss reduction against {name} of {format_counted(len(rows), 'design')}. On the Pareto front: {front}."
        y_label = _with_unit("loss reduction", base)
        drawings.append(pareto_plot(points, alt=alt, title=name.capitalize(), x_label=label, y_label=y_label))
    return drawings


def pareto_table(base: Summary) -> list[dict[str, Any]]:
    """Every design on a Pareto front: its marker, loss reduction and, by cost, its fraction of the resamples."""
    markers, table = pareto_markers(base), []
    for row in (row for row in base["overall"] if row["design"] in markers):
        known = {cost: format_percent(value) for cost, value in row["front_fractions"].items() if cost in row["fronts"]}
        values = {"marker": markers[row["design"]], "design": row["design"], LOSS: row["measures"][LOSS]}
        table.append(values | {"fractions": [known.get(cost, "–") for cost in AXES]})
    return table


def _with_unit(label: str, base: Summary) -> str:
    return f"{label}, {base['unit']}" if base["unit"] else label


def main_site(base: Summary) -> str:
    """The site of most designs, `all` before others: the size curves are of this site."""
    sites = [row["site"] for row in base["overall"] if _is_sized_adapter(row)]
    return max(dict.fromkeys(sites), key=lambda site: (sites.count(site), site == "all"), default="")


def _is_sized_adapter(row: Summary) -> bool:
    return bool(row["size_fraction"]) and "+" not in str(row["kind"])


def size_curves(base: Summary) -> list[Markup]:
    """A panel for each corpus: loss reduction over size, a curve for each kind, at the main site."""
    site = main_site(base)
    panels = [(table, _curves(table, site)) for table in base["tables"]]
    panels = [(table, curves) for table, curves in panels if any(len(curve.xs) > 1 for curve in curves)]
    full = {table["corpus"]: _full_finetune_level(table) for table, _ in panels}
    ys = [y for _, curves in panels for curve in curves for y in (*curve.lows, *curve.highs, *curve.ys)]
    known_ys = [y for y in (*ys, *full.values()) if y is not None]
    drawings = []
    for table, curves in panels:
        corpus, level = table["corpus"], full[table["corpus"]]
        details = " ".join(_describe_curve(curve) for curve in curves)
        drawings.append(
            size_curve_plot(
                curves,
                alt=f"Loss reduction over size at {site}, {corpus}. {details}",
                title=corpus,
                x_label=f"trained, per cent of the base (at {site})",
                y_label=_with_unit("loss reduction", base),
                level=("full@all", level) if level is not None else None,
                y_range=(min(known_ys), max(known_ys)),
            )
        )
    return drawings


def _describe_curve(curve: ErrorBarSeries) -> str:
    points = (f"{format_number(y)} at {x:g} %" for x, y in zip(curve.xs, curve.ys, strict=True))
    return f"{curve.label}: {', '.join(points)}."


def _curves(table: Summary, site: str) -> list[ErrorBarSeries]:
    rows = [row for row in table["designs"] if row["site"] == site and row["size_fraction"] and LOSS in row["measures"]]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    kinds.sort(key=lambda kind: ("conv", "transformer", "linear", kind).index(kind))
    series = []
    for style, kind in enumerate(kinds):
        of_kind = sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["size_fraction"])
        values = [row["measures"][LOSS] for row in of_kind]
        means, lows, highs = ([value[name] for value in values] for name in ("mean", "low", "high"))
        percents = [round(100 * row["size_fraction"], 4) for row in of_kind]
        series.append(ErrorBarSeries(str(kind), percents, means, lows, highs, style))
    return series


def _full_finetune_level(table: Summary) -> float | None:
    rows = (row for row in table["designs"] if row["design"] == "full@all" and LOSS in row["measures"])
    return next((row["measures"][LOSS]["mean"] for row in rows), None)


def heat_map(table: Summary) -> dict[str, Any] | None:
    """Kinds by sites: the loss reduction at the size that most of them have, each with its percentile in the range."""
    sized = [row for row in table["designs"] if _is_sized_adapter(row) and LOSS in row["measures"]]
    if not sized:
        return None
    sizes = [row["size_fraction"] for row in sized]
    size = max(dict.fromkeys(sizes), key=lambda each: (sizes.count(each), each))
    values = {(row["kind"], row["site"]): row["measures"][LOSS] for row in sized if row["size_fraction"] == size}
    kinds, sites = (list(dict.fromkeys(key[n] for key in values)) for n in (0, 1))
    if len(kinds) * len(sites) < 2:
        return None
    means = [value["mean"] for value in values.values()]
    low, span = min(means), max(means) - min(means) or 1.0
    cells = {key: (value, 100 * (value["mean"] - low) / span) for key, value in values.items()}
    rows = [(kind, [cells.get((kind, site)) for site in sites]) for kind in kinds]
    return {"corpus": table["corpus"], "percent": 100 * size, "sites": sites, "rows": rows}


def effect_plots(base: Summary) -> dict[str, Markup]:
    """Differences in loss reduction between kinds, sites and sizes, with their 95 % intervals."""
    questions = [q for q in base["questions"] if q["measure"] == LOSS and not q.get("interaction")]
    return _interval_plots(questions, base, "Differences in loss reduction")


def interaction_plots(base: Summary) -> list[tuple[str, dict[str, Markup]]]:
    """For every two genres or textures: how much more kinds and sites differ in the first than in the second."""
    groups: dict[str, list[Summary]] = {}
    for question in base["questions"]:
        if question.get("interaction"):
            title = " minus ".join(str(v) for group in question["interaction"] for v in group.values())
            groups.setdefault(title, []).append(question)
    return [(title, _interval_plots(questions, base, title)) for title, questions in groups.items()]


def _interval_plots(questions: Sequence[Summary], base: Summary, title: str) -> dict[str, Markup]:
    rows = []
    for q in (q for q in questions if q["mean"] is not None):
        label, strong = f"{levels_text(q['treatment'])} − {levels_text(q['control'])}", q["answer"] in ("more", "less")
        label += f", {levels_text(q['where'])}" if q.get("where") else ""
        rows.append(plots.ErrorBar(label, q["mean"], q["low"], q["high"], strong))
    if not rows:
        return {}
    alt = f"{title}: " + "; ".join(f"{row.label} {format_number(row.value)}" for row in rows)
    label = _with_unit("difference", base)
    return plots.responsive_pair(rows, alt=alt, x_label=label, widths_inches=(9.4, 4.2))


def cost_bars(base: Summary) -> dict[str, list[tuple[str, str, float]]]:
    """For time and memory: design, amount as text, and per cent of the most expensive design shown."""
    designs = _designs_of_interest(base)
    bars = {}
    for cost in ("seconds", "memory"):
        name, show = COSTS[cost]
        values = {row["design"]: row["costs"][cost] for row in base["overall"] if row["design"] in designs}
        values = {design: value for design, value in values.items() if value}
        if values:
            highest = max(values.values())
            bars[name.capitalize()] = [(design, show(value), 100 * value / highest) for design, value in values.items()]
    return bars


def _designs_of_interest(base: Summary) -> set[str]:
    """Recommended designs, hybrids and unsized kinds, Pareto fronts, then others, up to MAX_COST_BARS."""
    rows = sorted(base["overall"], key=lambda row: (_is_sized_adapter(row), not row["fronts"]))
    designs = [each["design"] for each in (*base["recommendations"], *rows) if each["design"]]
    return set(list(dict.fromkeys(designs))[:MAX_COST_BARS])


def table_measures(table: Summary) -> list[tuple[str, str]]:
    """The measures of a table with their names, losses first."""
    names = dict.fromkeys(name for row in table["designs"] for name in row["measures"])
    names = [name for name in names if not name.startswith("log_")]
    losses = [LOSS, f"{LOSS}_ornaments", "ornament_gain", "repeat_gain", "base_loss", "adapted_loss"]
    losses += [name for name in names if name.endswith("_loss") and name not in losses]  # of other predictors
    first = [name for name in losses if name in names]
    return [(name, measure_name(name)) for name in [*first, *(name for name in names if name not in first)]]
