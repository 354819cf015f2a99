"""The recommendation: cheap and good enough, undecided where it must be, wrong no more often than it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.planted_study import SMALL, lines, study, write

from talim.errors import UsageError
from talim.study.fields import Field
from talim.study.next_steps import next_steps
from talim.study.planted import Effect, Plan
from talim.study.recommending import (
    CANNOT_TELL,
    NOTHING,
    ONLY,
    SHOWN,
    Judged,
    Recommendation,
    recommend,
)
from talim.study.trials import Study, read
from talim.study.wishes import Aim, Wish, asked

DESIGNS = ("linear@all:0.53%", "linear@all:2.7%", "conv@all:2.7%", "full@all")
CONV = Effect("fall", {"kind": "conv"}, 0.4)
PLAN = replace(SMALL, designs=DESIGNS, effects=[CONV])


def advise(found: Study, wish: Wish | None = None, tables: int | None = None) -> Recommendation:
    return recommend(found.tables[:tables], wish or Wish(), np.random.default_rng(0))


def test_the_cheapest_that_is_shown_to_be_good_enough(tmp_path: Path) -> None:
    found = advise(study(tmp_path, PLAN))
    assert (found.outcome, found.design, found.best) == (SHOWN, "conv@all:2.7%", "conv@all:2.7%")
    assert found.candidate("linear@all:0.53%").worse
    assert found.candidate("conv@all:2.7%").chosen_share == 1.0
    equal = advise(study(tmp_path, replace(PLAN, effects=())))
    assert equal.design == "linear@all:2.7%"  # full@all is as good and dearer
    assert not equal.candidate("linear@all:2.7%").worse
    [step] = next_steps(equal)
    assert step.kind == "hybrid"  # of the planted studies the whole base gains a little more
    assert "linear@all:2.7%+full@post" in step.why


@pytest.mark.parametrize(("more", "taken"), [(1.01, "conv@all:2.7%"), (1.1, "linear@all:2.7%")])
def test_of_designs_that_cost_the_same_the_better_is_taken(tmp_path: Path, more: float, taken: str) -> None:
    slightly = replace(PLAN, designs=DESIGNS[1:3], effects=[Effect("fall", {"kind": "conv"}, 0.02)])
    rows = lines(slightly)
    for line in rows:
        line["parameters"] = round(100_000 * (more if line["factors"]["kind"] == "conv" else 1))
    found = advise(read(write(tmp_path, rows)))
    assert (found.outcome, found.best, found.design) == (SHOWN, "conv@all:2.7%", taken)
    assert found.candidate(taken).chosen_share > 0.5


def test_limits_and_prices(tmp_path: Path) -> None:
    found = advise(study(tmp_path, PLAN), Wish(limits={"parameters": 100_000}))
    assert (found.outcome, found.design) == (ONLY, "linear@all:0.53%")
    assert found.left_out["full@all"] == "over the limit of parameters"
    nothing = advise(study(tmp_path, PLAN), Wish(limits={"memory": 1}))
    assert nothing.outcome == NOTHING
    assert next_steps(nothing)[0].kind == "run"
    unmeasured = lines(PLAN)
    for line in unmeasured:
        line["cost"]["peak_memory_bytes"] = None
    found = advise(read(write(tmp_path, unmeasured)), Wish(limits={"memory": 1e12}))
    assert "not measured" in found.left_out["full@all"]


def test_too_much_luck_cannot_tell_and_takes_the_cheaper(tmp_path: Path) -> None:
    plan = replace(PLAN, effects=(), of_seed=0.4, recordings=4)
    found = advise(study(tmp_path, plan, seed=3), tables=1)
    assert found.outcome == CANNOT_TELL
    assert found.design == found.likely
    assert len(found.unresolved) >= 2
    step = next_steps(found)[0]
    assert step.kind == "seeds"
    assert "instead of 3" in step.why


def test_goals_weigh_their_own_measures(tmp_path: Path) -> None:
    effects = [
        Effect("ornament_fall", {"kind": "conv"}, 0.5),
        Effect("again_fall", {"kind": "linear"}, 0.5),
    ]
    found = study(tmp_path, replace(PLAN, effects=effects))
    jingle, background = (advise(found, Wish(goal)) for goal in ("jingle", "background"))
    assert jingle.best == "conv@all:2.7%"
    assert [each.aim.measure for each in jingle.judged] == ["ornament_fall", "score.kernel_distance_timbre"]
    assert background.best.startswith("linear")
    bare = lines(PLAN)
    for line in bare:
        line["measures"] = {name: line["measures"][name] for name in ("fall", "before")}
    other = advise(read(write(tmp_path, bare)), Wish("jingle"))
    assert other.missing == ["ornament_fall", "score.kernel_distance_timbre"]
    assert other.design == "conv@all:2.7%"  # the loss is what is left to go by


def test_one_seed_says_what_it_cannot_show(tmp_path: Path) -> None:
    found = advise(study(tmp_path, replace(PLAN, seeds=1)))
    assert next_steps(found)[0].kind == "seeds"
    alone = advise(study(tmp_path, replace(PLAN, seeds=1, recordings=1)))
    assert alone.outcome == CANNOT_TELL
    assert [step.kind for step in next_steps(alone)] == ["seeds", "recordings"]


def test_more_is_to_be_had_above_the_largest_size(tmp_path: Path) -> None:
    plan = Plan(
        ("conv@all:0.13%", "conv@all:2.7%", "conv@all:4.7%"),
        effects=[Effect("fall", {"share": 0.047}, 0.05)],
        of_seed=0.005,
        of_recording=0.005,
        of_cell=0.01,
    )
    found = advise(study(tmp_path, plan))
    assert (found.design, found.best) == ("conv@all:2.7%", "conv@all:4.7%")
    assert next_steps(found)[0].kind == "extend"
    small = advise(study(tmp_path, replace(plan, effects=())))
    assert small.design == "conv@all:2.7%"


def test_a_design_that_is_too_bad_is_rarely_called_good_enough() -> None:
    """Twelve designs lie exactly on the margin below the best: any of them is shown in at most 5 % of studies."""
    rng, wrong = np.random.default_rng(8), []
    from talim.study.effects import holm

    for _ in range(400):
        truth = np.array([1.0] + [0.9] * 12)
        y = truth[:, None, None] + 0.03 * rng.normal(size=(13, 3, 1)) + 0.03 * rng.normal(size=(13, 1, 8))
        field = Field(
            [str(n) for n in range(13)], y + 0.05 * rng.normal(size=(13, 3, 8)), list("12345678"), [0, 1, 2]
        )
        judged = Judged(Aim("fall"), field.designs, field.means, 0.1, field.spread(), [field])
        wrong.append(min(holm(judged.not_worse().tolist())[1:]) <= 0.05)
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_nothing_measured_is_nothing_to_choose_from(tmp_path: Path) -> None:
    bare = [line | {"measures": {}} for line in lines(PLAN)]
    assert advise(read(write(tmp_path, bare))).outcome == NOTHING


def test_wishes_in_words() -> None:
    assert asked(None, None, [], None) is None
    wish = asked("jingle", "seconds", ["memory=6GB", "seconds=1.5h", "parameters=2M"], 0.05)
    assert wish == Wish("jingle", "seconds", {"memory": 6e9, "seconds": 5400, "parameters": 2e6}, 0.05)


@pytest.mark.parametrize("text", ["memory", "memory=six", "memory=6GiB", "beauty=3", "seconds=3M"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(UsageError, match="is no limit; write COST=NUMBER"):
        asked(None, None, [text], None)


@pytest.mark.parametrize(
    "wish", [{"goal": "fame"}, {"price": "love"}, {"margin_share": 0.0}, {"margin_share": 1.5}]
)
def test_what_is_no_wish(wish: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Wish(**wish)  # type: ignore[arg-type]
