"""The report of runs: order of sections, self-contained, missing values, escaped text."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.japanese_block import untranslated
from fixtures.page_ids import repeated_ids
from fixtures.run_folder import COST, FACTS, RECIPE, SCORES, log_rows, make_run

from talim.backbones import registry
from talim.errors import TalimError
from talim.html import languages
from talim.reporting import audio_examples, run_report, sentences
from talim.reporting.run_report import write_report
from talim.reporting.run_results import RunResults

VOID = {"meta", "link", "image", "br", "img", "path", "line", "use", "rect"}
EVIL = '<script>alert("x")</script>&'


@pytest.fixture(autouse=True)
def quick_pitch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real tracker has tests of its own and takes seconds per file."""
    pitch = SimpleNamespace(hz=np.array([220.0, np.nan, 230.0]), hop_seconds=0.1)
    monkeypatch.setattr(audio_examples, "pitch_tracker", lambda: lambda samples, rate_hz: pitch)


def page_of(folder: Path) -> str:
    path = write_report(folder)
    assert path == folder / "report" / "index.html"
    return path.read_text(encoding="utf-8")


def run_page(tmp_path: Path, **changes: Any) -> str:
    return page_of(make_run(tmp_path / "run", **{"seconds": 0, **changes}))


class Outline(HTMLParser):
    """Checks that tags nest; collects ids, visible text, and every address that a browser would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.unnamed: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.ids += [str(attributes["id"])] if attributes.get("id") else []
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if (tag == "audio" or attributes.get("role") == "img") and not attributes.get("aria-label"):
            self.unnamed.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def without_contents(page: str) -> str:
    """The page without its table of contents, in which every heading stands too."""
    return re.sub("<nav.*?</nav>", "", page, flags=re.DOTALL)


def test_write_report_of_a_miniature_names_a_usable_base_first(tmp_path: Path) -> None:
    text = Outline(without_contents(run_page(tmp_path))).text
    notice = text.index("This is a miniature model.")
    assert notice < text.index("Result")
    section = text[notice : text.index("Result")]
    assert "facebook/musicgen-small" in section
    assert f"about {registry.MODELS['musicgen-small'].download_gb:.1f} GB" in section
    assert "of training steps on this machine" not in section  # nothing was planned for this run
    full = "30 passes, as the paper trained (arXiv 2506.21298), are 229 steps of one design, linear@all:2.5%."
    assert full in section
    options = "--design linear@all:2.5% --set training.steps=229 --no-learning-curve --no-tune"
    assert f"talim poc FOLDER --base facebook/musicgen-small {options} --out DIR" in section
    assert "How long it takes with these recordings is predicted by" in section
    assert "talim plan --base musicgen-small --design linear@all:2.5% --steps 229 --batch-size 8" in section
    assert "does not decide what facebook/musicgen-small makes of them" in section
    assert "usable" not in section
    assert "not for commercial use" in section
    assert "For music that is to be sold take declare-lab/mustango (Apache-2.0" in section
    assert "talim poc FOLDER --base declare-lab/mustango --use commercial" in section


def test_write_report_of_a_miniature_for_sale_names_and_plans_one_base_that_may_be_sold(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0)
    larger = {"base": run_report.larger_base("commercial").name, "hours": 7.4}
    write_report(run, price_per_hour=0.5, larger=larger)
    text = Outline(without_contents((run / "report" / "index.html").read_text(encoding="utf-8"))).text
    section = text[text.index("This is a miniature model.") : text.index("Result")]
    takes = "7 h 24 min of training steps on this machine, which costs 3.70 at 0.50 per machine hour. Trying"
    assert f"are 229 steps of one design, linear@all:2.5%: {takes}" in section
    options = "--no-learning-curve --no-tune --use commercial --price-per-hour 0.5 --out DIR"
    assert f"--set training.steps=229 {options}" in section
    japanese = text[text.index("日本語") :]
    assert japanese.index("小さなモデルで、音質は高くありません。") < japanese.index("229ステップ")
    assert "7時間24分" in japanese
    assert "ダウンロードは約" in japanese
    assert "Its licence is Apache-2.0." in section
    assert "talim plan --base mustango --design" in section
    assert "musicgen" not in section.replace("nano-musicgen comes", "")
    assert "that is to be sold" not in section  # said once


def test_miniature_notice_of_a_proof_is_rough_where_the_machine_was_busy_and_names_a_gpu_and_what_was_counted(
    tmp_path: Path,
) -> None:
    scores = {"held_out_loss": {"loss_reduction": {"per_recording": {"a": 0.1}}}, "corpus": {"recordings": 7}}
    training = {"training": {"steps": 20, "batch_size": 4}}
    music = {"clip_seconds": 10.0, "split": {"train": {"seconds": 326.0, "clips": 34}}}
    result = RunResults(
        tmp_path, recipe={"base": "nano-musicgen", "design": "linear@all:2.7%", **training}, scores=scores, corpus=music
    )
    larger = {"base": "mustango", "hours": 15.44, "rough": True, "gpu": "rtx-4090", "gpu_hours": 75 / 3600}
    notice = run_report.miniature_notice(result, larger | {"command": "talim poc /takes --held-out a"}, 100.0)
    assert notice
    english, japanese = (" ".join(text[language] for text in notice["texts"]) for language in ("en", "ja"))
    busy = ", roughly: the machine was busy when it was timed (talim plan --recalibrate measures again)"
    rented = "; on a rented GPU (rtx-4090) about 75 s by its published rates (talim plan --gpu rtx-4090). Trying"
    assert f"100.00 per machine hour{busy}{rented}" in english
    assert "おおよその値です" in japanese
    assert "約75秒です（talim plan --gpu rtx-4090）。学習率" in japanese
    assert notice["command"] == "talim poc /takes --held-out a"
    plain = run_report.miniature_notice(result, {"hours": 15.44, "rough": False, "gpu": None})
    assert plain
    told = " ".join(text["en"] for text in plain["texts"])
    assert "roughly" not in told + english.replace(busy, "")
    assert "rent" not in told


def test_write_report_of_a_run_that_began_from_an_adapter_names_it_and_its_licence(tmp_path: Path) -> None:
    start = {"name": "someone/qawwali", "hash": "f00d", "repository": "someone/qawwali", "revision": "a" * 40}
    start |= {"licence": "cc-by-nc-4.0", "design": "lora@adapter", "base": "nano-musicgen", "parameters": 10}
    recipe = RECIPE | {"design": "lora@adapter", "init_from": "someone/qawwali"}
    scores = SCORES | {"seen_in_training": {"answer": "unknown", "note": "not known"}}
    cost = COST | {"best_step": 0, "stored_step": 0, "best_validation_loss": 3.1}
    run = make_run(tmp_path / "run", run=FACTS | {"init_from": start}, recipe=recipe, scores=scores, cost=cost)
    page = page_of(run)
    assert "The adapter lora@adapter, begun from someone/qawwali" in page
    assert "adapter is that of step 0: it is someone/qawwali, which it began from." in page
    assert "it changes nothing" not in page
    assert "the adapter it began from, someone/qawwali (cc-by-nc-4.0)" in page
    assert f"someone/qawwali, commit {'a' * 40}" in page
    assert "curve is the adapter that training began from." in page
    assert "on the validation clips, the loss was 3.412 then and 3.100 at its best" in page
    assert "talim plan" not in page  # which cannot place the modules of a stored adapter in another base
    assert "unheard music" not in page
    result = run_report.read_result(run)
    assert "may have been in its training" in sentences.loss_verdict(replace(result, cost=COST))[1]


def test_write_report_of_a_large_base_has_no_notice(tmp_path: Path) -> None:
    facts = {"base": {"name": "facebook/musicgen-small", "miniature": False, "licence": "CC-BY-NC-4.0"}}
    page = run_page(tmp_path, run=facts, recipe=RECIPE | {"base": "facebook/musicgen-small"})
    assert "miniature" not in page
    assert "CC-BY-NC-4.0" in page


def test_miniature_notice_of_a_run_without_a_recipe_plans_no_training(tmp_path: Path) -> None:
    facts = {"base": {"miniature": True, "name": "nano"}}
    notice = run_report.miniature_notice(RunResults(tmp_path, facts=facts), larger={"hours": 7.4})
    assert notice
    assert notice["command"] == "talim poc FOLDER --base facebook/musicgen-small --out DIR"
    assert (notice["plan_command"], notice["planned"]) == ("", False)  # of a run without a recipe


@pytest.mark.parametrize("steps", [20, 300])
def test_miniature_notice_says_what_the_run_tells_of_the_larger_base(tmp_path: Path, steps: int) -> None:
    facts = {"base": {"miniature": True, "name": "nano"}}
    notice = run_report.miniature_notice(RunResults(tmp_path, facts=facts, cost={"steps": steps}))
    assert notice
    nothing = "The 20 training steps of this miniature say nothing on quality, neither its own nor that of facebook/"
    carries_over = notice["texts"][1]
    assert carries_over["en"].startswith(nothing) == (steps == 20)
    assert ("only after its own training, by ear" in carries_over["en"]) == (steps == 300)
    assert ("品質は何もわかりません" in carries_over["ja"]) == (steps == 20)


@pytest.mark.parametrize(
    ("adapter", "example", "prompt"),
    [({"captioned": False}, "", "''"), ({"captioned": False}, "held-out", "''"), ({}, "", "music"), ({}, "ney", "ney")],
)
def test_make_music_command_of_a_run_without_words_has_the_empty_prompt(
    tmp_path: Path, adapter: dict[str, Any], example: str, prompt: str
) -> None:
    (tmp_path / "adapter").mkdir()
    corpus = {"example_caption": example}
    result = RunResults(tmp_path, recipe={"base": "x"}, cost={"steps": 1}, corpus=corpus, adapter=adapter)
    (command,) = run_report.make_music_commands(result)
    assert f"--prompt={prompt} " in command


def test_write_report_without_cost_tells_no_time(tmp_path: Path) -> None:
    text = Outline(run_page(tmp_path, cost=None)).text
    assert "talim poc FOLDER --base facebook/musicgen-small --design" in text
    assert "Resource usage was not measured" in text


def test_write_report_sections_are_in_order(tmp_path: Path) -> None:
    page = run_page(tmp_path, seconds=0.3)
    text = Outline(without_contents(page)).text
    headings = [
        "miniature",
        "Result",
        "fell by 0.234 nats",
        "Listen",
        "Training curves",
        "Resource usage of training",
        "Data and rights",
        "Reproduce",
    ]
    assert "On the interval: only 4 held-out recordings" in text
    positions = [text.index(heading) for heading in headings]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    ("word", "explained"),
    [
        ("nats", "nats: one nat less means that it gives what really came a probability 2.7 times as high"),
        ("tokens", "tokens) from lists of ever finer detail"),
        ("codebook", "codebooks), and the loss is the mean over them"),
        ("mel spectrogram", "mel spectrogram (how loud each range of pitch is over time)"),
    ],
)
def test_write_report_explains_each_word_of_the_trade_at_its_first_place(
    tmp_path: Path, word: str, explained: str
) -> None:
    text = " ".join(Outline(run_page(tmp_path, seconds=0)).text.split())
    assert text[text.index(word) :].startswith(explained)


def test_write_report_is_valid_and_fetches_nothing(tmp_path: Path) -> None:
    outline = Outline(run_page(tmp_path, seconds=0.3))
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert not outline.unnamed
    assert all(address.startswith(("#", "data:")) for address in outline.addresses)
    assert sum(address.startswith("data:audio/mpeg") for address in outline.addresses) == 6


def test_write_report_shows_before_after_and_real(tmp_path: Path) -> None:
    page = run_page(tmp_path, seconds=0.3)
    for trio in page.split('<div class="trio">')[1:]:
        assert re.findall(r'<figure class="card (\w+)">', trio) == ["before", "after", "real"]
    assert page.count('class="pitch"') == 6


def evil(value: Any) -> Any:
    """The same structure with every text made hostile."""
    if isinstance(value, dict):
        return {f"{key}{EVIL}" if key in ("CC BY 4.0", "temple") else key: evil(item) for key, item in value.items()}
    if isinstance(value, list):
        return [evil(item) for item in value]
    return value + EVIL if isinstance(value, str) else value


def test_write_report_escapes_all_texts(tmp_path: Path) -> None:
    changes = {"run": evil(FACTS), "scores": evil(copy.deepcopy(SCORES)), "recipe": evil(RECIPE)}
    run = make_run(tmp_path / "run", seconds=0.3, **changes)
    manifest = run / "samples" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    hostile = [row | {"prompt": row["prompt"] + EVIL, "recording": EVIL} for row in rows]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in hostile))
    page = page_of(run)
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert EVIL in Outline(page).text
    assert Outline(page).open == []


def test_write_report_states_no_improvement_and_harm(tmp_path: Path) -> None:
    def scores(mean: float, low: float, high: float) -> dict[str, Any]:
        changed = copy.deepcopy(SCORES)
        changed["held_out_loss"]["loss_reduction"] |= {"mean": mean, "ci95": [low, high]}
        return changed

    assert "No improvement is shown" in run_page(tmp_path / "a", scores=scores(0.01, -0.05, 0.07))
    worse = Outline(run_page(tmp_path / "b", scores=scores(-0.1, -0.2, -0.05))).text
    assert "made the model worse" in worse
    assert "−9.5 %" in worse


def test_write_report_of_an_almost_empty_run_marks_missing_values(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("base: nano-musicgen\n")
    text = Outline(page_of(run)).text
    assert "Training has not begun" in text
    assert "Trained" not in text
    assert text.count("not measured") >= 2
    assert "This run has no audio" in text
    assert "The recordings are unknown" in text


@pytest.mark.parametrize(("steps", "expected"), [(0, "has not begun"), (80, "is not finished")])
def test_write_report_of_an_unfinished_run_draws_no_result(tmp_path: Path, steps: int, expected: str) -> None:
    """The page of a run that stopped at 80 of 300 steps, with an adapter folder that an earlier version left."""
    rows = [row for row in log_rows() if row["step"] <= steps]
    text = Outline(run_page(tmp_path, cost=None, scores=None, log={"rows": rows})).text
    assert f"nano-musicgen: training {expected}" in text
    assert f"to be trained on 11 recordings, 10 min of music, {steps} of 300 steps, not finished." in text
    assert "go on with: talim train --out" in text
    for claim in ("trained on 11", "Trained", "before and after", "Make music", "better", "took", "fell"):
        assert claim not in text.replace("to be trained on 11", "").replace("Audio named before and after", "")
    assert "So far: training is not finished." in text
    make_run(tmp_path / "done", seconds=0)
    both = Outline(page_of(tmp_path)).text
    assert "300 steps" in both
    assert f"{steps} of 300 steps, not finished" in both


def test_write_report_of_several_runs_compares_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_run(tmp_path / "runs" / name, seconds=0.3 if name == "two" else 0)
    text = Outline(page_of(tmp_path)).text
    assert "All 2 runs" in text
    assert "runs/one" in text
    assert "This page shows two" in text


def test_write_report_of_runs_with_different_protocols_raises(tmp_path: Path) -> None:
    protocols = [{"hash": "0123", "seconds": 10}, {"hash": "4567", "seconds": 5}]
    for name, protocol in zip(("one", "two"), protocols, strict=True):
        make_run(tmp_path / name, seconds=0, scores={**SCORES, "protocol": protocol})
    with pytest.raises(TalimError) as error:
        write_report(tmp_path)
    for part in (tmp_path / "one", tmp_path / "two", "0123", "4567", "differ in seconds"):
        assert str(part) in str(error.value)
    make_run(tmp_path / "two", seconds=0, scores={**SCORES, "protocol": protocols[0]})
    assert write_report(tmp_path).is_file()


def test_write_report_names_corpus_and_skipped_files(tmp_path: Path) -> None:
    text = Outline(run_page(tmp_path)).text
    assert "1 file was skipped" in text
    assert "notes.wav: not audio: it begins with text" in text
    assert "trained on 11 recordings, 10 min of music" in text


def test_write_report_without_a_run_raises_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="holds no run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_write_report_damaged_file_keeps_the_earlier_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0)
    before = page_of(run)
    (run / "scores.json").write_text("{")
    with pytest.raises(TalimError, match=r"scores\.json"):
        write_report(run)
    assert (run / "report" / "index.html").read_text(encoding="utf-8") == before


def test_write_report_loads_no_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0)
    code = f"import sys; from talim.reporting.run_report import write_report; write_report({str(run)!r})"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_write_report_shows_listening_tests_escaped(tmp_path: Path) -> None:
    assert "Listening tests" not in run_page(tmp_path)
    result = {"brief": {"name": "jingle"}, "sentences": [EVIL, "Go on, by the rule of the brief."]}
    result["sentences_translated"] = {"ja": ["進める（Go）。"]}
    (tmp_path / "run" / "usefulness.json").write_text(json.dumps(result), encoding="utf-8")
    page = page_of(tmp_path / "run")
    assert page.count('<details class="ja translated"') == 2
    assert repeated_ids(page) == []
    assert "Listening tests" in page
    assert "Go on, by the rule of the brief." in page
    assert EVIL not in page


def test_write_report_keeps_the_japanese_sentences_folded_under_their_own_name(tmp_path: Path) -> None:
    page = run_page(tmp_path)
    inside = page.partition('<details class="ja translated" lang="ja"')[2].partition("</details>")[0]
    assert "<summary>日本語</summary>" in inside
    assert "費用：" in inside
    assert "費用：" not in page.replace(inside, "")
    names = ["talim listen", "talim brief", "--price-per-hour", "linear@all", "arXiv", "GB"]
    names += ["nano-musicgen", "facebook/musicgen-small", "CC-BY-NC-4.0", "declare-lab/mustango", "Apache-2.0"]
    assert untranslated(page, names) == []
    assert "（CPU、2コア）" in inside
    begins = ('<details class="ja translated"', "This is a miniature model.", 'class="verdict"')
    assert [*begins] == sorted(begins, key=page.index)  # what opens for a reader of Japanese is what comes first


def test_write_report_has_the_table_of_generated_audio_in_japanese_too(tmp_path: Path) -> None:
    row = {"name": "adherence_tempo", "direction": "higher_is_better", "value": 0.67, "baseline": 1.0}
    page = page_of(make_run(tmp_path / "run", seconds=0, scores=SCORES | {"scores": [row]}))
    inside = page.partition('<details class="ja translated" lang="ja"')[2].partition("</details>")[0]
    assert '<th scope="row">指定したテンポとの一致</th>' in inside
    assert inside.count("判断できない") > 0
    assert "cannot be told</td>" in page.replace(inside, "")


def test_write_report_repeats_the_commands_and_what_was_found_of_copies_in_japanese(tmp_path: Path) -> None:
    clips = [{"copied": False, "match": {}}] * 3
    copies = {"sentence": "None of 3 checked clips ...", "clips": clips, "null_clips": 99}
    page = page_of(make_run(tmp_path / "run", seconds=0, scores=SCORES | {"copies": copies}))
    inside = page.partition('<details class="ja translated" lang="ja"')[2].partition("</details>")[0]
    assert "検査した生成音3件のうち、学習用の録音の一部を含むものはありません。</p>" in inside
    assert "英語の欄" not in inside
    commands = re.findall("<code>(talim .*?)</code>", inside)
    assert [command.split()[1] for command in commands] == ["poc", "plan", "poc", "generate"]
    assert all(page.count(command) == 2 for command in commands)


def test_page_is_in_every_language_that_has_a_folder_of_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in ("en", "ja"):
        shutil.copytree(languages.FOLDER / code, tmp_path / "words" / code)
    own = {"language": "Lingua ficta", "read": "Lege", "point_quality": "Qualitas: {learning}{samples}", "comma": " ; "}
    (tmp_path / "words" / "la").mkdir()
    (tmp_path / "words" / "la" / "report.json").write_text(json.dumps(own))
    monkeypatch.setattr(languages, "FOLDER", tmp_path / "words")
    page = page_of(make_run(tmp_path / "run", seconds=0))
    (block,) = re.findall(r'<details class="la translated" lang="la"[^>]*>(.*?)</details>', page, re.DOTALL)
    assert "<summary>Lingua ficta</summary>" in block
    assert "Qualitas: " in block
    assert "Quality: " not in block
    assert "Cost: " in block  # what has no translation is in English
    assert '<a href="#la" lang="la">Lingua ficta</a>' in page
    assert '<details class="ja translated" lang="ja"' in page


def test_loss_plots_of_one_step_say_its_loss_and_no_way_from_it_to_itself(tmp_path: Path) -> None:
    rows = [row for row in log_rows() if row["step"] <= 1]
    result = run_report.read_result(make_run(tmp_path / "run", seconds=0, log={"rows": rows}))
    drawing = run_report.loss_plots(result)["broad"]
    assert re.search(r"Training \d\.\d\d, at one step\. Validation \d\.\d\d, at one step\.", drawing)
