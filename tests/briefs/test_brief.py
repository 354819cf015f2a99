"""A brief: what it may say, what is refused with a line that helps, and the words it asks a model for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.brief_folder import brief_of

from talim.briefs import brief as briefs_brief
from talim.errors import TalimError, UsageError
from talim.strict_yaml import dump


def write(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump({"name": "jingle", "seconds": 10} | values), encoding="utf-8")
    return path


def test_prompt_text_of_labels_has_their_caption(tmp_path: Path) -> None:
    brief = briefs_brief.load(
        write(
            tmp_path / "b.yaml",
            tradition="hindustani",
            mode="Yaman",
            cycle="teental",
            tempo_bpm=90,
            instruments=["sitar", "tabla"],
            mood="calm",
        )
    )
    for word in ("Yaman", "Teentaal", "90 beats per minute", "sitar and tabla", "calm"):
        assert word in brief.prompt_text
    assert brief.prompt_text == briefs_brief.load(write(tmp_path / "c.yaml", **_said(brief))).prompt_text


def _said(brief: briefs_brief.Brief) -> dict[str, Any]:
    return yaml.safe_load(dump(brief))


def test_prompt_text_prompt_takes_precedence_over_labels() -> None:
    assert brief_of(tradition="makam", mode="Hicaz", prompt="a ney alone").prompt_text == "a ney alone"
    assert brief_of(prompt=" ").prompt_text == ""  # of an adapter that was trained without captions


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "x", "lengthh": 3}, "unknown key lengthh"),
        ({"tradition": "hindustani", "raga": "Yaman"}, "unknown key raga: did you mean mode?"),
        ({"tradition": "makam", "Usul": "Aksak"}, "unknown key Usul: did you mean cycle?"),
        ({"prompt": "x", "prices": {"machin_hour": 1}}, "did you mean machine_hour?"),
        ({"prompt": "x", "indicators": [{"name": "a", "beter": "higher", "better": "higher"}]}, "did you mean better?"),
        ({}, "the music is not described"),
        ({"mode": "Yaman"}, "need a tradition"),
        ({"tradition": "hindustani", "mode": "Yamanistan"}, "Yaman"),
        ({"instruments": ["sitra"]}, "no instrument is called 'sitra': did you mean sitar"),
        ({"tradition": "atlantis"}, "no tradition"),
        ({"prompt": "x", "seconds": 0}, "seconds is 0"),
        ({"prompt": "x", "seconds": float("nan")}, "seconds"),
        ({"prompt": "x", "decision_rule": {"cheaper_than_status_quo": True}}, "needs status_quo.cost_per_piece"),
        ({"prompt": "x", "decision_rule": {"cost_per_minute_at_most": 3}}, "needs prices.machine_hour"),
        ({"prompt": "x", "decision_rule": {"indicators_better": ["a"]}}, "names a, which is not an indicator"),
        ({"prompt": "x", "indicators": [{"name": "a", "better": x} for x in ("lower", "higher")]}, "duplicate names"),
        ({"prompt": "x", "reasons": ["too_sad"]}, "give reason_words.too_sad.en"),
        ({"prompt": "x", "accepted_by": "chance"}, "accepted_by"),
    ],
    ids=str,
)
def test_load_invalid_brief_raises_one_line_usage_error(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as result:
        briefs_brief.load(write(tmp_path / "b.yaml", **values))
    assert message in str(result.value)
    assert "b.yaml" in str(result.value)
    assert "\n" not in str(result.value)


@pytest.mark.parametrize("text", ["", "- a list", "{", "just words", "\x00"])
def test_load_not_a_brief_raises_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"b\.yaml"):
        briefs_brief.load(tmp_path / "b.yaml")


def test_briefs_of_the_guide_load(tmp_path: Path) -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "briefs.md"
    blocks = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    loaded = []
    for number, text in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        loaded.append(briefs_brief.load(path))
    assert [brief.phrase is not None for brief in loaded] == [False, True]
    assert loaded[1].phrase_path == tmp_path / "our-theme.wav"


def test_load_missing_file_names_the_guide(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match=r"docs/guides/briefs\.md"):
        briefs_brief.load(tmp_path / "b.yaml")


def test_brief_hash_depends_on_rule_and_candidates() -> None:
    first = briefs_brief.brief_hash(brief_of(), {"a": "1"})
    assert first == briefs_brief.brief_hash(brief_of(), {"a": "1"})
    assert first != briefs_brief.brief_hash(brief_of(), {"a": "2"})
    assert first != briefs_brief.brief_hash(brief_of(decision_rule={"acceptance_at_least": 0.5}), {"a": "1"})


def test_title_of_one_text_is_the_title_in_every_language(tmp_path: Path) -> None:
    brief = briefs_brief.load(write(tmp_path / "b.yaml", prompt="a flute", title="ジングル"))
    assert brief.title == {"en": "ジングル", "ja": "ジングル"}
    assert briefs_brief.load(write(tmp_path / "c.yaml", **_said(brief))).title == brief.title
