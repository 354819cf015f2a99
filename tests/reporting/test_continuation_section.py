"""The page's part on continued phrases: values with their control, verdicts only from enough recordings, players."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures.japanese_block import foreign_words

from talim.atomic_io import write_jsonl
from talim.evaluation import continuation
from talim.html.languages import words
from talim.html.render import render
from talim.reporting.continuation_section import (
    NAMES,
    continuation_section,
    continuation_sentence,
    continuation_table,
    translated_sentences,
)
from talim.reporting.run_results import RunResults


def row(name: str, **changes: Any) -> dict[str, Any]:
    direction = "lower_is_better" if "cents" in name or "distance" in name else "higher_is_better"
    values = {"name": name, "value": 0.7, "baseline": 0.4, "reference": 0.9, "control": 0.3, "direction": direction}
    return values | {"gain": 0.3, "gain_error": 0.02, "gain_recordings": 7} | changes


def results(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    facts = {"phrase_seconds": 4.0, "seconds": 6.0, "clips": 7, "recordings": 7, "controls": 20, "seed": 0}
    return {"continuations": {**facts, "scores": rows, "warnings": ["few clips"], **changes}}


@pytest.fixture
def result(tmp_path: Path) -> RunResults:
    """A run with two continued clips, one without its sound."""
    folder = tmp_path / "run" / "continuations"
    folder.mkdir(parents=True)
    rows = []
    for number in (1, 2):
        for role in ("phrase", "real", "before", "after"):
            name = f"{number:02d}-{role}.flac"
            if (number, role) != (2, "after"):
                soundfile.write(folder / name, 0.1 * np.sin(np.arange(16_000) / 20), 16_000)
            prompt = "raga <Yaman>" if number == 1 else ""
            rows.append({"file": name, "role": role, "prompt": prompt, "recording": "take & 3", "phrase_seconds": 0.4})
    write_jsonl(folder / "manifest.jsonl", rows)
    scores = results(
        [row("continuation_mode_probability"), row("continuation_intonation_cents", value=12, baseline=30)]
    )
    return RunResults(tmp_path / "run", scores=scores)


def rendered(section: dict[str, Any]) -> str:
    return render("continuation.html", continuation=section)


def english(scores: dict[str, Any]) -> str:
    return continuation_sentence(scores)["en"]


def test_section_shows_values_with_their_control_and_players(result: RunResults) -> None:
    section = continuation_section(result, None)
    mode, cents = section["rows"]
    shown = [mode[key].replace("\u202f", " ") for key in ("value", "baseline", "control", "reference")]
    assert shown == ["70 %", "40 %", "30 %", "90 %"]
    assert (mode["verdict"], cents["verdict"], cents["value"]) == ("better", "better", "12 cents")
    assert [group.prompt for group in section["examples"]] == ["raga <Yaman>", "take & 3, without words"]
    assert [card.role for card in section["examples"][0].cards] == ["phrase", "real", "before", "after"]
    assert section["examples"][0].cards[3].details == "goes on at 0.4 s (dashed line)"
    assert ["seam" in card.drawing for card in section["examples"][0].cards] == [False, True, True, True]
    assert section["examples"][1].cards[3].problem
    page = rendered(section)
    assert page.count("<audio") == 7
    assert "raga &lt;Yaman&gt;" in page
    assert "Note: few clips." in page
    assert "goes on for 6.0 s" in page or "goes on for 6 s" in page


def test_sentence_tells_better_and_worse_only_from_enough_recordings() -> None:
    rows = [row("continuation_mode_probability"), row("continuation_scale_distance", value=0.6, gain=-0.2)]
    shown = english(results(rows))
    assert "Going on from 7 held-out clips" in shown or "Going on from 7 held-out phrases" in shown
    assert "worse: difference of the pitches" in shown
    assert "etter: probability of the recording's mode" in shown
    few = [each | {"gain_recordings": 3} for each in rows]
    assert "cannot be told" in english(results(few))
    three = results(few, recordings=3)
    assert "(talim evaluate --num-continuations 6). The values are below" in english(three)
    told = english({**three, "split": {"held_out": {"recordings": 3}}, "corpus": {"recordings": 20}})
    assert "the corpus has 3: name 6 or more of the 20 recordings with --held-out, or add recordings. The" in told
    unsure = [each | {"gain_error": 5.0} for each in rows]
    assert "no score shows a difference" in english(results(unsure))


def test_continuation_table_has_the_values_in_japanese() -> None:
    rows = [
        row("continuation_intonation_cents", value=12, baseline=30),
        row("continuation_nearness_pitch", testable=False),
    ]
    table = continuation_table(results(rows), "ja")
    assert len({len(cells) for cells in table["rows"]}) == 1
    text = " ".join(
        [table["label"], table["caption"], table["note"], *(cell for cells in table["rows"] for cell in cells)]
    )
    assert foreign_words(text) == []
    assert "12セント 30セント" in text
    assert "ここでは確かめられない" in table["rows"][2]
    assert continuation_table({"continuations": {"reason": "x"}}, "ja") == {}


def test_score_by_which_recordings_are_no_better_than_others_decides_nothing(tmp_path: Path) -> None:
    rows = [row("continuation_nearness_pitch", testable=False), row("continuation_scale_distance", gain=-0.3)]
    section = continuation_section(RunResults(tmp_path, scores=results(rows)), None)
    assert {each["name"][:10]: each["verdict"] for each in section["rows"]} == {
        "nearer to ": "not testable here",
        "difference": "worse",
    }
    assert "nearer" not in english(results(rows))
    assert "not testable here" in english(results(rows[:1]))
    assert "cannot be told" in english(results([rows[0] | {"gain_recordings": 3}], recordings=3))


def test_section_of_a_run_without_continuations_says_why_or_is_left_out(tmp_path: Path) -> None:
    assert continuation_section(RunResults(tmp_path), None) == {}
    assert continuation_sentence({}) == {}
    scores = {"continuations": {"reason": "some-mustango varies a phrase and does not go on from it"}}
    section = continuation_section(RunResults(tmp_path, scores=scores), None)
    assert "some-mustango varies a phrase" in rendered(section)
    assert continuation_sentence(scores) == {}


def test_translated_sentences_leave_no_english() -> None:
    better = [row(name) for name in NAMES]
    cases = [
        results(better, clips=1),
        results([better[0], row("continuation_intonation_cents", value=12, baseline=5, gain=-0.3)]),
        results([each | {"gain_recordings": 3} for each in better], recordings=3),
        results([each | {"gain_error": 5.0} for each in better]),
        results([each | {"testable": False} for each in better]),
        *(
            {"continuations": {"reason": reason}}
            for reason in ("it was not asked for", "b varies a phrase and does not go on from it", "")
        ),
    ]
    for scores in cases:
        told = " ".join(translated_sentences(scores, "ja"))
        assert told
        assert foreign_words(told.replace("talim evaluate", ""), ["b"]) == [], told
    assert "良くなったもの：主音を与えたときの、録音の旋法の確率は70" in " ".join(translated_sentences(cases[0], "ja"))
    assert "悪くなったもの：旋法の各音の、あるべき高さからのずれは12セント" in " ".join(
        translated_sentences(cases[1], "ja")
    )
    assert translated_sentences({}, "ja") == []


def test_reasons_are_those_that_an_evaluation_writes() -> None:
    source = Path(str(continuation.__file__)).read_text(encoding="utf-8")
    for key in ("not_asked", "varies", "short"):
        assert words("en")[f"continuation_{key}"].replace("{base}", "{backbone.name}") in source


def test_section_of_scores_that_were_not_measured(tmp_path: Path) -> None:
    missing = row("continuation_mode_probability", value=None, baseline=None, reference=None, control=None, gain=None)
    section = continuation_section(RunResults(tmp_path, scores=results([missing])), None)
    assert section["rows"][0]["verdict"] == "not measured"
    assert section["rows"][0]["value"] == "-"
    assert section["examples"] == []


def test_every_score_has_a_name() -> None:
    from talim.evaluation import continuation_scores

    measures = (continuation_scores.MODE, continuation_scores.INTONATION, continuation_scores.SCALE)
    assert {*NAMES} == {each.name for each in (*measures, *continuation_scores.NEARNESS.values())}


def test_manifest_that_names_a_file_outside_the_folder_is_not_followed(result: RunResults) -> None:
    manifest = result.folder / "continuations" / "manifest.jsonl"
    first = json.loads(manifest.read_text(encoding="utf-8").splitlines()[0])
    write_jsonl(manifest, [first | {"file": "../../secret.flac"}])
    section = continuation_section(result, None)
    assert section["examples"][0].cards[0].problem


def test_section_says_how_many_examples_are_not_shown(result: RunResults, monkeypatch: pytest.MonkeyPatch) -> None:
    assert " more in " not in rendered(continuation_section(result, None))
    monkeypatch.setattr("talim.reporting.continuation_section.MAX_EXAMPLES", 1)
    section = continuation_section(result, None)
    assert len(section["examples"]) == 1
    assert ">1 more in run/continuations.<" in rendered(section)
