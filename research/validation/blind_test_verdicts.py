"""False verdicts and power of blind listening tests, on simulated votes that pass through the ratings that users get.

`python -m research.validation.blind_test_verdicts --out docs/reports/blind-test-verdicts.md` writes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from research.docs import markdown
from talim.atomic_io import write_text
from talim.listening.assignment import trials_for
from talim.listening.bradley_terry import preference_probability
from talim.listening.protocol import Protocol
from talim.listening.ratings import ALL_LISTENERS, LEVEL, rate_conditions
from talim.strict_yaml import build

ITEMS = tuple(f"item-{number:02d}" for number in range(8))
TRIALS = {"pairwise": 20, "mushra": 8}
TASTE = 0.7  # standard deviation over listeners of a condition's strength: logits, or 10 points of 100 each
POINTS = 10.0
CUTS = np.array([-1.8, -0.5, 0.5, 1.8])  # logits between the five answers
LISTENERS = (6, 12, 24)
CONDITIONS = (3, 6)
EFFECTS = (0.5, 1.0, 1.5)
BEST = "c0"  # the condition that a planted effect makes better


@dataclass(frozen=True)
class SimulatedBlindTest:
    """One cell: all listeners answer at random (`taste` None), or by own tastes around the true strengths.

    `effect` is added to the strength of the first condition; the others are equal.
    """

    kind: str
    conditions: int
    listeners: int
    taste: float | None = TASTE
    effect: float = 0.0

    @property
    def protocol(self) -> Protocol:
        """A test of one aspect without hidden repeats, checks and exclusions: every vote counts."""
        names = [f"c{number}" for number in range(self.conditions)]
        values = {
            "name": "simulated",
            "kind": self.kind,
            "conditions": [{"name": name, "source": name} for name in names],
            "reference": names[-1],
            "anchor": False,
            "aspects": [{"name": "overall"}],
            "trials": {"per_listener": TRIALS[self.kind], "repeats": 0, "attention": 0},
            "exclusions": {"same_answer_above": None, "reference_below_90_above": None},
        }
        return build(Protocol, values, "simulated")


def vote_rows(test: SimulatedBlindTest, protocol: Protocol, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of all listeners in the export's format; the same for the same seed."""
    for number in range(test.listeners):
        rng = np.random.default_rng([seed, number])
        taste = (test.taste or 0.0) * rng.standard_normal(test.conditions)
        own = dict(zip(protocol.names, taste + test.effect * (np.arange(test.conditions) == 0), strict=True))
        shared = {"test": "0" * 16, "site": "simulated", "listener": str(number), "group": "general"}
        for position, trial in enumerate(trials_for(protocol, ITEMS, number, str(seed))):
            row = shared | {"position": position, "kind": trial.kind, "item": trial.item, "aspect": "overall"}
            if test.kind == "pairwise":
                first, second = trial.order
                answer = _answer(own[first] - own[second], test.taste is None, rng)
                yield row | {"first": first, "second": second, "answer": answer}
            else:
                for condition in trial.order:
                    yield row | {"condition": condition, "score": _score(own[condition], test.taste is None, rng)}


def _answer(gap: float, random: bool, rng: np.random.Generator) -> int:
    return int(rng.integers(-2, 3)) if random else int((rng.logistic() + gap > CUTS).sum()) - 2


def _score(strength: float, random: bool, rng: np.random.Generator) -> int:
    value = rng.uniform(0, 100) if random else 50 + POINTS * strength + 15 * rng.standard_normal()
    return int(np.clip(round(value), 0, 100))


def claims(test: SimulatedBlindTest, seed: int) -> Mapping[str, bool]:
    """Whether one test claims something false (with and without Holm's correction), and finds the planted effect."""
    protocol = test.protocol
    result = rate_conditions(list(vote_rows(test, protocol, seed)), protocol)
    rating = result["groups"][ALL_LISTENERS]["overall"]
    strengths = {condition["name"]: condition["strength"]["value"] for condition in rating["conditions"]}
    pairs, has_effect = rating["pairs"], test.effect > 0
    true = [row for row in pairs if has_effect and BEST in (row["first"], row["second"])]
    false = [row for row in pairs if row not in true]
    found = [row["significant"] and strengths[BEST] == max(strengths.values()) for row in true]
    reversed_ = [row["significant"] and strengths[row["first"]] < strengths[row["second"]] for row in true]
    return {
        "false": any(row["significant"] for row in false) or any(reversed_),
        # Holm multiplies the smallest p-value by the number of pairs, here below 20, so none is cut off at 1.
        "false_uncorrected": min((row["p"] for row in pairs), default=1.0) < LEVEL * len(pairs),
        "found_one": any(found),
        "found_all": has_effect and all(found),
    }


def shares(test: SimulatedBlindTest, tests: int, seed: int) -> dict[str, float]:
    """The share of tests for each of `claims`."""
    selected = [claims(test, seed + number) for number in range(tests)]
    return {name: float(np.mean([row[name] for row in selected])) for name in selected[0]}


def null_rows(tests: int, seed: int, listeners: Sequence[int] = LISTENERS) -> Iterator[list[str]]:
    """Rows of the table without any true difference."""
    votes = {"pairwise, at random": ("pairwise", None), "pairwise, own tastes": ("pairwise", TASTE)}
    votes |= {"ratings, own tastes": ("mushra", TASTE)}
    for name, (kind, taste) in votes.items():
        for conditions in CONDITIONS:
            for count in listeners:
                share = shares(SimulatedBlindTest(kind, conditions, count, taste), tests, seed)
                numbers = [_percent(share[key]) for key in ("false", "false_uncorrected")]
                yield [name, str(conditions), str(count), *numbers]


def power_rows(tests: int, seed: int, listeners: Sequence[int] = LISTENERS) -> Iterator[list[str]]:
    """Rows of the table with one better condition among four."""
    for effect in EFFECTS:
        preferred = f"{100 * preference_probability(effect, CUTS[2:]):.0f} %"
        for count in listeners:
            share = shares(SimulatedBlindTest("pairwise", 4, count, effect=effect), tests, seed)
            found = (share[key] for key in ("found_one", "found_all", "false"))
            yield [f"{effect:g}", preferred, str(count), *map(_percent, found)]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def page(tests: int, seed: int) -> str:
    """The page in Markdown."""
    error = 100 * (0.05 * 0.95 / tests) ** 0.5
    lines = [
        "# Verdicts of blind tests",
        "",
        markdown.paragraph(
            f"How often `talim ratings` claims a difference that is not there, and how often it finds one that is. "
            f"Generated by `python -m research.validation.blind_test_verdicts --tests {tests} --seed {seed} --out "
            f"docs/reports/blind-test-verdicts.md`. {tests} simulated tests a row; at a true share of 5 % the standard "
            f"error is {error:.1f} percentage points. The votes pass through the same functions as those of people: "
            f"{TRIALS['pairwise']} comparisons or {TRIALS['mushra']} pages of ratings a listener, one question."
        ),
        "",
        "## Without any difference",
        "",
        markdown.paragraph(
            'The share of tests in which any pair "can be told apart". At random: all five answers equally likely. '
            f"Own tastes: each listener prefers some conditions (standard deviation {TASTE:g} logits, or "
            f"{POINTS * TASTE:g} points of 100), but listeners as a whole none. With Holm's correction for the number "
            "of pairs, which is what the verdict uses, at most 5 % is meant; without it each pair is judged alone."
        ),
        "",
        *markdown.table(
            ["votes", "conditions", "listeners", "any difference claimed", "without correction"],
            null_rows(tests, seed),
            ["---", "--:", "--:", "--:", "--:"],
        ),
        "",
        "## One better condition among four",
        "",
        markdown.paragraph(
            "Pairwise votes with own tastes; the effect is the better condition's lead in logits, beside it how often "
            "a listener of average taste prefers it. Found: told apart from one or from all three of the others, in "
            "the right direction. False: a claim among the three equal ones, or reversed."
        ),
        "",
        *markdown.table(
            ["effect", "preferred in", "listeners", "found against one", "found against all", "false claim"],
            power_rows(tests, seed),
            ["--:"] * 6,
        ),
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tests", type=int, default=300, help="simulated tests a row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    write_text(options.out, page(options.tests, options.seed))
    print(options.out)


if __name__ == "__main__":
    main()
