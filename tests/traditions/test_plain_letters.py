"""Tests of talim.traditions.plain_letters: only what cannot be read changes, by fixed rules."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.traditions.plain_letters import plain_letter, spell_plainly, spelled_stretches

KNOWN = set("éèêëàâçîïôûùüöäßășț")  # of T5's four languages


def ascii_only(word: str) -> bool:
    return word.isascii()


def like_t5(word: str) -> bool:
    return all(letter.isascii() or letter in KNOWN for letter in unicodedata.normalize("NFC", word))


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("rāga Yamān", "raga Yaman"),
        ("ra\u0304ga", "raga"),
        ("Şehnâz, Uşşak ve Hüzzâm", "Sehnaz, Ussak ve Huzzam"),
        ("Kürdîlihicazkâr’da", "Kurdilihicazkar'da"),
        ("Işıklı Ağır İlahi", "Isikli Agir Ilahi"),
        ("maqām al-ʿIrāq, Ḥijāz, Ṣabā, Nahāwand", "maqam al-Iraq, Hijaz, Saba, Nahawand"),
        ("Kṛṣṇa, kr̥ti, Toṛī, Gaṛh", "Krisna, kriti, Tori, Garh"),
        ("Straße Ærø Łódź Þórr Đà Nẵng", "Strasse Aero Lodz Thorr Da Nang"),
        ("Bayatı-Şiraz, Şur, Çahargah, Segah, Rast, ‘Əfşarı’", "Bayati-Siraz, Sur, Cahargah, Segah, Rast, 'Efsari'"),
        ("“quoted” – dash — F♯ minor, B♭ major…", '"quoted" - dash - F# minor, Bb major...'),
        ("zero\u200bwidth\u200d", "zerowidth"),
        ("राग यमन, rāga Yaman", "raga Yaman, raga Yaman"),
        ("静かな朝 музыка موسيقى ελλάδα 한국 🎵", "静かな朝 музыка موسيقى ελλάδα 한국 🎵"),
        ("fünf静", "funf静"),
        ("尺八、琴 (三味線) 琴線", "shakuhachi,koto (shamisen) 琴線"),
        ("plain {loud} ~text~ \\ ", "plain {loud} ~text~ \\ "),
        ("  two  spaces\tāa\n", "  two  spaces\taa\n"),
        ("", ""),
    ],
)
def test_words_are_spelled_in_ascii(written: str, spelled: str) -> None:
    assert spell_plainly(written, ascii_only) == spelled


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("café müde țară", "café müde țară"),
        ("cafe\u0301 de la musique", "cafe\u0301 de la musique"),
        ("Şehnâz", "Sehnâz"),  # the circumflex is known, the cedilla is not
        ("Hüseynî rāga café", "Hüseynî raga café"),
        ("coșmar Ştefan", "coșmar Stefan"),
    ],
)
def test_what_the_reader_knows_stays(written: str, spelled: str) -> None:
    assert spell_plainly(written, like_t5) == spelled


def test_all_marks_go_where_a_word_is_read_only_without_them() -> None:
    # each letter alone is known, but not in this word
    def odd(word: str) -> bool:
        return word.isascii() or len(word) == 1

    assert spell_plainly("müde", odd) == "mude"


def test_stretches_join_to_the_text_and_hold_names_together() -> None:
    text = "slow पूरिया धनाश्री in  rāga"
    stretches = list(spelled_stretches(text, ascii_only))
    assert "".join(stretch.written for stretch in stretches) == text
    changed = [stretch for stretch in stretches if stretch.written != stretch.spelled]
    assert changed == [("पूरिया धनाश्री", "Puriya Dhanashri"), ("rāga", "raga")]


TEXTS = st.text(
    st.one_of(
        st.characters(max_codepoint=0x24F, exclude_categories=["Cs"]),
        st.characters(min_codepoint=0x300, max_codepoint=0x36F),
        st.characters(min_codepoint=0x900, max_codepoint=0x97F),
        st.characters(min_codepoint=0x1E00, max_codepoint=0x206F),
        st.sampled_from("静音музκα موس🎵 \t"),
    ),
    max_size=24,
)


@given(TEXTS)
def test_spelling_twice_is_spelling_once(text: str) -> None:
    for reader in (ascii_only, like_t5):
        once = spell_plainly(text, reader)
        assert spell_plainly(once, reader) == once


@given(TEXTS)
def test_readable_words_never_change(text: str) -> None:
    for reader in (ascii_only, like_t5):
        kept = [word for word in text.split() if word.isascii() or reader(word)]
        spelled = spell_plainly(text, reader).split()
        assert [word for word in spelled if word in kept][: len(kept)] or not kept
        assert all(word in spelled for word in kept)


@given(st.text(st.characters(max_codepoint=0x7E, min_codepoint=9)))
def test_ascii_never_changes(text: str) -> None:
    assert spell_plainly(text, lambda word: False) == text


@given(st.characters(exclude_categories=["Cs"]))
def test_a_letter_becomes_ascii_or_stays(letter: str) -> None:
    plain = plain_letter(letter)
    assert plain == letter or plain.isascii()
