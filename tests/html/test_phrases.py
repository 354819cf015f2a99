"""English sentences in another language by their patterns."""

from __future__ import annotations

from talim.html.phrases import translate


def test_translate_keeps_what_has_no_phrase_and_unknown_braces() -> None:
    assert translate("7 apples", {"{n} pears": "{n} 梨"}) == "7 apples"
    assert translate("7 pears", {"{n} pears": "{n} {kind} 梨"}) == "7 {kind} 梨"
    assert translate("not: 7 pears", {"not: {rest}": "否：{rest}", "{n} pears": "{n} 梨"}) == "否：7 梨"
