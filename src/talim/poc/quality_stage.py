"""The second stage, musical quality as far as numbers tell it: who learned most, which to go on with, by its gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talim.atomic_io import read_json
from talim.experiments.recommend import DesignChoice, choose_design
from talim.html import formatting
from talim.poc.gates import GateThresholds
from talim.poc.runs import loss_reduction_of
from talim.run import Run

LIMITS = (
    "Each design was trained with one seed: what is said of them holds for these runs. It shows that the road works "
    "and what each learned; another seed may put them in another order, so it cannot show which kind is best."
)


def select_design(runs: Mapping[str, Run], gates: GateThresholds) -> DesignChoice:
    """The design to go on with: the one seam where a choice is made, by the falls and what training took."""
    falls = {name: loss_reduction_of(run)["per_recording"] for name, run in runs.items()}
    prices = {name: float(read_json(run.cost)["flops"]) for name, run in runs.items()}
    return choose_design(falls, prices, gates.quality.margin_share)


def gate_passed(run: Run, gates: GateThresholds) -> bool | None:
    """Whether the fall is above the gate by its whole interval; None where there is no interval."""
    ends = loss_reduction_of(run)["interval"]
    return None if ends is None else bool(ends[0] > gates.quality.fall_above)


def quality_summary(runs: Mapping[str, Run], broken: Mapping[str, str], choice: DesignChoice) -> list[str]:
    """The second stage in sentences: every design's fall, the choice, what broke, what evaluate warns of."""
    lines = [
        f"The loss on held-out recordings fell {', '.join(_loss_sentence(n, run) for n, run in runs.items())}."
    ]
    lines.append(choice.sentence)
    lines += [f"{name} broke and was left out: {why}" for name, why in broken.items()]
    scores = read_json(runs[choice.design].scores)
    lines += [f"Caution: {note}." for note in scores.get("warnings") or []]
    lines += _copies(scores.get("copies") or {})
    caution = loss_reduction_of(runs[choice.design]).get("interval_note")
    return [*lines, f"On the interval: {caution}."] if caution else lines


def _copies(found: Mapping[str, Any]) -> list[str]:
    """What evaluate says of outputs that copy training clips, where it was looked for."""
    if "copied" not in found:
        return []
    among = f"of {formatting.format_counted(len(found['clips']), 'output')}"
    if found["copied"]:
        return [f"Caution: {found['copied']} {among} hold a passage that is too near to a training clip."]
    return [f"None {among} holds a passage that is too near to a training clip."]


def _loss_sentence(name: str, run: Run) -> str:
    fall = loss_reduction_of(run)
    ends = fall["interval"]
    shown = f" ({formatting.format_number(ends[0])} to {formatting.format_number(ends[1])})" if ends else ""
    return f"with {name} by {formatting.format_number(fall['mean'])}{shown}"


def stop_reason(run: Run, gates: GateThresholds) -> str:
    """Why the road ends here, where the gate is not met; empty where it is."""
    found = gate_passed(run, gates)
    if found:
        return ""
    if found is None:
        return (
            "one recording was held out, which gives no interval, so the fall cannot be told from chance; "
            "add recordings"
        )
    low = loss_reduction_of(run)["interval"][0]
    return (
        f"the interval of the fall begins at {formatting.format_number(low)}, which is not above {gates.quality.fall_above:g}; "
        "more recordings, more steps or a lower rate (--set training.learning_rate=0.0003) come before more money"
    )


def table(runs: Mapping[str, Run], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each design that was judged: its fall with the interval, what training took, beside the whole model."""
    traced = {row["design"]: row for row in rows}
    found = []
    for name, run in runs.items():
        fall, cost = loss_reduction_of(run), read_json(run.cost)
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
