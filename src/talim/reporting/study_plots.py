"""A study's drawings from its plain values: frontiers, curves over size, the map of kinds and sites, effects, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from talim.html import design_charts, formatting, plots
from talim.html.formatting import format_number
from talim.reporting.study_sentences import COSTS, measure_name

Summary = Mapping[str, Any]
AXES = {
    "parameters": ("thousand trained parameters", 1e3),
    "seconds": ("seconds of training", 1.0),
    "memory": ("peak memory, GB", 1e9),
    "bytes": ("adapter on disk, MB", 1e6),
}
MOST_BARS = 14


def frontier_markers(base: Summary) -> dict[str, str]:
    """A number for each design that is on any frontier, the cheapest first."""
    on = [row["design"] for row in base["overall"] if row["frontiers"]]
    return {design: str(number) for number, design in enumerate(on, start=1)}


def frontiers(base: Summary) -> list[Markup]:
    """One drawing for each cost that was measured: mean fall of the loss over the corpora against the cost."""
    numbers, chosen, drawn = frontier_markers(base), base["advice"][0]["design"], []
    for cost, (label, unit) in AXES.items():
        rows = [row for row in base["overall"] if row["prices"][cost] and "fall" in row["measures"]]
        if len(rows) < 2:
            continue
        points = [
            design_charts.DesignPoint(
                row["prices"][cost] / unit,
                row["measures"]["fall"]["mean"],
                numbers.get(row["design"], "") if cost in row["frontiers"] else "",
                cost in row["frontiers"],
                row["design"] == chosen,
            )
            for row in rows
        ]
        best = ", ".join(row["design"] for row in rows if cost in row["frontiers"])
        alt = f"Fall of the loss against {COSTS[cost][0]} of {len(rows)} designs. On the frontier: {best}."
        title = COSTS[cost][0].capitalize()
        drawn.append(
            design_charts.frontier_plot(
                points, alt=alt, title=title, x_label=label, y_label=_fall_label(base)
            )
        )
    return drawn


def _fall_label(base: Summary) -> str:
    return f"fall of the loss{', ' + base['unit'] if base['unit'] else ''}"


def main_site(base: Summary) -> str:
    """The site at which most designs stand, `all` before others: curves over size are drawn there."""
    sites = [row["site"] for row in base["overall"] if row["share"] and "+" not in str(row["kind"])]
    return max(dict.fromkeys(sites), key=lambda site: (sites.count(site), site == "all"), default="")


def size_curves(base: Summary) -> list[Markup]:
    """A panel for each corpus: the fall of the loss over the size, a curve for each kind, at the main site."""
    site = main_site(base)
    panels = [(table, _curves(table, site)) for table in base["tables"]]
    panels = [(table, curves) for table, curves in panels if any(len(curve.xs) > 1 for curve in curves)]
    wholes = {table["corpus"]: _full_finetune_level(table) for table, _ in panels}
    drawn_ys = [(*curve.lows, *curve.highs, *curve.ys) for _, curves in panels for curve in curves]
    ys = [y for each in drawn_ys for y in each if y is not None]
    ys += [whole for whole in wholes.values() if whole is not None]
    drawn = []
    for table, curves in panels:
        whole = wholes[table["corpus"]]
        alt = f"Fall of the loss over size at {site}, {table['corpus']}. " + " ".join(
            map(_describe_curve, curves)
        )
        drawn.append(
            design_charts.size_curve_plot(
                curves,
                alt=alt,
                title=table["corpus"],
                x_label=f"trained, per cent of the base (at {site})",
                y_label=_fall_label(base),
                level=("full@all", whole) if whole is not None else None,
                ends=(min(ys), max(ys)),
            )
        )
    return drawn


def _describe_curve(curve: design_charts.ErrorBarSeries) -> str:
    points = (f"{format_number(y)} at {x:g} %" for x, y in zip(curve.xs, curve.ys, strict=True))
    return f"{curve.label}: {', '.join(points)}."


def _curves(table: Summary, site: str) -> list[design_charts.ErrorBarSeries]:
    kinds = list(
        dict.fromkeys(row["kind"] for row in table["designs"] if row["site"] == site and row["share"])
    )
    found = []
    for style, kind in enumerate(
        sorted(kinds, key=lambda kind: ("conv", "transformer", "linear", kind).index(kind))
    ):
        rows = [row for row in table["designs"] if (row["kind"], row["site"]) == (kind, site)]
        rows = [row for row in rows if row["share"] and "fall" in row["measures"]]
        rows.sort(key=lambda row: row["share"])
        if rows:
            falls = [row["measures"]["fall"] for row in rows]
            means, lows, highs = ([fall[name] for fall in falls] for name in ("mean", "low", "high"))
            shares = [round(100 * row["share"], 4) for row in rows]
            found.append(design_charts.ErrorBarSeries(str(kind), shares, means, lows, highs, style))
    return found


def _full_finetune_level(table: Summary) -> float | None:
    rows = [row for row in table["designs"] if row["design"] == "full@all" and "fall" in row["measures"]]
    return rows[0]["measures"]["fall"]["mean"] if rows else None


def heat_map(table: Summary) -> dict[str, Any] | None:
    """Kinds by sites: the fall of the loss at the size that most of them have, each with its part of the range."""
    sized = [row for row in table["designs"] if row["share"] and "fall" in row["measures"]]
    sized = [row for row in sized if "+" not in str(row["kind"])]
    shares = [row["share"] for row in sized]
    if not sized:
        return None
    share = max(dict.fromkeys(shares), key=lambda each: (shares.count(each), each))
    here = {(row["kind"], row["site"]): row["measures"]["fall"] for row in sized if row["share"] == share}
    kinds, sites = (list(dict.fromkeys(key[n] for key in here)) for n in (0, 1))
    if len(kinds) * len(sites) < 2:
        return None
    means = [fall["mean"] for fall in here.values()]
    low, reach = min(means), max(means) - min(means) or 1.0
    cells = {place: (fall, 100 * (fall["mean"] - low) / reach) for place, fall in here.items()}
    rows = [(kind, [cells.get((kind, site)) for site in sites]) for kind in kinds]
    return {"corpus": table["corpus"], "share": 100 * share, "sites": sites, "rows": rows}


def effect_plots(base: Summary) -> dict[str, Markup]:
    """What kinds, sites and sizes do to the fall of the loss: differences with their 95 % intervals."""
    asked = [q for q in base["questions"] if q["measure"] == "fall" and not q.get("between")]
    return _intervals(asked, base, "Differences in the fall of the loss")


def interaction_plots(base: Summary) -> list[tuple[str, dict[str, Markup]]]:
    """For every two genres or textures: by how much more kinds and sites differ in the first than in the second."""
    groups: dict[str, list[Summary]] = {}
    for question in base["questions"]:
        if question.get("between"):
            name = " minus ".join(str(value) for group in question["between"] for value in group.values())
            groups.setdefault(name, []).append(question)
    return [(name, _intervals(asked, base, name)) for name, asked in groups.items()]


def _intervals(asked: Sequence[Summary], base: Summary, title: str) -> dict[str, Markup]:
    rows = [
        plots.ErrorBar(_short(q), q["mean"], q["low"], q["high"], strong=q["answer"] in ("more", "less"))
        for q in asked
        if q["mean"] is not None
    ]
    if not rows:
        return {}
    alt = f"{title}: " + "; ".join(f"{row.label} {format_number(row.value)}" for row in rows)
    label = f"difference{', ' + base['unit'] if base['unit'] else ''}"
    return {
        width: plots.interval_plot(rows, alt=alt, x_label=label, width_inches=inches)
        for width, inches in (("broad", 9.4), ("narrow", 4.2))
    }


def _short(question: Summary) -> str:
    this, that = (
        ", ".join(_value(name, v) for name, v in question[side].items()) for side in ("this", "that")
    )
    return f"{this} − {that}"


def _value(name: str, value: Any) -> str:
    return f"{100 * value:g} %" if name == "share" else str(value)


def cost_bars(base: Summary) -> dict[str, list[tuple[str, str, float]]]:
    """For time and memory: design, amount in words and per cent of the dearest; the designs that are worth a look."""
    worth = _designs_of_interest(base)
    found = {}
    for cost in ("seconds", "memory"):
        rows = [row for row in base["overall"] if row["design"] in worth and row["prices"][cost]]
        if rows:
            most = max(row["prices"][cost] for row in rows)
            bars = [
                (r["design"], COSTS[cost][1](r["prices"][cost]), 100 * r["prices"][cost] / most) for r in rows
            ]
            found[COSTS[cost][0].capitalize()] = bars
    return found


def _designs_of_interest(base: Summary) -> set[str]:
    """What was advised, what is on a frontier, and whatever is no plain adapter, until there are enough."""
    order = [each["design"] for each in base["advice"] if each["design"]]
    order += [row["design"] for row in base["overall"] if not row["share"] or "+" in str(row["kind"])]
    order += [row["design"] for row in base["overall"] if row["frontiers"]]
    order += [row["design"] for row in base["overall"]]
    return set(list(dict.fromkeys(order))[:MOST_BARS])


def measures_of(table: Summary) -> list[tuple[str, str]]:
    """The measures of a table with their names, those of learning first."""
    names = dict.fromkeys(name for row in table["designs"] for name in row["measures"])
    lead = ("fall", "ornament_fall", "plain_fall", "return_gain", "before", "after")
    names = [name for name in names if not name.startswith("log_")]
    first = [name for name in lead if name in names]
    return [(name, measure_name(name)) for name in [*first, *(name for name in names if name not in first)]]


def frontier_table(base: Summary) -> list[dict[str, Any]]:
    """Every design of a frontier with its mark, its fall and, for each cost, how often it is there when drawn again."""
    numbers = frontier_markers(base)
    return [
        {
            "mark": numbers[row["design"]],
            "design": row["design"],
            "fall": row["measures"]["fall"],
            "shares": [_share(row, cost) for cost in AXES],
        }
        for row in base["overall"]
        if row["design"] in numbers
    ]


def _share(row: Summary, cost: str) -> str:
    known = cost in row["frontiers"] and cost in row["frontier_shares"]
    return formatting.format_percent(row["frontier_shares"][cost]) if known else "–"
