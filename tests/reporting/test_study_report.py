"""The page of a study: everything on it, half-finished and failed too; one file, safe, and its JSON beside it."""

from __future__ import annotations

import json
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
from fixtures.simulated_study import SMALL, lines, write

from research.validation.simulated_studies import SimulatedEffect
from talim.cli import app
from talim.errors import TalimError, UsageError
from talim.experiments.goals import SelectionCriteria
from talim.reporting import study_plots
from talim.reporting.run_report import write_report

DESIGNS = (
    "linear@all:0.53%",
    "linear@all:2.7%",
    "conv@all:0.53%",
    "conv@all:2.7%",
    "conv@post:2.7%",
    "full@all",
)
PLAN = replace(SMALL, designs=DESIGNS, effects=[SimulatedEffect("fall", {"kind": "conv"}, 0.4)])
CLAIM = """
claims:
  - id: "1"
    says: Convolution & co. learn more.
    comparisons: [{measure: fall, this: {kind: conv}, that: {kind: linear}, interest: 0.03}]
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
    write(folder, found)
    (folder / "claims.yaml").write_text(CLAIM, encoding="utf-8")
    for line in found:
        if line["seed"] == 0 and line["corpus"] == "hindustani-solo" and line["design"].endswith("2.7%"):
            make_run(folder / line["run"], seconds=0.5)
    return folder


@pytest.fixture(scope="module")
def drawn(finished: Path) -> tuple[str, dict[str, Any]]:
    """Its page with all drawings, made once."""
    return page_of(finished)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Other pages are made without drawings, which take most of the time and have tests of their own."""
    if "browser" not in request.fixturenames:
        for name in ("frontiers", "size_curves", "dependence"):
            monkeypatch.setattr(study_plots, name, lambda base: [])
        monkeypatch.setattr(study_plots, "effect_plots", lambda base: {})


def test_a_finished_study(drawn: tuple[str, dict[str, Any]]) -> None:
    page, value = drawn
    for heading in (
        "The answer",
        "What to take, for what",
        "Quality against cost",
        "How large",
        "Which kind, where",
        "What each choice does",
        "What it costs",
        "Claims, tested",
        "Listen",
        "Every number",
        "Originality, rights, use",
        "Do it again",
    ):
        assert f">{heading}</h2>" in page
    summary = value["summary"]
    assert len(summary["en"]) == len(summary["ja"]) == len(summary["figures"]) == 3
    assert all(sentence in page for sentence in summary["en"] + summary["ja"])
    assert value["bases"][0]["unit"] == "nats"
    assert value["verdicts"][0]["verdict"] == "supported"
    assert "supported</strong>" in page
    assert page.count("<audio") == 5  # real, the base alone, three designs of one corpus
    assert "CC BY 4.0 (9)" in page
    assert "AI-generated" in page
    assert "talim report" in page


def test_every_number_of_the_tables_is_in_the_json(finished: Path) -> None:
    _, value = page_of(finished, sounds=False)
    rows = {row["design"]: row for row in value["bases"][0]["tables"][0]["designs"]}
    own = [
        line
        for line in lines(PLAN)
        if line["corpus"] == "hindustani-solo" and line["design"] == "conv@all:2.7%"
    ]
    falls = [fall for line in own for fall in line["measures"]["fall"].values()]
    assert rows["conv@all:2.7%"]["measures"]["fall"]["mean"] == pytest.approx(
        sum(falls) / len(falls), rel=1e-5
    )
    assert set(rows) == set(DESIGNS)
    advice = value["bases"][0]["advice"]
    assert [each["goal"] for each in advice] == ["learning"] * 3 + ["jingle"] * 3 + ["background"] * 3


def test_the_page_fetches_nothing(drawn: tuple[str, dict[str, Any]]) -> None:
    page, _ = drawn
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<svg") >= 12


def test_the_page_is_the_same_twice(finished: Path) -> None:
    assert page_of(finished, sounds=False) == page_of(finished, sounds=False)


def test_goals_limits_and_other_claims(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CLAIM.replace("conv}", "full}"), encoding="utf-8")
    wish = SelectionCriteria("jingle", limits={"parameters": 100_000})
    page, value = page_of(finished, wish=wish, claims_file=tmp_path / "mine.yaml", sounds=False)
    assert value["bases"][0]["advice"][0]["goal"] == "jingle"
    assert all(each["design"].endswith("0.53%") for each in value["bases"][0]["advice"])
    assert "Limits:" in page
    assert "<audio" not in page
    assert value["verdicts"][0]["verdict"] == "undecided"
    assert "no two trials differ so and have fall" in page


def test_claims_are_judged_on_further_studies_too(tmp_path: Path) -> None:
    found = lines(PLAN)
    write(tmp_path / "claims" / "others", found)
    write(tmp_path / "mine", [line for line in found if line["factors"]["kind"] == "linear"])
    file = tmp_path / "claims" / "claims.yaml"
    file.write_text(f"also: [others, not-run-yet]\n{CLAIM}", encoding="utf-8")
    _, value = page_of(tmp_path / "mine", claims_file=file, sounds=False)
    assert value["verdicts"][0]["verdict"] == "supported"  # planted: 0.4
    assert {base["base"] for base in value["bases"]} == {"nano-musicgen"}
    assert all("conv" not in str(base["tables"]) for base in value["bases"])  # only the claims see them


def test_nothing_finished_yet(tmp_path: Path) -> None:
    page, value = page_of(write(tmp_path, []))
    assert "Nothing to compare yet." in page
    assert value["summary"] is None
    only_failed = [{**lines(PLAN)[0], "status": "failed", "error": EVIL}]
    page, value = page_of(write(tmp_path / "failed", only_failed))
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert value["failed"][0]["error"] == EVIL


def test_half_finished_and_failed_trials_are_told(tmp_path: Path) -> None:
    some = lines(PLAN)[:-7]
    some[2] = {name: some[2][name] for name in ("id", "design", "seed", "corpus")} | {
        "status": "failed",
        "error": "out of memory",
    }
    some[4] |= {"settings_hash": "changed"}
    page, value = page_of(write(tmp_path, some))
    said = " ".join(value["cautions"])
    assert "fewer seeds than others" in said
    assert "1 trial failed" in said
    assert "1 trial had other settings" in said
    assert "out of memory" in page


@pytest.mark.parametrize("recordings", [1, 6])
def test_one_seed_says_what_it_cannot_show(tmp_path: Path, recordings: int) -> None:
    page, value = page_of(write(tmp_path, lines(replace(PLAN, seeds=1, recordings=recordings))))
    assert "one seed cannot show" in value["cautions"][0]
    assert "Next: seeds." in page
    if recordings == 1:
        assert "range not known" in page
        assert value["bases"][0]["tables"][0]["designs"][0]["measures"]["fall"]["low"] is None


def test_one_design_and_measures_without_scores(tmp_path: Path) -> None:
    alone = lines(replace(PLAN, designs=("conv@all:2.7%",)))
    for line in alone:
        line["measures"] = {"fall": line["measures"]["fall"]}
        line["cost"] = {"seconds": None}
    page, value = page_of(write(tmp_path, alone))
    assert value["summary"]["headline"] == "conv@all:2.7% is all there is to judge yet."
    assert "not measured" in page


def test_names_are_escaped(tmp_path: Path) -> None:
    some = [line | {"corpus": EVIL} for line in lines(PLAN)]
    assert EVIL not in page_of(write(tmp_path, some))[0]


def test_wishes_are_for_studies(tmp_path: Path) -> None:
    make_run(tmp_path / "run", seconds=0)
    with pytest.raises(UsageError, match=r"holds no results\.jsonl"):
        write_report(tmp_path / "run", SelectionCriteria())
    with pytest.raises(TalimError, match="No such file"):
        write_report(write(tmp_path / "study", lines(PLAN)), claims_file=tmp_path / "none.yaml")


def test_the_command(finished: Path) -> None:
    words = ["report", str(finished), "--goal", "jingle", "--limit", "memory=6GB", "--no-sounds", "--json"]
    done = typer.testing.CliRunner().invoke(app, words)
    assert json.loads(done.stdout) == {"page": str(finished / "report" / "index.html")}


def test_no_torch_is_loaded(finished: Path) -> None:
    code = "import sys; from talim.experiments import report, study_drawings; study_drawings.frontiers = lambda base: []; "
    code += "study_drawings._intervals = lambda *rest: {}; study_drawings.size_curves = lambda base: []; "
    code += f"report.report({str(finished)!r}, sounds=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all."""
    with launched() as made:
        yield made


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("window", [{"width": 1180, "height": 900}, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(browser: Any, finished: Path, window: dict[str, int], scheme: str) -> None:
    page = open_page(browser, write_report(finished).as_uri(), viewport=window, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert not overflows(page)
    assert violations(page) == []


def test_the_page_tells_what_a_search_for_copies_found(tmp_path: Path) -> None:
    found = lines(SMALL)
    assert "was not checked here" in page_of(write(tmp_path / "unsearched", found))[0]
    for place, line in enumerate(found[:3]):
        line["measures"]["score.copied_sound"] = {"run": 0.0}
        line["measures"]["score.copied_tokens"] = {"run": 0.25 * (place == 2)}
    page, value = page_of(write(tmp_path / "searched", found))
    assert value["copies"]["searched"] == 3
    (copied,) = value["copies"]["found"]
    assert (copied["id"], copied["share"]) == (found[2]["id"], 0.25)
    assert "3 trials played was searched" in page
    assert "one in 25\u202f% of its clips" in page
    found[2]["measures"]["score.copied_tokens"] = {"run": 0.0}
    assert "no clip holds one" in page_of(write(tmp_path / "clean", found))[0]
