"""The Japanese block of a corpus page: what was read, split, left out, what is missing of rights, and what to do."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fixtures.importer_sources import own_folder
from fixtures.japanese_block import foreign_words, untranslated
from fixtures.page_ids import repeated_ids
from fixtures.prepared_corpus import make

from talim import licences
from talim.audio import decode
from talim.corpus import recordings, report, segment
from talim.corpus.importers import folder, huggingface, mirdata, otmm, protocol
from talim.corpus.manifest import Corpus
from talim.corpus.recordings import GENERATED_COLUMN
from talim.corpus.split import SPLIT_STRATEGIES
from talim.corpus.translated_report import translated_reason, translated_report
from talim.html.languages import words
from talim.html.render import TEMPLATES, heads_in, render

NAMES = ["licence", "consent", "performer", "metadata.csv", "split", "text"]
NAMES += ["CC0", "talim prepare", "talim train", "talim poc", "LUFS", "none", "unknown", "not known", "--prompt"]
SKIPPED = (
    {"file": "a.wav", "reason": "the same sound as b.wav", "copy_of": "b.wav"},
    {"file": "c.wav", "reason": "AI-generated, by them", GENERATED_COLUMN: "them"},
    {"file": "d.wav", "reason": "its licence (CC BY-NC 4.0) forbids commercial use"},
    {"file": "e.wav", "reason": "not audio: the file has no sound track"},
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    place = tmp_path_factory.mktemp("page")
    recordings = place / "recordings"
    recordings.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "MAX_AUDIO_PLAYERS", 1)
        return make(own_folder(recordings), place / "corpus")


def page_of(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    """The page with these facts instead of the corpus's own."""
    monkeypatch.setattr(report, "MAX_AUDIO_PLAYERS", 0)
    changed = replace(corpus, summary={**corpus.summary, **changes})
    return render("corpus.html", stamp="", **report.template_values(changed))


def told(corpus: Corpus, **changes: Any) -> dict[str, list[str]]:
    facts = {**corpus.summary, **changes}
    found = translated_report("ja", facts, report.problem_counts(facts, facts["source_levels"]))
    return {row["title"]: [*row["sentences"], *row["steps"]] for row in found["sections"]}


def test_translated_report_of_a_full_corpus_leaves_no_english(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    rights = {
        "licences": {"CC0": 1, "CC BY-NC 4.0": 1, "unknown": 1},
        "consent": {"no": 1, "unknown": 2},
        "sources": {},
    }
    pairs = [{"first": f"a{n}.wav", "second": f"b{n}.wav", "seconds": 4.0, "offset_seconds": 1.0} for n in range(10)]
    changes = {"skipped": [*SKIPPED], "near_duplicates": pairs, "rights": rights, "silence_skipped_seconds": 75.0}
    changes |= {"notes": [{"file": "unknown names", "note": "raga x"}], "ai_generated": {"left_out": 1, "used": ["a"]}}
    changes["ai_generated"]["held_out"] = 0
    split = {"relaxed": ["not by performer: x"], "gap": {"clips": 2, "recordings": 1, "seconds": 9.0}}
    page = page_of(corpus, monkeypatch, **changes, split=corpus.summary["split"] | split)
    names = [
        *NAMES,
        corpus.summary["missing_captions"]["file"],
        "CC BY-NC 4.0",
        "them",
        "b.wav",
        *(row["file"] for row in SKIPPED),
        *(pair[side] for pair in pairs for side in ("first", "second")),
    ]
    assert untranslated(page, names) == []
    assert repeated_ids(page) == []
    for text in (
        "読み込めなかったファイルや除いたファイルは4個です。",
        "ほかのファイルと同じ音のもの：1個。",
        "そのほかの理由によるもの：1個。",
        "d.wav：ライセンス（CC BY-NC 4.0）が商用利用を禁じている",
        "無音の部分75秒も除きました。",
        "ライセンス「CC BY-NC 4.0」：1本。",
        "演奏者の同意の記録がないもの：2本。",
        "演奏者が同意を断ったもの：1本。",
        "同じ音を含むファイルが10組あります。",
        "ほか2組",
        "より厳しい分け方は、これらの録音ではできませんでした。",
    ):
        assert text in page, text


def test_translated_report_says_what_is_missing_and_what_to_do(corpus: Corpus) -> None:
    lines = told(corpus)
    assert lines["読み込んだ音楽"][0].startswith("3本の録音から、合計")
    assert "演奏者の同意の記録がないもの：3本。" in lines["権利"]
    assert "演奏者の名前がないもの：2本。" in lines["権利"]
    assert "録音の表（metadata.csv）の列 licence、consent、performer を埋める。" in lines["次にすること"]
    assert lines["次にすること"][-2].startswith("直したら、同じ talim prepare をもう一度実行する。")
    assert lines["同じ音を含むファイル"] == ["残したファイルの間に、同じ音はありません。"]


def test_translated_report_explains_the_tables_that_the_page_has(corpus: Corpus) -> None:
    unlabelled = {name: {"unknown": 9.0} for name in corpus.summary["labels"]}
    texts = words("ja", "corpus")["reading"]
    found = told(corpus, captions={"none": 3}, labels=unlabelled)["下の英語の表の見方"]
    assert found == [texts[name] for name in ("no_labels", "no_captions", "loudness", "random")]
    labelled = unlabelled | {"mode": {"Yaman": 9.0}}
    found = told(corpus, captions={"none": 1, "metadata": 2}, labels=labelled)["下の英語の表の見方"]
    assert found == [texts[name] for name in ("labels", "captions", "no_captions", "loudness", "random")]


def test_translated_report_of_a_complete_corpus_only_goes_on_to_training(corpus: Corpus) -> None:
    rights = {"licences": {"CC0": 20}, "consent": {"signed form": 20}, "sources": {}}
    split = corpus.summary["split"] | {"held_out": {"clips": 9, "recordings": 6, "seconds": 99.0}}
    changes = {"rights": rights, "split": split, "seconds": 4000.0, "recordings_without_performer": 0}
    lines = told(corpus, **changes, missing_captions=None, notes=[], skipped=[], silence_skipped_seconds=0.0)
    assert lines["次にすること"] == ["学習に進む：talim train、または概念実証：talim poc。"]
    assert lines["除いたもの"] == ["除いたファイルはありません。"]
    assert "演奏者の同意は、すべての録音について記録があります。" in lines["権利"]


@pytest.mark.parametrize("strategy", [*SPLIT_STRATEGIES, "metadata"])
def test_translated_report_says_what_every_split_means(corpus: Corpus, strategy: str) -> None:
    for validation, held_out in (("parts", 1), ("none", 2), ("recordings", 3)):
        sides = {"held_out": {"clips": 9, "recordings": held_out, "seconds": 9.0}, "random_split_leakage": None}
        sides["leakage"] = {"any": 0.5 if held_out > 1 else None}
        split = corpus.summary["split"] | sides | {"strategy": strategy, "validation_from": validation}
        lines = told(corpus, split=split)
        assert len(lines["学習用とテスト用の分け方"]) == 6 - (validation == "recordings")
        text = " ".join(line for each in lines.values() for line in each)
        names = [corpus.summary["missing_captions"]["file"], *(row["file"] for row in corpus.summary["skipped"])]
        assert foreign_words(text, [*NAMES, *names]) == []


def sentences_of(path: Path) -> list[str]:
    """The reasons for leaving a file out that a module writes, with a number for each part that is filled in.

    They are arguments of AudioError and `incomplete`, values of "reason", and what functions return that say why.
    """
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "AudioError",
            "notes.incomplete",
            "self.incomplete",
        ):
            found += node.args
        elif isinstance(node, ast.Dict):
            keys = [getattr(key, "value", None) for key in node.keys]
            found += [value for key, value in zip(keys, node.values, strict=True) if key == "reason"]
        elif isinstance(node, ast.FunctionDef) and re.search(
            "_truncation$|_why_unread|use_objection|_problem$", node.name
        ):
            found += [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("reason", "_STAND_INS"):
            found.append(node.value)
    texts = []
    for node in [inner for each in found for inner in _outermost_texts(each)]:
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in parts)
        texts.append(re.sub(r"^7: (?!nothing)", "", text))  # the file's name
    return [text for text in texts if re.search("[a-z]{3},? [a-z]", text)]


def _outermost_texts(node: ast.AST) -> list[ast.Constant | ast.JoinedStr]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return [node]
    return [found for inner in ast.iter_child_nodes(node) for found in _outermost_texts(inner)]


@pytest.mark.parametrize(
    ("module", "least"),
    [
        (decode, 12), (segment, 5), (recordings, 1), (folder, 10), (licences, 2), (mirdata, 3), (otmm, 2),
        (protocol, 1), (huggingface, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_every_reason_for_leaving_a_file_out_is_translated(module: ModuleType, least: int) -> None:
    reasons = sentences_of(Path(str(module.__file__)))
    assert len(reasons) >= least
    kept = ["DRM", "WAV", "FLAC", "Ogg", "ID3", "iCloud", "Windows", "MusicBrainz", "ID", "dBFS", "Hz", "talim prepare"]
    assert {text for text in reasons if foreign_words(translated_reason(text, "ja"), kept)} == set()


def test_translated_reason_translates_the_parts_and_keeps_what_nobody_foresaw() -> None:
    broken = (
        "almost silent: no stretch of 1 s is above the silence threshold; incomplete: after 2.0 seconds its last frame"
    )
    assert translated_reason(f"{broken} breaks off, so the end is missing", "ja") == (
        "ほとんど無音（無音とみなす大きさを 1 秒続けて超えるところがない）。"
        "不完全なファイル：2.0 秒の後、最後のフレームが途中で切れていて、終わりがない"
    )
    assert translated_reason("cannot be read: Permission denied", "ja") == "読めない：読み取りの許可がない"
    assert translated_reason("a new kind of fault", "ja") == "a new kind of fault"


def test_template_of_a_corpus_has_no_word_of_its_own_in_the_translation() -> None:
    text = (TEMPLATES / "corpus.html").read_text("utf-8")
    (body,) = re.findall(r"{% macro in_short\(told\) %}(.*?){% endmacro %}", text, re.DOTALL)
    assert re.findall("[A-Za-z]+", re.sub(r"<[^>]*>", " ", re.sub(r"{{.*?}}|{%.*?%}", "", body))) == []


def test_page_of_a_corpus_has_all_translated_heads(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    known = words("ja", "heads")["corpus"]
    assert heads_in(page_of(corpus, monkeypatch), "ja", "corpus") == known
