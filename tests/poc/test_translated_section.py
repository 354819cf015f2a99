"""The stages of a proof of concept in Japanese: every part of the page, whatever was decided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fixtures.japanese_block import foreign_words, untranslated
from fixtures.page_ids import repeated_ids
from fixtures.run_folder import SCORES, make_run

from talim.atomic_io import write_json
from talim.html.languages import words
from talim.html.render import TEMPLATES, render
from talim.poc import report_section
from talim.poc.gates import GateThresholds, gate_summary
from talim.poc.learning_curve import curve_texts
from talim.reporting.catalogue import counted, in_languages

COMMANDS = ["talim poc", "talim brief", "talim listen", "talim evaluate", "talim plan"]
NAMES = ["linear@all:2.7%", "conv@all:2.7%", "full@all", "linear", "conv", "lora", "gates.json", *COMMANDS]
RATIOS = {"memory": 0.5, "flops": 0.7, "disk": 0.01}
STEPS = [  # after a passed gate: what people do, and a training
    {"name": "listen", **in_languages("next_listen"), "command": "talim listen my-poc"},
    {"name": "extend", **in_languages("next_extend"), "command": "talim poc takes --out my-poc --continue extend"},
]
TOO_FEW = in_languages("stop_no_interval")
POINT = {"mean": 0.2, "ci95": [0.1, 0.3]}


def decided(passed: bool | None = True, **changes: Any) -> dict[str, Any]:
    gates = gate_summary(GateThresholds(), 1.0, 8e9)
    stages = [
        {"name": name, "title": name, "gate": gates[name], "passed": passed, "sentences": ["English."]}
        | {"stopped": "", "stopped_translated": {}}
        for name in ("cost", "quality", "task")
    ]
    designs = [
        {"design": name, "run": "a", "loss_reduction": mean, "ci95": ends, "seconds": 200.0, "steps": 300}
        | {"memory_bytes": None if ends is None else 1e9, "ratios": RATIOS if ends else {}}
        for name, mean, ends in (("linear@all:2.7%", 0.2, [0.1, 0.3]), ("conv@all:2.7%", 0.1, None))
    ]
    rows = [{"fraction": f, "recordings": n, **POINT, "per_recording": {"a": 0.1 * n}} for f, n in ((0.5, 4), (1, 8))]
    curve = {"points": rows, "sentence": "English.", "sentence_translated": curve_texts(rows, 0.1)}
    found = {"stages": stages, "designs": designs, "chosen": {"design": "linear@all:2.7%", "run": "a"}}
    found |= {"continuations": [{"name": "extend", "gate": gates["extend"], "passed": None, "sentences": [MORE_SEEDS]}]}
    found |= {"learning_curve": curve, "tuning": {"note": RATES}, "next_steps": STEPS}
    found |= dict.fromkeys(("plan", "time_note", "licence_use_note", "limitations"), "")
    found |= {
        "price_per_hour": None,
        "prepare_seconds": 0.0,
        "spent": None,
        "larger_base": {},
        "time_note_translated": {},
    }
    return found | changes


# as `talim.poc.rate_search` and `talim.poc.continue_stage` have them; their own tests look at more of them
RATES = (
    "The learning rate of each kind was chosen by the loss on validation clips, in short trainings of 100 steps and "
    "one seed (longer ones may want a lower rate): linear 0.003 (the best may lie beyond: learning_rate: 0.003 is the "
    "greatest tried; bound: 0.003); conv 0.001. Of lora no other rate was chosen: no rates were tried."
)
MORE_SEEDS = (
    "It may be chance that over 3 seeds the loss reduction was 0.2, 0.1, 0.3, in the mean 0.2 (95\u202f% interval of "
    "the reduction over seeds and recordings −0.1 to 0.3): with another seed there may be no reduction."
)


def page_of(folder: Path, values: dict[str, Any]) -> str:
    scores = SCORES | {"scores": [{"name": "adherence_tempo", "value": 0.8, "low": 0.6, "high": 0.9}]}
    make_run(folder / "a", seconds=0, scores=scores)
    write_json(folder / "stages.json", values)
    return render("stages.html", plan=report_section.report_section(folder))


def test_translated_section_of_a_full_fixture_leaves_no_english(tmp_path: Path) -> None:
    page = page_of(tmp_path, decided())
    assert untranslated(page, NAMES) == []
    assert repeated_ids(page) == []
    for text in (
        "linear 0.003（最良の値は、試した範囲の外にあるかもしれません）、conv 0.001。",
        "loraでは、ほかの学習率を選んでいません（試した学習率がないため）。",
        "偶然かもしれませんが、3個のシードでの損失の低下は0.2、0.1、0.3、平均0.2です（",
        "95 %区間：−0.1〜0.3）。シードが違えば、損失が下がらないかもしれません。",
        "実現可能性（メモリーと時間）：合格",
        "8.0 GB 以下、時間内に各方式20ステップ以上",
        "2種類の方式を学習させました（最大300ステップ）。",
        "損失の低下は0.234です（95%信頼区間：0.142〜0.311）。",
        "指定したテンポとの一致",
        "シードとステップの追加：未定",
        "検証用の録音が1本しかないため",
    ):
        assert text.replace("\u202f", " ") in page.replace("\u202f", " "), text
    japanese = page[page.index('class="ja translated whole"') : page.index("</details>")]
    assert japanese.count("<tr>") == 3
    commands = (report_section.report_section(tmp_path) or {})["commands"]
    assert "この段階を決めるのは人です。コマンド：</p>\n<pre><code>" + commands[0] in japanese  # as in English
    assert len(commands) == 4


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ([-0.02, -0.002], "損失は0.011上がりました（低下量：95%"),
        ([-0.03, 0.01], "損失は0.011上がりましたが、偶然かもしれません（"),
    ],
)
def test_translated_section_of_a_loss_that_rose_calls_it_no_reduction(
    tmp_path: Path, ends: list[float], told: str
) -> None:
    page_of(tmp_path, decided())
    losses = SCORES["held_out_loss"]
    rise = losses["loss_reduction"] | {"mean": -0.011, "ci95": ends}
    write_json(tmp_path / "a" / "scores.json", SCORES | {"held_out_loss": losses | {"loss_reduction": rise}})
    page = render("stages.html", plan=report_section.report_section(tmp_path))
    assert told in page
    assert "損失の低下は" not in page.partition("シードとステップの追加")[0]


@pytest.mark.parametrize("name", ["cost", "quality"])
def test_translated_section_of_a_stopped_or_unfinished_one_says_so_first(tmp_path: Path, name: str) -> None:
    skipped = in_languages("poc_curve_few", count=counted(2, "training recording"))
    curve = {"points": [], "sentence": skipped["en"], "sentence_translated": skipped}
    values = decided(passed=False, learning_curve=curve, continuations=[])
    reason = in_languages("stop_here", reason=in_languages("stop_next", why=TOO_FEW, next=in_languages("stop_smaller")))
    stopped = {"stopped": reason["en"], "stopped_translated": reason}
    values["stages"] = [row | (stopped if row["name"] == name else {}) for row in values["stages"][:2]]
    page = page_of(tmp_path, values)
    begin = page[page.index('class="ja translated whole"') : page.index("<h3>実現可能性")]
    assert f"<p>ここで止まりました。{TOO_FEW['ja']}。次にできること：方式を小さくする。</p>" in begin
    assert "学習用の録音2本は、四つに分けられないためです。" in page
    assert untranslated(page, NAMES) == []
    values = decided(designs=[], chosen=None, learning_curve=None, continuations=[])
    values["stages"] = values["stages"][:1]
    page = page_of(tmp_path, values)
    assert words("ja", "poc")["unfinished"] in page
    assert untranslated(page, NAMES) == []


def test_next_steps_of_a_passed_proof_are_on_the_page_in_both_languages_until_they_are_done(tmp_path: Path) -> None:
    larger = in_languages("next_larger_base", base="b")
    values = decided(next_steps=[*STEPS, {"name": report_section.NEXT_BASE, **larger, "command": "talim poc larger"}])
    page = page_of(tmp_path, values)
    assert untranslated(page, NAMES) == []
    japanese = page[page.index('class="ja translated whole"') : page.index("</details>")]
    for step in STEPS:
        assert f"<p>{step['ja']}</p>\n<pre><code>{step['command']}" in japanese
        assert page.count(f"<p>{step['en']}</p>\n<pre><code>{step['command']}") == 1
    assert "talim poc larger" not in page  # the page of a miniature's run names it at its top
    write_json(tmp_path / "listening" / "ratings.json", {"sentences_translated": {}})
    page = page_of(tmp_path, values)
    assert STEPS[0]["ja"] not in page
    assert STEPS[1]["ja"] in page


def test_translated_section_in_a_language_added_since_has_in_english_what_was_stored_without_it(tmp_path: Path) -> None:
    values = decided(learning_curve={"points": [], "sentence": "A curve.", "sentence_translated": {}})
    for row in values["stages"]:
        row["gate"] = {key: text for key, text in row["gate"].items() if key != "ja"}
        row |= {"stopped": "Stopped.", "stopped_translated": {}}
    values["next_steps"] = [{"name": "listen", "en": "Listen:", "command": "talim listen my-poc"}]
    page = page_of(tmp_path, values | {"time_note": "It took long.", "time_note_translated": {}})
    japanese = page[page.index('class="ja translated whole"') : page.index("</details>")]
    told = ["<p>Listen:</p>", "<p>Stopped.</p>", "<p>It took long.</p>", "<p>A curve.</p>"]
    assert [text for text in [*told, values["stages"][0]["gate"]["reason"]] if text not in japanese] == []


def test_japanese_gates_have_the_parts_and_values_of_the_english_ones() -> None:
    english, japanese = (words(language, "poc")["gates"] for language in ("en", "ja"))
    assert {stage: [*parts] for stage, parts in english.items()} == {s: [*parts] for s, parts in japanese.items()}
    for stage, parts in english.items():
        for name, text in parts.items():
            assert {*re.findall("{.*?}", text)} == {*re.findall("{.*?}", japanese[stage][name])}, (stage, name)


def test_reasons_to_stop_have_no_english_word_in_japanese() -> None:
    found = {key: text for key, text in words("ja").items() if key.startswith(("stop_", "fit_", "poc_curve_", "next_"))}
    assert len(found) > 30
    foreign = {key: foreign_words(re.sub("{.*?}", "", text), NAMES) for key, text in found.items()}
    assert {key: each for key, each in foreign.items() if each} == {}


def test_template_of_the_stages_has_no_word_of_its_own_in_the_translation() -> None:
    text = (TEMPLATES / "stages.html").read_text("utf-8")
    (body,) = re.findall(r"{% macro told_stages\(told, language\) %}(.*?){% endmacro %}", text, re.DOTALL)
    assert re.findall("[A-Za-z]+", re.sub(r"<[^>]*>|{{.*?}}|{%.*?%}", " ", re.sub(r"{[{%].*?[%}]}", "", body))) == []
