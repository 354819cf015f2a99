"""Tests of talim.backbones.readable_text, with a tokenizer of T5's kind: what it reads, how, and what is told."""

from __future__ import annotations

import types
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures import t5_tokenizer
from hypothesis import example, given
from hypothesis import strategies as st

from talim.backbones.nano.musicgen import ByteTokenizer
from talim.backbones.readable_text import TextReader, describe, examine, reading_notes
from talim.traditions import instrument_names
from talim.traditions.tradition import load_all_builtin

T5 = TextReader(t5_tokenizer.load())
NANO = TextReader(ByteTokenizer())


def names() -> Iterator[tuple[str, str, str]]:
    """Every name and alias of the facts, as (tradition and kind, entry, spelling)."""
    for tradition in load_all_builtin():
        for kind in ("modes", "cycles", "ornaments"):
            for entry in getattr(tradition, kind):
                for spelling in (entry.name, *entry.aliases):
                    yield f"{tradition.slug} {kind}", entry.name, spelling
    for instrument, aliases in instrument_names.list_instruments():
        for spelling in (instrument, *aliases):
            yield "instruments", instrument, spelling


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slow flute, raga Yaman", []),
        ("café müde țară", []),
        ("静かな朝の音楽", ["静かな朝の音楽"]),
        ("slow राग यमन flute", ["राग", "यमन"]),
        ("rāga Yamān, ney taksimi in Şehnaz", ["rāga", "Yamān,", "Şehnaz"]),
        ("ra\u0304ga", ["ra\u0304ga"]),
        ("тихая музыка", ["тихая", "музыка"]),
        ("{loud} music", ["{loud}"]),
        ("", []),
    ],
)
def test_words_with_unknown_tokens_are_found(text: str, words: list[str]) -> None:
    assert T5.unreadable_words(text) == words


def test_a_miniature_reads_plain_letters_only() -> None:
    assert NANO.unreadable_words("slow 静かな rāga flute") == ["静かな", "rāga"]
    assert NANO.count_tokens("ā!") == (2, 3)


def test_a_tokenizer_of_bytes_reads_everything() -> None:
    from transformers import ByT5Tokenizer

    reader = TextReader(ByT5Tokenizer())
    assert reader.unreadable_words("राग Şehnaz 静か") == []
    assert reader.spell("राग Şehnaz 静か") == "राग Şehnaz 静か"


def test_unknown_tokens_are_counted() -> None:
    ids = T5.token_ids("slow राग यमन")
    assert T5.count_tokens("slow राग यमन") == (2, len(ids))
    assert examine(T5, ["slow राग यमन", "slow राग यमन"]).unknown_share == 2 / len(ids)
    assert examine(T5, ["slow flute"]).unknown_share == 0
    assert examine(T5, []).unknown_share == 0


@pytest.mark.parametrize("reader", [T5, NANO], ids=["t5", "nano"])
def test_every_name_of_the_facts_can_be_read_once_it_is_spelled(reader: TextReader) -> None:
    unread = {spelling for _, _, spelling in names() if reader.unreadable_words(reader.spell(spelling))}
    assert unread == set()
    assert sum(reader.count_tokens(spelling)[0] > 0 for _, _, spelling in names()) > 60  # so it is not by chance


@pytest.mark.parametrize("reader", [T5, NANO], ids=["t5", "nano"])
def test_no_two_entries_of_a_tradition_become_one_prompt(reader: TextReader) -> None:
    entries: dict[tuple[str, str], set[str]] = defaultdict(set)
    for kind, entry, spelling in names():
        entries[kind, reader.spell(spelling).casefold()].add(entry)
    assert {key: found for key, found in entries.items() if len(found) > 1} == {}


def test_captions_that_become_the_same_tokens_are_named() -> None:
    reading = examine(T5, ["raga Śrī, flute", "raga Sri, flute", "raga  Sri, flute", "raga Yaman", "静", "音"])
    assert reading.alike == (("raga Śrī, flute", "raga Sri, flute"), ("静", "音"))
    assert examine(T5, ["raga Śrī", "raga Sri"], transliterate=False).alike == ()
    assert examine(T5, ["rāga Ā", "rāga Ī"], transliterate=False).alike == (("rāga Ā", "rāga Ī"),)
    assert examine(T5, ["rāga Ā", "rāga Ī"]).alike == ()
    told = describe(reading, "musicgen-small", "the captions")
    assert any("cannot tell apart 'raga Śrī, flute' and 'raga Sri, flute'" in line for line in told)


def test_what_is_read_otherwise_and_what_is_not_read_are_told() -> None:
    base: Any = types.SimpleNamespace(name="musicgen-small", reader=T5, transliterate=True)
    assert reading_notes(base, ["slow flute"], "the prompt") == []
    (note,) = reading_notes(base, ["slow राग यमन"], "the prompt", "as typed: --no-transliterate")
    assert note.startswith("note: ")
    assert " % of the tokens of the prompt as written are unknown to musicgen-small" in note
    assert note.endswith("राग -> raga, यमन -> Yaman (as typed: --no-transliterate)")
    (warning,) = reading_notes(base, ["静かな朝"], "the prompt")
    assert warning == (
        "warning: 50 % of the tokens of the prompt as written are unknown to musicgen-small; it cannot read 1 word of "
        "the prompt: 静かな朝. They mean nothing to its text encoder; write English, in the letters a to z"
    )
    (warning,) = reading_notes(base, ["राग 静かな朝"], "the captions")
    assert "it reads a spelling that it knows: राग -> raga; it cannot read 1 word of the captions: 静かな朝." in warning
    base.transliterate = False
    (warning,) = reading_notes(base, ["slow राग यमन"], "the prompt")
    assert "cannot read 2 words of the prompt: राग, यमन" in warning
    (warning,) = reading_notes(base, [" ".join("ăŁāīūŵŷǫọ静")], "the prompt")
    assert "and 3 more" in warning


@pytest.mark.parametrize("reader", [T5, NANO], ids=["t5", "nano"])
@pytest.mark.parametrize(
    ("text", "spelled", "lost"),
    [
        ("静か、穏やか", {}, ("静か", "穏やか")),
        ("「静か」な、朝", {}, ("静か", "な", "朝")),
        ("琴（こと）と三味線 slow", {"琴": "koto"}, ("こと", "と三味線")),
        ("琴、尺八", {"琴、尺八": "koto,shakuhachi"}, ()),
        ("シタールの演奏、Rāga・ヤマン", {"Rāga": "Raga"}, ("シタールの演奏", "ヤマン")),
        ("राग पूरिया, 静か", {"राग": "raga", "पूरिया": "Puriya"}, ("静か",)),
    ],
)
def test_a_word_is_read_in_another_spelling_or_lost_and_never_both(
    reader: TextReader, text: str, spelled: dict[str, str], lost: tuple[str, ...]
) -> None:
    reading = examine(reader, [text])
    assert (reading.spelled, reading.unreadable) == (spelled, lost)
    assert len(describe(reading, "a base", "the captions")) == 1


def test_the_end_of_a_text_that_is_not_read_is_told() -> None:
    reading = examine(NANO, ["slow flute", "a" * 256, "b" * 85_000])
    (line,) = describe(reading, "nano-musicgen", "the captions")
    assert line == (
        "warning: nano-musicgen reads the first 255 tokens of a text, and the captions have up to 85,000: the end of "
        "2 texts is not read; say what matters first"
    )
    assert reading.as_dict()["cut"] == (2, 85_000, 255)
    assert examine(NANO, ["a" * 255]).cut[0] == 0
    assert examine(T5, ["flute " * 900]).cut[0] == 0  # MusicGen reads all of it
    assert examine(TextReader(t5_tokenizer.load(), max_tokens=512), ["flute " * 900]).cut[0] == 1


def test_a_reading_is_kept_as_plain_values() -> None:
    kept = examine(T5, ["राग पूरिया धनाश्री, 静"]).as_dict()
    assert kept["spelled"] == {"राग": "raga", "पूरिया": "Puriya", "धनाश्री": "Dhanashri"}
    assert kept["unreadable"] == ("静",)
    assert 0 < kept["unknown_share"] < 1
    assert examine(T5, ["slow flute"]).as_dict() == {}


@given(st.text(max_size=30))
@example("\x80¸\x00Ç")  # a cedilla by itself is no blank
def test_ascii_and_what_can_be_read_stay_and_twice_is_once(text: str) -> None:
    spelled = T5.spell(text)
    assert T5.spell(spelled) == spelled
    assert spelled == text or not text.isascii()
    if not T5.unreadable_words(text):
        assert spelled == text
    assert T5.count_tokens(spelled)[0] <= T5.count_tokens(text)[0] or not text.isascii()
