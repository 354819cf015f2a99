"""The report of a study: sections, unfinished and failed trials, self-contained and escaped, and study.json."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from fixtures.browser import CHROMIUM, PHONE, launched, open_page, overflows, violations
from fixtures.run_folder import make_run
from fixtures.simulated_study import SMALL, lines, write, write_with_controls

from research.validation.simulated_studies import SimulatedEffect
from talim.cli import app
from talim.errors import TalimError, UsageError
from talim.experiments.goals import SelectionCriteria
from talim.reporting import study_plots
from talim.reporting.run_report import write_report

DESIGNS = ("linear@all:0.53%", "linear@all:2.7%", "conv@all:0.53%", "conv@all:2.7%", "conv@post:2.7%", "full@all")
PLAN = replace(SMALL, designs=DESIGNS, effects=[SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.4)])
CLAIM = """
claims:
  - id: "1"
    statement: Convolution & co. learn more.
    comparisons: [{measure: loss_reduction, treatment: {kind: conv}, control: {kind: linear}, smallest_effect: 0.03}]
"""
EVIL = '<script>alert("x")</script>'


def page_of(folder: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    path = write_report(folder, **options)
    assert path == folder / "report" / "index.html"
    return path.read_text("utf-8"), json.loads(path.with_name("study.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with claims and the folders of two runs."""
    folder = tmp_path_factory.mktemp("study")
    found = lines(PLAN)
    write_with_controls(folder, PLAN)
    (folder / "claims.yaml").write_text(CLAIM, encoding="utf-8")
    for line in found:
        if line["seed"] == 0 and line["corpus"] == "hindustani-solo" and line["design"].endswith("2.7%"):
            make_run(folder / line["run"], seconds=0.5)
    return folder


@pytest.fixture(scope="module")
def rendered(finished: Path) -> tuple[str, dict[str, Any]]:
    """Its page with all plots, made once."""
    return page_of(finished)


@pytest.fixture(autouse=True)
def without_plots(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Other pages are made without plots, which take most of the time and have tests of their own."""
    if "browser" not in request.fixturenames:
        for name in ("pareto_plots", "size_curves", "interaction_plots"):
            monkeypatch.setattr(study_plots, name, lambda base: [])
        monkeypatch.setattr(study_plots, "effect_plots", lambda base: {})


def test_study_report_of_a_finished_study_has_all_sections(rendered: tuple[str, dict[str, Any]]) -> None:
    page, value = rendered
    for heading in (
        "Controls",
        "Summary",
        "Recommendation by goal",
        "Quality against cost",
        "Size ablation",
        "Kind × site",
        "Factor effects",
        "Cost",
        "Hypotheses",
        "Listen",
        "All numbers",
        "Copies, rights, use",
        "Reproduce",
    ):
        assert f">{heading}</h2>" in page
    summary = value["summary"]
    assert len(summary["en"]) == len(summary["ja"]) == len(summary["figures"]) + 1 == 4
    assert all(sentence in page for sentence in summary["en"] + summary["ja"])
    assert value["bases"][0]["unit"] == "nats"
    assert value["hypotheses"][0]["verdict"] == "supported"
    assert "supported</strong>" in page
    assert page.count("<audio") == 5  # real, the base alone, three designs of one corpus
    assert "CC BY 4.0 (8)" in page
    assert "AI-generated" in page
    assert "talim report" in page


def test_study_report_has_controls_before_any_verdict(rendered: tuple[str, dict[str, Any]]) -> None:
    page, value = rendered
    assert {each["name"] for each in value["controls"]} == {
        "unigram", "last token", "curve", "rate", "planted", "equal", "separation"
    }  # fmt: skip
    assert all(each["passed"] and each["value"] is not None and each["reason"] for each in value["controls"])
    assert value["verdicts"] == [{"id": "1", "verdict": "supported", "reason": ""}]
    assert page.index(">Controls</h2>") < page.index('class="verdict"') < page.index(">Recommendation by goal</h2>")
    assert "halves of the seeds of one design are not told apart" in page
    assert value["control_trials"] == 2 * 6 * 6
    assert "72 trials, in this section only." in page


def test_study_report_without_controls_gives_no_verdict_and_no_advice(tmp_path: Path) -> None:
    folder = write(tmp_path, lines(PLAN))
    (folder / "claims.yaml").write_text(CLAIM, encoding="utf-8")
    page, value = page_of(folder, audio=False)
    assert value["verdicts"][0]["verdict"] == "not testable here"
    assert "control: planted" in value["verdicts"][0]["reason"]
    assert not any(each["design"] for each in value["bases"][0]["recommendations"])
    assert {each["answer"] for each in value["bases"][0]["questions"]} == {"not testable here"}
    assert "not testable here</strong>" in page
    assert "The study has no planted difference" in page
    assert "Take " not in page


def test_study_report_json_has_the_numbers_of_the_tables(finished: Path) -> None:
    _, value = page_of(finished, audio=False)
    rows = {row["design"]: row for row in value["bases"][0]["tables"][0]["designs"]}
    own = [line for line in lines(PLAN) if line["corpus"] == "hindustani-solo" and line["design"] == "conv@all:2.7%"]
    reductions = [value for line in own for value in line["measures"]["loss_reduction"].values()]
    assert rows["conv@all:2.7%"]["measures"]["loss_reduction"]["mean"] == pytest.approx(
        sum(reductions) / len(reductions), rel=1e-5
    )
    assert set(rows) == set(DESIGNS)
    recommendations = value["bases"][0]["recommendations"]
    assert [each["goal"] for each in recommendations] == ["learning"] * 3 + ["jingle"] * 3 + ["background"] * 3


def test_study_report_fetches_nothing(rendered: tuple[str, dict[str, Any]]) -> None:
    page, _ = rendered
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<svg") >= 12


def test_study_report_of_the_current_folder_is_that_of_its_path(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, _ = page_of(finished, audio=False)
    monkeypatch.chdir(finished)
    assert page_of(Path("."), audio=False)[0] == named


def test_study_report_twice_is_identical(finished: Path) -> None:
    assert page_of(finished, audio=False) == page_of(finished, audio=False)


def test_study_report_uses_goal_limits_and_claims_file(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(CLAIM.replace("conv}", "full}"), encoding="utf-8")
    criteria = SelectionCriteria("jingle", limits={"parameters": 100_000})
    page, value = page_of(finished, criteria=criteria, claims_file=tmp_path / "other.yaml", audio=False)
    assert value["bases"][0]["recommendations"][0]["goal"] == "jingle"
    assert all(each["design"].endswith("0.53%") for each in value["bases"][0]["recommendations"])
    assert "Limits:" in page
    assert "<audio" not in page
    assert value["hypotheses"][0]["verdict"] == "not testable here"
    assert "no two trials differ in this alone and have loss_reduction" in page


def test_study_report_uses_additional_studies_for_hypotheses_only(tmp_path: Path) -> None:
    found = lines(PLAN)
    write_with_controls(tmp_path / "claims" / "others", PLAN)
    write(tmp_path / "linear", [line for line in found if line["factors"]["kind"] == "linear"])
    file = tmp_path / "claims" / "claims.yaml"
    file.write_text(f"additional_studies: [others, not-run-yet]\n{CLAIM}", encoding="utf-8")
    _, value = page_of(tmp_path / "linear", claims_file=file, audio=False)
    assert value["hypotheses"][0]["verdict"] == "supported"  # simulated: 0.4
    assert {base["base"] for base in value["bases"]} == {"nano-musicgen"}
    assert all("conv" not in str(base["tables"]) for base in value["bases"])  # for the hypotheses only


def test_controls_of_a_comparison_are_those_of_the_study_whose_trials_it_compares(tmp_path: Path) -> None:
    """The reported study tuned the same designs to another rate, and planted nothing."""
    folder = write_with_controls(tmp_path / "claims" / "others", PLAN)
    tuning = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    for family in tuning["families"]:
        family["chosen"] = dict.fromkeys(family["chosen"], 7.0)
    main = write(tmp_path / "linear", [line for line in lines(PLAN) if line["factors"]["kind"] == "linear"])
    (main / "tuning.json").write_text(json.dumps(tuning), encoding="utf-8")
    file = tmp_path / "claims" / "claims.yaml"
    file.write_text(f"additional_studies: [others]\n{CLAIM}", encoding="utf-8")
    _, value = page_of(main, claims_file=file, audio=False)
    controls = value["hypotheses"][0]["results"][0]["controls"]
    assert {each["name"]: each["passed"] for each in controls if each["name"] in ("rate", "planted")} == {
        "rate": True,
        "planted": True,
    }
    assert not any(each["passed"] for each in value["controls"] if each["name"] == "rate")


def test_study_report_without_finished_trials_is_written(tmp_path: Path) -> None:
    page, value = page_of(write(tmp_path, []))
    assert "No trial has finished yet." in page
    assert value["summary"] is None
    only_failed = [{**lines(PLAN)[0], "status": "failed", "error": EVIL}]
    page, value = page_of(write(tmp_path / "failed", only_failed))
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert value["failed"][0]["error"] == EVIL


def test_study_report_names_unfinished_failed_and_excluded_trials(tmp_path: Path) -> None:
    some = lines(PLAN)[:-7]
    some[2] = {name: some[2][name] for name in ("id", "design", "seed", "corpus")} | {
        "status": "failed",
        "error": "out of memory",
    }
    some[4] |= {"settings_hash": "changed"}
    page, value = page_of(write(tmp_path, some))
    text = " ".join(value["caveats"])
    assert "fewer seeds than others" in text
    assert "1 trial failed" in text
    assert "1 trial with other settings" in text
    assert "out of memory" in page


@pytest.mark.parametrize("recordings", [1, 6])
def test_study_report_with_one_seed_has_a_caveat(tmp_path: Path, recordings: int) -> None:
    page, value = page_of(write(tmp_path, lines(replace(PLAN, seeds=1, recordings=recordings))))
    assert "not that between seeds" in value["caveats"][0]
    assert value["summary"]["headline"] == "Not testable here: this study names no design."
    assert "add seeds to its grid" in page
    if recordings == 1:
        assert "not known" in page
        assert value["bases"][0]["tables"][0]["designs"][0]["measures"]["loss_reduction"]["low"] is None


def test_study_report_of_one_design_compares_nothing(tmp_path: Path) -> None:
    alone = lines(replace(PLAN, designs=("conv@all:2.7%",)))
    for line in alone:
        line["measures"] = {"loss_reduction": line["measures"]["loss_reduction"]}
        line["cost"] = {"seconds": None}
    page, value = page_of(write(tmp_path, alone))
    assert value["summary"]["headline"] == "conv@all:2.7% is the only design with results."
    assert "not measured" in page


def test_study_report_escapes_names(tmp_path: Path) -> None:
    some = [line | {"corpus": EVIL} for line in lines(PLAN)]
    assert EVIL not in page_of(write(tmp_path, some))[0]


def test_write_report_criteria_for_a_run_raise(tmp_path: Path) -> None:
    make_run(tmp_path / "run", seconds=0)
    with pytest.raises(UsageError, match=r"holds no results\.jsonl"):
        write_report(tmp_path / "run", SelectionCriteria())
    with pytest.raises(TalimError, match="no such file"):
        write_report(write(tmp_path / "study", lines(PLAN)), claims_file=tmp_path / "none.yaml")


def test_report_command_with_study_options_succeeds(finished: Path) -> None:
    arguments = ["report", str(finished), "--goal", "jingle", "--max", "memory=6GB", "--no-audio", "--json"]
    done = typer.testing.CliRunner().invoke(app, arguments)
    value = json.loads(done.stdout)
    assert value["page"] == str(finished / "report" / "index.html")
    stored = json.loads((finished / "report" / "study.json").read_text("utf-8"))
    assert {name: value[name] for name in ("controls", "verdicts", "summary")} == {
        name: stored[name] for name in ("controls", "verdicts", "summary")
    }
    text = typer.testing.CliRunner().invoke(app, arguments[:-1]).stdout
    assert f"All {len(stored['controls'])} controls passed.\nhypothesis 1: supported\nThese data cannot tell" in text


def test_report_command_of_a_study_without_controls_says_what_they_need(tmp_path: Path) -> None:
    folder = write(tmp_path, lines(PLAN))
    (folder / "claims.yaml").write_text(CLAIM, encoding="utf-8")
    text = typer.testing.CliRunner().invoke(app, ["report", str(folder), "--no-audio"]).stdout
    assert "controls passed; not rate, planted and equal." in text
    assert "hypothesis 1: not testable here (Rate: The learning rate of" in text
    assert "Not testable here: this study names no design." in text


def test_study_report_loads_no_torch(finished: Path) -> None:
    code = "import sys; from talim.reporting import run_report, study_plots; "
    code += "study_plots.pareto_plots = lambda base: []; study_plots._interval_plots = lambda *rest: {}; "
    code += "study_plots.size_curves = lambda base: []; "
    code += f"run_report.write_report({str(finished)!r}, audio=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    with launched() as chromium:
        yield chromium


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("window", [{"width": 1180, "height": 900}, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_study_report_in_a_browser_is_accessible(
    browser: Any, finished: Path, window: dict[str, int], scheme: str
) -> None:
    page = open_page(browser, write_report(finished).as_uri(), viewport=window, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert not overflows(page)
    assert violations(page) == []


def test_study_report_names_trials_with_copies(tmp_path: Path) -> None:
    found = lines(SMALL)
    assert (
        "was not checked for passages copied from the training recordings"
        in page_of(write(tmp_path / "unchecked", found))[0]
    )
    for index, line in enumerate(found[:3]):
        line["measures"]["score.copied_sound"] = {"run": 0.0}
        line["measures"]["score.copied_tokens"] = {"run": 0.25 * (index == 2)}
    page, value = page_of(write(tmp_path / "checked", found))
    assert value["copies"]["checked"] == 3
    (copied,) = value["copies"]["copies"]
    assert (copied["id"], copied["copied_fraction"]) == (found[2]["id"], 0.25)
    assert f"The audio of 3 of {len(found)} trials was checked" in page
    assert "in 25\u202f% of its clips" in page
    del found[0]["measures"]["score.copied_sound"]  # a search for runs of tokens alone clears nothing
    assert page_of(write(tmp_path / "tokens", found))[1]["copies"]["checked"] == 2
    found[2]["measures"]["score.copied_tokens"] = {"run": 0.0}
    assert "none was found" in page_of(write(tmp_path / "clean", found))[0]


def test_study_report_says_how_many_designs_the_bars_leave_out(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(finished, tmp_path / "study", ignore=shutil.ignore_patterns("report"))
    whole = page_of(copy, audio=False)[0]
    assert "median of the trials</caption>" in whole
    monkeypatch.setattr(study_plots, "MAX_COST_BARS", 2)
    assert f"median of the trials; 2 of {len(DESIGNS)} designs</caption>" in page_of(copy, audio=False)[0]
