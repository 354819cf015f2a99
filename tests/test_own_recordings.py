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
    "スタジオ所有", "弊社所有", "当社所有", "自社所有", "当社所有（演奏料支払済み）", "弊社スタジオ所有です",
    "権利は弊社に帰属", "当スタジオが所有しています",
    "owned by our studio", "studio-owned", "property of the studio", "Property of our company, all rights reserved",
    "owned by our studio (session fee paid)", "© our studio, 2024", "company-owned, musicians paid",
    "Eigentum unseres Studios", "Eigentum der Firma (Gagen bezahlt)", "gehört unserem Tonstudio", "Studioeigentum",
    "propriété du studio", "propriété de notre société (cachets payés)", "appartient à notre studio",
    "propiedad del estudio", "propiedad de nuestra empresa (honorarios pagados)",
    "stüdyomuza ait", "Şirketimize aittir (icra ücreti ödendi)", "stüdyo malı",
)  # fmt: skip
NOT_OWN = (
    "", "--", "unknown", "recording", "use", "free to use", "录音", "録音", "商用可", "友人の演奏",
    "not my own", "not mine",
    "my own recording of a Beatles song", "own label", "own recording, ask the label", "I own nothing", "no rights",
    "someone else's own", "with permission of the owner", "by the holder", "used with permission by us",
    "all rights held by the studio", "free for us", "commercial use: no", "CC BY 4.0", "public domain", "own, no sale",
    "kendi değil", "nicht meine eigene", "pas la mienne", "my teacher's recording", "自分のではない",
    "owned by another studio", "他社所有", "owned by our studio, licensed from X", "他スタジオ所有", "別のスタジオ所有",
    "Aスタジオ所有", "弊社所有ではない", "弊社使用可", "自社スタジオで録音", "演奏料支払済み",
    "当社所有（演奏料未払い）",
    "not owned by our studio", "property of the studio A", "property of the studio 54", "property of the studio owner",
    "owned by our studio's client", "owned by the record company", "owned by our label", "session fee paid",
    "studio-owned (session fee not paid)", "own recording, fee for commercial use",
    "recorded in our studio for a client",
    "Eigentum eines anderen Studios", "nicht Eigentum des Studios", "propriété d'un autre studio",
    "propriété du studio Davout", "propiedad de otro estudio", "başka bir stüdyoya ait", "stüdyomuza ait değil",
)  # fmt: skip


@pytest.mark.parametrize("text", OWN)
def test_declares_own_recording_understands(text: str) -> None:
    assert declares_own_recording(text)


@pytest.mark.parametrize("text", NOT_OWN)
def test_declares_own_recording_takes_nothing_else(text: str) -> None:
    assert not declares_own_recording(text)
