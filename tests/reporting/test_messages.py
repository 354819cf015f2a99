"""What commands print: counts in plain grammar, quoted paths, the next command, and how to make music."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_folder import make_run

from talim.corpus.metadata import MOST_UNMATCHED
from talim.html import languages
from talim.reporting import messages

SUMMARY: dict[str, Any] = {
    "clips": 1,
    "recordings": 1,
    "seconds": 60.0,
    "split": {
        "strategy": "blocks",
        "train": {"clips": 3, "recordings": 1},
        "validation": {"clips": 2, "recordings": 1},
        "held_out": {"clips": 0, "recordings": 0},
    },
    "rights": {"licences": {"CC0": 1}},
    "near_duplicates": [],
    "skipped": [{"file": "a\nb.wav", "reason": "no sound"}],
    "notes": [{"file": "a.wav", "note": "it ends early"}],
}


def test_corpus_message_counts_one_and_escapes_names() -> None:
    text = messages.corpus_message(SUMMARY, Path("corpus"), "/x/takes")
    assert "1 clip of 1 recording, 1.0 minutes" in text
    assert "1 recordings" not in text
    assert (
        "3 clips of 1 recording to train on, 2 clips of 1 recording to choose by (validation), 0 clips to test with "
        "(held out), split by blocks"
    ) in text.splitlines()
    split = SUMMARY["split"] | {"explanation": "Kept for the test, never trained on: a."}
    shared = messages.corpus_message(SUMMARY | {"split": split, "source_levels": [{}, {}]}, Path("corpus"), "/x/takes")
    assert shared.startswith("1 clip of 1 recording in 2 files, 1.0 minutes")
    assert "Kept for the test, never trained on: a." in shared.splitlines()
    assert "skipped a\\nb.wav: no sound" in text
    assert "it ends early" not in text  # told when it was read
    doubt = {"file": "unknown names", "note": "raga 'Yamna' (2 recordings): did you mean Yaman?"}
    doubted = messages.corpus_message(SUMMARY | {"notes": [doubt]}, Path("corpus"), "/x/takes").splitlines()
    assert "unknown name, in captions as written: raga 'Yamna' (2 recordings): did you mean Yaman?" in doubted


@pytest.mark.parametrize(("trained", "told"), [(2, True), (3, False), (6, False)])
def test_corpus_message_says_where_few_recordings_are_learned_from(trained: int, told: bool) -> None:
    held_out = {"clips": 8, "recordings": 2}
    split = SUMMARY["split"] | {"train": {"clips": 22, "recordings": trained}, "held_out": held_out}
    text = messages.corpus_message(SUMMARY | {"recordings": 6, "split": split}, Path("corpus"), "takes")
    learned = (
        f"note: only {trained} of 6 recordings are learned from, as 2 are kept for the test and 2 for validation: "
    )
    assert (learned in text) == told
    assert "--held-out NAME" not in text  # with fewer held out validation may take their place
    (note,) = [line for line in text.splitlines() if line.startswith("note: ")]
    assert ("fewer held out may not, as validation takes a share of what they leave" in note) == told
    assert "nly 2 held-out recordings: too few for an interval that says anything" in note


def test_corpus_message_says_that_fewer_held_out_leave_more_where_validation_takes_no_recording() -> None:
    sides = {"train": {"clips": 9, "recordings": 2}, "held_out": {"clips": 20, "recordings": 6}}
    text = messages.corpus_message(SUMMARY | {"recordings": 8, "split": SUMMARY["split"] | sides}, Path("c"), "takes")
    told = (
        "as 6 are kept for the test: more recordings give more to learn from; fewer held out do too, but decide less."
    )
    assert told in text
    sides = {"train": {"clips": 9, "recordings": 3}, "held_out": {"clips": 9, "recordings": 1}}
    text = messages.corpus_message(SUMMARY | {"recordings": 7, "split": SUMMARY["split"] | sides}, Path("c"), "takes")
    told = "as 1 is kept for the test and 3 for validation: more recordings give more to learn from. Only one held-out"
    assert told in text


def test_corpus_message_names_what_has_no_caption_and_the_table_in_use() -> None:
    names = [f"{n}.wav" for n in range(7)]
    for file, told in (
        ("metadata.csv", f"{Path('corpus') / 'metadata.csv'}"),
        ("takes/metadata.csv", "/x/takes/metadata.csv"),
    ):
        missing = {"file": file, "recordings": 7, "names": names, "kept_out": ["t.wav"]}
        summary = SUMMARY | {"missing_captions": missing}
        lines = messages.corpus_message(summary, Path("corpus"), "/x/takes").splitlines()
        assert (
            "7 recordings have no caption (0.wav, 1.wav, 2.wav, 3.wav, 4.wav and 2 more): the sound is learned, but no "
            f"words of a prompt call for it; to let words choose, add captions to {told} and run this again"
        ) in lines
        assert any(line.startswith("1 recording kept out of training has no caption (t.wav): what") for line in lines)


def test_corpus_message_repeats_before_the_next_step_that_most_of_a_table_is_not_used() -> None:
    few = {"file": "metadata.csv", "note": "line 3 matches no recording here and is not used: 'x.wav'"}
    most = {"file": "metadata.csv", "note": f"lines 2 to 5 ...; that is {MOST_UNMATCHED} (4 of 5 rows)"}
    lines = messages.corpus_message(SUMMARY | {"notes": [few, most]}, Path("corpus"), "/x/takes").splitlines()
    assert [line for line in lines if "metadata.csv" in line] == [f"note: metadata.csv: {most['note']}"]
    assert lines[-3] == f"note: metadata.csv: {most['note']}"


def test_corpus_message_tells_what_is_not_understood_as_a_licence() -> None:
    rights = {"licences": {"CC0": 1, "we paid for it": 2, "自作": 3, "unknown": 4}}
    assert (
        "licences: CC0 (1), we paid for it (not understood, counts as unknown) (2), 自作 (your own recording) (3), "
        "unknown (4)"
    ) in messages.corpus_message(SUMMARY | {"rights": rights}, Path("corpus"), "/x/takes").splitlines()


@pytest.mark.parametrize(
    ("count", "told"), [(1, "only one held-out recording: an interval"), (5, "only 5 held-out recordings: "), (6, "")]
)
def test_corpus_message_of_few_held_out_recordings_says_what_they_allow(count: int, told: str) -> None:
    split = SUMMARY["split"] | {"held_out": {"clips": 8, "recordings": count}}
    lines = messages.corpus_message(SUMMARY | {"split": split}, Path("corpus"), "/x/takes").splitlines()
    notes = [line for line in lines if line.startswith("note: only ")]
    assert [told in note and note.endswith("named by --held-out.") for note in notes] == [True] * bool(told)


def test_evaluation_message_says_what_got_worse(tmp_path: Path) -> None:
    row = {"name": "adherence_tempo", "direction": "higher_is_better", "value": 0.67, "baseline": 1.0}
    row |= {"gain": -0.33, "gain_error": 0.02, "gain_recordings": 9}
    run = make_run(tmp_path / "my run", seconds=0)
    assert "became better or worse was not measured" in messages.evaluation_message(run)
    from talim.atomic_io import read_json, write_json

    warnings = {"warnings": ["few clips"]}  # told while it was evaluated
    write_json(run / "scores.json", read_json(run / "scores.json") | {"scores": [row]} | warnings)
    lines = messages.evaluation_message(run).splitlines()
    assert any("worse than the untrained base: fit to the prompt's tempo." in line for line in lines)
    assert any(line.startswith("fit to the prompt's tempo  67") and line.endswith("worse") for line in lines)
    assert shlex.split(lines[-1].removeprefix("next: ")) == ["talim", "report", str(run)]
    assert not any("few clips" in line for line in lines)


def test_people_message_is_in_the_language_where_the_result_has_it() -> None:
    result = {"sentences": ["Go."], "sentences_translated": {"ja": ["進める（Go）。"]}, "page": "p.html"}
    assert messages.people_message(result) == "Go.\nPage: p.html"
    assert messages.people_message(result, "ja") == "進める（Go）。\nページ（日本語の欄があります）：p.html"


def test_poc_message_ends_with_page_and_music() -> None:
    result = {
        "sentences": ["Cost: little."],
        "next_step": "Next: listen.",
        "stages": [{"title": "Learning (loss)", "passed": True}],
        "make_music": ["talim generate --run r"],
        "time_note": "It took 12 min of the time budget of 8 min, 50 % more than given.",
        "page": "p.html",
    }
    text = messages.poc_message(result)
    assert "Make music now: talim generate --run r" in text
    assert "(gates): Learning (loss): met." in text
    assert "more than given" in text
    assert text.splitlines()[0] == "Cost: little."


def test_poc_message_in_japanese_leaves_nothing_out_and_nothing_in_english() -> None:
    result = {
        "sentences": ["Cost: little."],
        "sentences_translated": {"ja": ["費用：わずか。"]},
        "next_step": "English.",
        "next_steps": [
            {"en": "Next: listen:", "ja": "次は聴く：", "command": "talim listen x"},
            {"ja": "次は弾く。", "command": ""},
        ],
        "tuning": {
            "note": "All trainings had the learning rate 0.001. No other rate was tried: talim poc tries others first "
            "unless it gets --no-tune. Another one may give a lower loss, and another order of the designs."
        },
        "learning_curve": {"sentence": "English.", "sentence_translated": {"ja": "増やすと役立つ。"}},
        "continuations": [{"sentences": ["conv@all:2% needs 5.00 GB of memory; the limit is 4.00 GB."]}],
        "stages": [{"name": name, "title": "English", "passed": name == "cost"} for name in ("cost", "quality")],
        "stopped": "Stopped here.",
        "stopped_translated": {"ja": "ここで止まりました。"},
        "time_note": "It took long.",
        "time_note_translated": {"ja": "全段階の時間：8分。"},
        "make_music": ["talim generate"],
        "page": "p.html",
        "listen": "talim listen",
    }
    assert messages.poc_message(result, "ja").splitlines() == [
        "費用：わずか。",
        "次は聴く： talim listen x",
        "次は弾く。",
        "どの学習も、学習率は0.001です。ほかの学習率は試していません（--no-tune が指定されたため）。"
        "ほかの学習率なら、損失がさらに低くなり、方式の順位も変わるかもしれません。",
        "増やすと役立つ。",
        "conv@all:2%には5.00 GBのメモリーが必要ですが、上限は4.00 GBです。",
        "各段階の前に決めた合格ライン：実現可能性（メモリーと時間）：合格、学習（損失）：不合格。",
        "ここで止まりました。",
        "全段階の時間：8分。",
        "音楽を作るコマンド：talim generate",
        "ページ（日本語の欄があります）：p.html",
        "目隠しの聴取テストのコマンド：talim listen",
    ]
    earlier = messages.poc_message({"sentences": ["Cost: little."], "page": "p.html"}, "ja")  # of an earlier version
    assert earlier.startswith("Cost: little.")


def test_poc_message_in_a_language_without_words_for_stages_has_these_in_english(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(languages.FOLDER / "en", tmp_path / "en")
    (tmp_path / "la").mkdir()
    (tmp_path / "la" / "report.json").write_text('{"message_page": "Pagina: {page}"}')
    monkeypatch.setattr(languages, "FOLDER", tmp_path)
    result = {
        "sentences": ["Cost: little."],
        "sentences_translated": {"la": ["Pretium parvum."]},
        "next_steps": [{"en": "Next:", "command": "talim listen x"}],
        "tuning": {"note": "Chosen.", "families": []},
        "continuations": [{"name": "extend", "passed": None, "sentences": ["Continued."]}],
        "page": "p.html",
    }
    lines = ["Pretium parvum.", "Next: talim listen x", "Chosen.", "Continued.", "Pagina: p.html"]
    assert messages.poc_message(result, "la").splitlines() == lines


def test_report_message_ends_with_what_to_type_next(tmp_path: Path) -> None:
    page = tmp_path / "report" / "index.html"
    for changes, words in (
        ({"cost": None, "scores": None}, ["talim", "train", "--out"]),
        ({"scores": None}, ["talim", "evaluate"]),
        ({}, ["talim", "listen"]),
    ):
        folder = tmp_path / f"my run {words[1]}"
        make_run(folder, seconds=0, **changes)
        lines = messages.report_message(page, folder).splitlines()
        assert lines[0] == str(page)
        command = shlex.split(lines[1].rpartition(": ")[2])
        assert command[: len(words)] == words
        assert str(folder) in command
    assert messages.report_message(page, tmp_path).endswith("next: open this page in a browser")


def test_training_message_names_steps_time_stored_weights_and_the_next_command(tmp_path: Path) -> None:
    cost = {"best_validation_loss": 2.0, "steps": 3, "wall_seconds": 8.0, "best_step": 2, "stored_step": 2}
    usual = messages.training_message(make_run(tmp_path / "run", seconds=0, cost=cost)).splitlines()
    lowest = "lowest prediction error on validation clips (loss) 2.000 nats at step"
    assert usual == [f"3 steps in 8 s; {lowest} 2", f"next: talim evaluate {tmp_path / 'run'}"]
    cost |= {"stopped_early": True, "best_step": 0, "stored_step": 0}
    early = messages.training_message(make_run(tmp_path / "my run", seconds=0, cost=cost)).splitlines()
    assert early[0].startswith("3 steps (stopped early) in 8 s")
    assert early[1].endswith("so the stored adapter is that of step 0: it changes nothing.")
    command = early[-1].removeprefix("next: ")
    config, out = f"'{tmp_path / 'my run' / 'recipe.yaml'}'", f"'{tmp_path / 'my run-2'}'"
    assert command == f"talim train --config {config} --out {out} --set training.learning_rate=0.00033"
    assert "--set training.save_weights=last" in early[-2]
    assert messages.report_message(tmp_path / "p.html", tmp_path / "my run").splitlines()[-1] != early[-1]  # has scores


def test_training_message_of_the_last_weights_does_not_speak_of_the_best(tmp_path: Path) -> None:
    cost = {"best_validation_loss": 2.0, "steps": 3, "wall_seconds": 8.0, "best_step": 0, "stored_step": 3}
    text = messages.training_message(make_run(tmp_path / "run", seconds=0, cost=cost))
    assert "2.000 nats at step 0; stored are the weights of the last step, 3 (training.save_weights=last)" in text
    assert "changes nothing" not in text
    assert "best" not in text


def test_folder_scores_message_ends_with_where_the_page_is() -> None:
    result = {
        "generated": {"files": 2},
        "real": {"files": 3},
        "protocol": {"hash": "abc"},
        "scores": [{"sentence": "noise: 3"}],
        "warnings": ["few"],
    }
    assert messages.folder_scores_message(result).splitlines() == [
        "2 generated files against 3 real ones; scores are comparable only within one protocol, this is abc",
        "noise: 3",
        "note: few",
        "next: the same command with --out scores.json keeps a page",
    ]
    assert messages.folder_scores_message(result, Path("x/s.json")).endswith("page: x/s.html")
