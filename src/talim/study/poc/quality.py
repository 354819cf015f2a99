"""The second stage, musical quality as far as numbers tell it: who learned most, which to go on with, by its gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talim.run import Run, read_json
from talim.study import words
from talim.study.poc.choosing import Choice, choose
from talim.study.poc.gates import Gates
from talim.study.poc.running import fall_of

LIMITS = (
    "Each design was trained with one seed: what is said of them holds for these runs. It shows that the road works "
    "and what each learned; another seed may put them in another order, so it cannot show which kind is best."
)


def chosen(runs: Mapping[str, Run], gates: Gates) -> Choice:
    """The design to go on with: the one seam where a choice is made, by the falls and what training took."""
    falls = {name: fall_of(run)["per_recording"] for name, run in runs.items()}
    prices = {name: float(read_json(run.cost)["flops"]) for name, run in runs.items()}
    return choose(falls, prices, gates.quality.margin_share)


def passed(run: Run, gates: Gates) -> bool | None:
    """Whether the fall is above the gate by its whole interval; None where there is no interval."""
    ends = fall_of(run)["interval"]
    return None if ends is None else bool(ends[0] > gates.quality.fall_above)


def told(runs: Mapping[str, Run], broken: Mapping[str, str], choice: Choice) -> list[str]:
    """The second stage in sentences: every design's fall, the choice, what broke, what evaluate warns of."""
    lines = [f"The loss on held-out recordings fell {', '.join(_fell(n, run) for n, run in runs.items())}."]
    lines.append(choice.sentence)
    lines += [f"{name} broke and was left out: {why}" for name, why in broken.items()]
    scores = read_json(runs[choice.design].scores)
    lines += [f"Caution: {note}." for note in scores.get("warnings") or []]
    lines += _copies(scores.get("copies") or {})
    caution = fall_of(runs[choice.design]).get("interval_note")
    return [*lines, f"On the interval: {caution}."] if caution else lines


def _copies(found: Mapping[str, Any]) -> list[str]:
    """What evaluate says of outputs that copy training clips, where it was looked for."""
    if "copied" not in found:
        return []
    among = f"of {words.counted(len(found['clips']), 'output')}"
    if found["copied"]:
        return [f"Caution: {found['copied']} {among} hold a passage that is too near to a training clip."]
    return [f"None {among} holds a passage that is too near to a training clip."]


def _fell(name: str, run: Run) -> str:
    fall = fall_of(run)
    ends = fall["interval"]
    shown = f" ({words.number(ends[0])} to {words.number(ends[1])})" if ends else ""
    return f"with {name} by {words.number(fall['mean'])}{shown}"


def stopped(run: Run, gates: Gates) -> str:
    """Why the road ends here, where the gate is not met; empty where it is."""
    found = passed(run, gates)
    if found:
        return ""
    if found is None:
        return (
            "one recording was held out, which gives no interval, so the fall cannot be told from chance; "
            "add recordings"
        )
    low = fall_of(run)["interval"][0]
    return (
        f"the interval of the fall begins at {words.number(low)}, which is not above {gates.quality.fall_above:g}; "
        "more recordings, more steps or a lower rate (--set training.learning_rate=0.0003) come before more money"
    )


def table(runs: Mapping[str, Run], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each design that was judged: its fall with the interval, what training took, beside the whole model."""
    traced = {row["design"]: row for row in rows}
    found = []
    for name, run in runs.items():
        fall, cost = fall_of(run), read_json(run.cost)
        found.append(
            {
                "design": name,
                "run": run.folder.name,
                "fall": fall["mean"],
                "interval": fall["interval"],
                "seconds": cost["wall_seconds"],
                "steps": cost["steps"],
                "memory_bytes": (traced.get(name) or {}).get("memory_bytes"),
                "ratios": (traced.get(name) or {}).get("ratios") or {},
            }
        )
    return found
