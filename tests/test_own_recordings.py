"""Declarations that a recording is the writer's own, in many languages; anything not fully understood is none."""

from __future__ import annotations

import pytest

from talim.own_recordings import declares_own_recording

OWN = (
    "my own recording", "own", "mine", "My own recordings, all rights reserved", "Own work", "self-recorded",
    "I recorded it myself", "recorded by me, 2024", "© my own", "copyright mine", "rights holder: me", "my recording",
    "I hold all rights", "my own recording, free to use", "own recording, no restrictions", "our music",
    "自作（自由に使用可）", "自分の演奏", "自分で録音した", "自作自演の曲です", "私の演奏です",
    "当社制作", "オリジナル曲",
    "kendi kaydım", "Kendi kaydim", "KENDİ KAYDIM", "Kendi eserim, serbestçe kullanılabilir", "benim", "bana ait",
    "eigene Aufnahme", "Selbst aufgenommen", "von mir eingespielt", "mes propres enregistrements", "enregistré par moi",
    "grabación propia", "mi grabación", "gravação própria", "registrazione propria", "मेरी अपनी रिकॉर्डिंग",
    "स्वयं की रिकॉर्डिंग", "собственная запись", "записано мной", "내 녹음", "自己录制", "تسجيلي الخاص", "ＭＹ　ＯＷＮ",
)  # fmt: skip
NOT_OWN = (
    "", "--", "unknown", "recording", "use", "free to use", "录音", "録音", "商用可", "友人の演奏",
    "not my own", "not mine",
    "my own recording of a Beatles song", "own label", "own recording, ask the label", "I own nothing", "no rights",
    "someone else's own", "with permission of the owner", "by the holder", "used with permission by us",
    "all rights held by the studio", "free for us", "commercial use: no", "CC BY 4.0", "public domain", "own, no sale",
    "kendi değil", "nicht meine eigene", "pas la mienne", "my teacher's recording", "自分のではない",
)  # fmt: skip


@pytest.mark.parametrize("text", OWN)
def test_declares_own_recording_understands(text: str) -> None:
    assert declares_own_recording(text)


@pytest.mark.parametrize("text", NOT_OWN)
def test_declares_own_recording_takes_nothing_else(text: str) -> None:
    assert not declares_own_recording(text)
