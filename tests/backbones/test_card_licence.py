"""Licences in model cards: the Hub's identifiers, "other" with a name, and headers that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.backbones.card_licence import licence_of_card
from talim.licences import allows_commercial_use

CARDS = {
    "---\nlicense: cc-by-nc-4.0\n---\n": ("cc-by-nc-4.0", "forbidden"),
    "---\r\nlicense: apache-2.0\r\n---\r\n": ("apache-2.0", "allowed"),
    "\ufeff---\ntags: [x]\nlicense: mit\n---\nlicense: no\n": ("mit", "allowed"),
    "---\nlicence: 'CC BY 4.0'\n---\n": ("CC BY 4.0", "allowed"),
    "---\nlicense: [mit, cc-by-nc-4.0]\n---\n": ("mit and cc-by-nc-4.0", "forbidden"),
    "---\nlicense:\n- mit\n---\n": ("mit", "allowed"),
    "---\nlicense: other\nlicense_name: stable-audio-community\n---\n": ("stable-audio-community", "unknown"),
    "---\nlicense: other\n---\n": ("unknown", "unknown"),
    "---\nlicense: openrail\n---\n": ("openrail", "unknown"),
    "---\nlicense:\n---\n": ("unknown", "unknown"),
    "---\nlicense: 4.0\n---\n": ("unknown", "unknown"),
    "---\nlicense: {a: b}\n---\n": ("unknown", "unknown"),
    "---\nlicense: mit\n": ("unknown", "unknown"),
    "---\n{ [\n---\n": ("unknown", "unknown"),
    "---\n- license: mit\n---\n": ("unknown", "unknown"),
    "license: mit\n": ("unknown", "unknown"),
    "": ("unknown", "unknown"),
}


@pytest.mark.parametrize("card", CARDS)
def test_licence_of_card(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    licence = licence_of_card(tmp_path / "README.md")
    assert (licence, allows_commercial_use(licence)) == CARDS[card]


def test_licence_of_a_card_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    assert licence_of_card(tmp_path / "README.md") == "unknown"
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert licence_of_card(tmp_path / "README.md") == "unknown"
