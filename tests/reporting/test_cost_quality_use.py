"""The three points of a run: what they say of cost, quality and use, in English and in Japanese."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fixtures.run_folder import COST, SCORES, evaluated

from talim.reporting import cost_quality_use, run_report
from talim.reporting.catalogue import duration
from talim.reporting.run_results import RunResults

ON_RECORD: dict[str, Any] = {
    "rights": {"licences": {"CC0": 1}, "consent": {"given in writing": 1}},
    "attributions": [{"performer": "Meera", "licence": "CC0", "consent": "given in writing"}],
}


def test_quality_point_of_an_unchanged_loss_says_the_same() -> None:
    assert "is not clear: there is no difference. This" in " ".join(
        cost_quality_use.points(evaluated(0.0, 0.0, 0.0))["en"]
    )


def test_cost_point_names_time_device_and_parameters() -> None:
    sentence = cost_quality_use.cost_point(RunResults(Path("run"), cost=COST))["en"]
    assert sentence == (
        "Cost: training this design, without evaluating it, took 3 min 44 s on CPU, 2 cores and changed "
        "214\u202f016 parameters, 2.5\u202f% of the base, which stayed frozen. Money: 3 min 44 s of this machine; with "
        "--price-per-hour it is told as an amount. Energy: not measured, as talim reads the energy counters of NVIDIA "
        "GPUs only."
    )
    assert cost_quality_use.cost_point(evaluated(0.2, 0.1, 0.3))["en"] == "Cost: it was not measured."
    assert cost_quality_use.cost_point(RunResults(Path("run")))["en"].startswith(
        "Cost: not measured yet; 0 steps, not finished"
    )


def test_cost_point_tells_money_and_energy() -> None:
    cost = COST | {"wall_seconds": 7200.0, "energy_joules": 36_000.0}
    sentence = cost_quality_use.cost_point(RunResults(Path("run"), cost=cost), 1.5)["en"]
    assert "Money: 3.00 at 1.50 per hour of this machine. Energy: 10 Wh." in sentence


def test_cost_point_of_a_whole_says_the_whole_before_its_parts() -> None:
    spent = {"seconds": 20_000.0, "designs": 3, "preparing": 60.0, "training": 3000.0, "evaluating": 7200.0}
    result = RunResults(Path("run"), cost=COST | {"wall_seconds": 3096.0})
    told = cost_quality_use.cost_point(result, 8.0, spent)
    assert told["en"].startswith(
        "Cost: everything together took 5 h 33 min of machine time: preparing the recordings 60 s, training 3 designs "
        "50 min, evaluating 2 h, the rest 2 h 42 min (timing the machine, learning rates, the learning curve, "
        "continuations, what interruptions made necessary twice). Money: 44.44 at 8.00 per hour of this machine. "
        "Training the selected design took 52 min of that (6.88) on CPU, 2 cores and changed 214\u202f016 parameters"
    )
    assert told["ja"].index("5時間33分") < told["ja"].index("6.88")
    assert "44.44" in told["ja"]
    assert "(6.88)" not in cost_quality_use.cost_point(result, None, spent)["en"]
    figures = run_report.key_figures(result, spent)
    assert figures[-1][:2] == ("5 h 33 min", "of machine time in all, 52 min of it training this design")


def test_use_point_names_what_stands_against_selling() -> None:
    rights = {"licences": {"CC BY 4.0": 3, "CC BY-NC 4.0": 1, "unknown": 2}}
    base = {"base": {"name": "facebook/musicgen-small", "licence": "CC-BY-NC-4.0"}}
    text = cost_quality_use.use_point(RunResults(Path("run"), facts=base | {"trained_on": {"rights": rights}}))["en"]
    assert "nobody has judged the music yet" in text
    assert "not cleared, because of base facebook/musicgen-small (CC-BY-NC-4.0)" in text
    assert "recordings under 'CC BY-NC 4.0', recordings under 'unknown'" in text
    assert "CC BY 4.0" not in text.replace("CC BY-NC 4.0", "")
    facts = {"base": {"licence": "Apache-2.0"}, "trained_on": ON_RECORD}
    held_out = {"rights": {"licences": {"CC0": 1, "CC BY-NC-ND 4.0": 1}}}  # of the whole corpus
    free = RunResults(Path("run"), corpus=held_out, facts=facts)
    assert cost_quality_use.use_point(free, ["3 of 4 accepted."])["en"] == (
        "Use: 3 of 4 accepted. Commercial use: nothing on record stands against it (licences, consent, performers); "
        "whether the record is right is for you to find out."
    )


def test_points_of_a_complete_run_are_three() -> None:
    lines = cost_quality_use.points(RunResults(Path("run"), cost=COST, scores=SCORES))["en"]
    assert len(lines) == 3
    assert all(sentence.endswith(".") for sentence in lines)
    assert [line.split(":")[0] for line in lines] == ["Cost", "Quality", "Use"]
    better = "are predicted better than by the untrained base: what really comes next is given a 26\u202f% higher "
    assert f"{better}probability, more than chance would give." in lines[1]


def test_points_in_japanese_hold_the_same_figures_and_no_english_sentence() -> None:
    english, japanese = cost_quality_use.points(RunResults(Path("run"), cost=COST, scores=SCORES), 1.5).values()
    assert [line.split("：")[0] for line in japanese] == ["費用", "品質", "用途"]
    assert japanese[0] == (
        "費用：この方式の学習（評価を除く）にかかった時間は3分44秒です（CPU、2コア）。"
        "学習したパラメータは214\u202f016個（ベースモデルの2.5\u202f%。ベースモデル自体は変わりません）です。"
        "金額：0.09（この計算機の1時間を1.50として）。消費電力量：測定していません。"
    )
    assert "実際に続く音に与える確率が26\u202f%上昇" in japanese[1]
    assert all(line.endswith("。") for line in japanese)
    for line in japanese:
        assert not [word for word in ("training", "recordings", "not measured", "because") if word in line]
    assert "0.09" in english[0]


def test_points_of_an_unfinished_run_say_so_in_japanese() -> None:
    cost, quality, _ = cost_quality_use.points(RunResults(Path("run"), recipe={"training": {"steps": 80}}))["ja"]
    assert cost == "費用：まだ測定していません（80ステップ中0まで進み、学習は未完了）。"
    assert quality == "品質：学習が終わっていないため、測定していません。"


def test_duration_in_japanese() -> None:
    assert [duration(seconds)["ja"] for seconds in (48, 252, 7500, 3 * 86400)] == ["48秒", "4分12秒", "2時間5分", "3日"]
