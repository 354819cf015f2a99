"""Encodings of tables and texts: read where a single reading makes sense, refused otherwise."""

from __future__ import annotations

import pytest

from talim.corpus.text_encoding import decode_text


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig"])
def test_decode_text_of_utf8_needs_no_word(codec: str) -> None:
    decoded = decode_text("静か, ağır, खयाल".encode(codec))
    assert (decoded.text, decoded.note) == ("静か, ağır, खयाल", "")


@pytest.mark.parametrize(
    ("text", "codec", "named"),
    [
        ("file_name,text\na.wav,ağır\n", "utf-16", "UTF-16"),
        ("file_name,text\na.wav,静かな朝\n", "utf-16-le", "UTF-16"),
        ("file_name,text\na.wav,静かな朝\n", "utf-16-be", "UTF-16"),
        ("file_name,text\na.wav,静か\n", "utf-32", "UTF-32"),
        ("file_name,text\na.wav,静かな朝の音楽\n", "cp932", "Shift_JIS"),
        ("録音\u3000一.wav,尺八\n", "cp932", "Shift_JIS"),
        ('file_name,text\nx.wav,"şarkı, hüseyni makamı"\n', "cp1254", "Windows Turkish"),
        ("file_name,text\na.wav,ağır\n", "cp1254", "Windows Turkish"),
        ("file_name,text\na.wav,ÇİFTETELLİ çargâh\n", "cp1254", "Windows Turkish"),
        ("file_name,text\na.wav,mélodie à la flûte, très lente\n", "cp1252", "Windows Western European"),
        ("file_name,text\na.wav,Bär mit Flöte\n", "cp1252", "Windows Western European"),
        ("file_name,text\na.wav,canción del niño pequeño, rápida\n", "cp1252", "Windows Western European"),
        ("file_name,text\na.wav,a “slow” alap – with tanpura\n", "cp1252", "Windows Western European"),
        ("file_name,licence\na.wav,© Meera\n", "cp1252", "Windows Western European"),
        ("file_name,text\na.wav,Dvořák, smyčce\n", "cp1250", "Windows Central European"),
        ("file_name,text\na.wav,żółta łąka\n", "cp1250", "Windows Central European"),
        ("file_name,text\na.wav,тихая музыка утром\n", "cp1251", "Windows Cyrillic"),
        ("file_name,text\na.wav,ήσυχη μουσική\n", "cp1253", "Windows Greek"),
        ("file_name,text\na.wav,café\n", "mac_roman", "Mac Roman"),
    ],
)
def test_decode_text_reads_what_is_certain_and_says_which(text: str, codec: str, named: str) -> None:
    decoded = decode_text(text.encode(codec))
    assert decoded.text == text
    assert decoded.note.startswith(f"read as {named}")


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("file_name,text\na.wav,古琴 流水\n", "gbk"),
        ("file_name,text\na.wav,조용한 음악\n", "euc-kr"),
        ("file_name,text\na.wav,هادئ جدا\n", "cp1256"),
        ("file_name,text\na.wav,静かな朝\n", "euc-jp"),
        ("file_name,text\na.wav,тихая музыка\n", "koi8-r"),
        ("file_name,text\na.wav,琴\n", "cp932"),  # a single character may be anything
        ("file_name,text\na.wav,Molière\n", "cp1252"),  # or Moličre
    ],
)
def test_decode_text_refuses_what_is_not_certain(text: str, codec: str) -> None:
    with pytest.raises(ValueError, match=r"is not UTF-8 text, and .*save it again as UTF-8"):
        decode_text(text.encode(codec))


def test_decode_text_names_both_readings_where_two_make_sense() -> None:
    with pytest.raises(ValueError, match=r"'Molière', or Windows Central European .*'Moličre'"):
        decode_text("Molière".encode("cp1252"))


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0",
        b"file_name,text\na.wav,one\0two\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\xff\xfe\x00\xd8",
        b"PK\x03\x04\0\0",
    ],
)
def test_decode_text_of_other_files_raises(data: bytes) -> None:
    with pytest.raises(ValueError, match="save it again as UTF-8"):
        decode_text(data)
