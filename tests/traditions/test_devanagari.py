"""Tests of talim.traditions.devanagari: names as the facts spell them, words as Hindi is spoken."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.traditions.devanagari import romanize_devanagari, romanize_word

# Names as they are printed in Devanagari, with the facts' spelling: of the entry, or of an alias that is nearer.
RAGAS = """
यमन Yaman, यमन कल्याण Yaman Kalyan, भूपाली Bhoopali, शुद्ध कल्याण Shuddha Kalyan, केदार Kedar, हमीर Hameer, कामोद Kamod,
छायानट Chhayanat, गौड़ सारंग Gaud Sarang, हिंडोल Hindol, मारू बिहाग Maru Bihag, नंद Nand, शुद्ध सारंग Shuddh Sarang,
बिलावल Bilawal, अल्हैया बिलावल Alhaiya Bilawal, बिहाग Bihag, देशकार Deshkar, दुर्गा Durga, हंसध्वनि Hamsadhwani, मांड Mand,
पहाड़ी Pahadi, शंकरा Shankara, खमाज Khamaj, देस Des, तिलक कामोद Tilak Kamod, रागेश्री Rageshri, जोग Jog, कलावती Kalavati,
झिंझोटी Jhinjhoti, तिलंग Tilang, गोरख कल्याण Gorakh Kalyan, जयजयवंती Jaijaivanti, गौड़ मल्हार Gaud Malhar, भैरव Bhairav,
अहीर भैरव Ahir Bhairav, नट भैरव Nat Bhairav, बैरागी Bairagi, जोगिया Jogia, गुणकली Gunkali, रामकली Ramkali,
कालिंगड़ा Kalingada, बिभास Bibhas, गौरी Gauri, काफ़ी Kafi, काफी Kafi, भीमपलासी Bhimpalasi, बागेश्री Bageshri,
बृंदावनी सारंग Brindavani Sarang, वृंदावनी सारंग Vrindavani Sarang, मियाँ की मल्हार Miyan ki Malhar, मेघ Megh,
रामदासी मल्हार Ramdasi Malhar, सूर मल्हार Sur Malhar, बहार Bahar, आभोगी Abhogi, पटदीप Patdeep, पीलू Pilu, धानी Dhani,
सूहा Suha, नायकी कानड़ा Nayaki Kanada, नायकी कान्हड़ा Nayaki Kanhada, शहाना Shahana, कौशी कानड़ा Kaushi Kanada,
मधुकौंस Madhukauns, शिवरंजनी Shivaranjani, सिंधूरा Sindhura, बरवा Barwa, आसावरी Asavari,
कोमल ऋषभ आसावरी Komal Rishabh Asavari, जौनपुरी Jaunpuri, दरबारी कानड़ा Darbari Kanada, दरबारी Darbari, अडाना Adana,
देसी Desi, खट Khat, भैरवी Bhairavi, मालकौंस Malkauns, बिलासखानी तोड़ी Bilaskhani Todi, भूपाल तोड़ी Bhupal Todi,
चंद्रकौंस Chandrakauns, चन्द्रकौंस Chandrakauns, तोड़ी Todi, गुजरी तोड़ी Gujari Todi, मुल्तानी Multani, मधुवंती Madhuvanti,
मारवा Marwa, पूरिया Puriya, सोहिनी Sohini, सोहनी Sohni, पूरिया कल्याण Puriya Kalyan, भटियार Bhatiyar, ललित Lalit,
पूर्वी Purvi, पूरिया धनाश्री Puriya Dhanashri, श्री Shree, बसंत Basant, परज Paraj, त्रिवेणी Triveni, सरस्वती Saraswati,
किरवानी Kirwani, कीरवाणी Kirwani, चारुकेशी Charukeshi, हेमंत Hemant, कौशिक ध्वनि Kaushik Dhwani,
जनसम्मोहिनी Janasammohini, कल्याण Kalyan
"""
OTHERS = """
तीनताल Teentaal, एकताल Ektaal, झपताल Jhaptaal, रूपक Rupak, दादरा Dadra, तिलवाड़ा Tilwada, झूमरा Jhoomra,
दीपचंदी Deepchandi, मींड Meend, गमक Gamak, मुर्की Murki, खटका Khatka, राग raga, ताल tala, सितार sitar, सरोद sarod,
बाँसुरी bansuri, तबला tabla, तानपूरा tanpura, सारंगी sarangi, संतूर santoor
"""
# Words of no name, in the usual romanisation of Hindi without marks.
WORDS = """
मल्हार malhar, दरबारी darbari, सरस्वती sarasvati, चंद्र chandra, कृष्ण krishna, धर्म dharm, प्रिय priya, राष्ट्रीय rashtriya,
ध्रुपद dhrupad, ठुमरी thumri, विलंबित vilambit, द्रुत drut, ज्ञान gyan, ख़याल khayal, ग़ज़ल ghazal, दुःख duhkh, संगीत sangit,
अंबिका ambika, न na, हृदय hriday, लड़का ladka, ऑर्केस्ट्रा orkestra, क्षेत्र kshetra, हिंदुस्तानी hindustani, धीमी dhimi,
बजाना bajana, कमल kamal, सुबह subah, मध्य madhya, लय lay, मुंबई mumbai, कश्मीर kashmir, अच्छा achchha, ॐ om
"""


def pairs(table: str) -> list[tuple[str, str]]:
    """Each entry of a table as (Devanagari, Latin)."""
    entries = [entry.split() for entry in table.replace("\n", " ").split(",")]
    return [
        (" ".join(word for word in entry if not word.isascii()), " ".join(word for word in entry if word.isascii()))
        for entry in entries
    ]


@pytest.mark.parametrize(("written", "name"), pairs(RAGAS) + pairs(OTHERS))
def test_names_come_out_as_the_facts_spell_them(written: str, name: str) -> None:
    assert romanize_devanagari(written) == name
    assert romanize_devanagari(unicodedata.normalize("NFD", written)) == name


@pytest.mark.parametrize(("written", "spoken"), pairs(WORDS))
def test_words_are_written_as_they_are_spoken(written: str, spoken: str) -> None:
    assert romanize_word(written) == spoken


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("राग यमन, विलंबित (slow) १२ मात्रा।", "raga Yaman, vilambit (slow) 12 matra."),
        ("राग-यमन/भैरवी", "raga-Yaman/Bhairavi"),
        ("राग यमन कल्याण और भैरवी", "raga Yaman Kalyan aur Bhairavi"),
        ("पूरिया\u00a0धनाश्री", "Puriya Dhanashri"),
        ("slow flute, rāga Şehnaz 静か", "slow flute, rāga Şehnaz 静か"),
        ("क्\u200dया", "kya"),
        ("", ""),
    ],
)
def test_only_devanagari_is_romanised(written: str, expected: str) -> None:
    assert romanize_devanagari(written) == expected


@given(st.text(st.characters(min_codepoint=0x900, max_codepoint=0x97F), max_size=12))
def test_any_devanagari_gives_letters_in_bounded_time(text: str) -> None:
    romanized = romanize_devanagari(text)
    kept = {letter for letter in romanized if not letter.isascii()}
    assert not kept & set("अआइईउऊएऐओऔकखगघङचछजझञटठडढणतथदधनपफबभमयरलवशषसह")
    assert romanize_devanagari(romanized) == romanized


@pytest.mark.parametrize(
    "letter", [chr(code) for code in range(0x904, 0x980) if unicodedata.category(chr(code)) == "Lo"]
)
def test_no_letter_vanishes(letter: str) -> None:
    assert romanize_word(letter) or letter == "ऽ"
