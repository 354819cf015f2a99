"""Tests of talim.licences: only names known to allow commercial use count as allowed."""

from __future__ import annotations

import pytest

from talim.licences import allows_commercial_use, commercial_use_objection, is_own_declaration, publishing_objection


@pytest.mark.parametrize(
    ("licence", "use"),
    [
        ("CC0-1.0", "allowed"),
        ("cc0", "allowed"),
        ("Public Domain", "allowed"),
        ("CC BY 4.0", "allowed"),
        ("CC-BY-SA-4.0", "allowed"),
        ("Apache-2.0", "allowed"),
        ("MIT", "allowed"),
        ("CC-BY-NC-4.0", "forbidden"),
        ("https://creativecommons.org/licenses/by/4.0/", "allowed"),
        ("creativecommons.org/licenses/by-sa/3.0/de/deed.tr", "allowed"),
        ("http://creativecommons.org/licenses/by-nc-nd/2.5/", "forbidden"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "allowed"),
        ("https://creativecommons.org.example.com/licenses/by/4.0/", "unknown"),
        ("Creative Commons Attribution 4.0 International", "allowed"),
        ("Creative Commons Attribution-ShareAlike 3.0 Unported License", "allowed"),
        ("Creative Commons Attribution-NonCommercial 4.0 International", "forbidden"),
        ("Creative Commons Attribution-NoDerivatives 4.0", "forbidden"),
        ("Creative Commons", "unknown"),
        ("CC BY-NC-SA 4.0 (SymbTr)", "forbidden"),
        ("cc_by_nc_4.0", "forbidden"),
        ("CC BY-ND 4.0", "forbidden"),
        ("Non-commercial use only", "forbidden"),
        ("All rights reserved", "forbidden"),
        ("© the artist", "forbidden"),
        ("unknown", "unknown"),
        ("", "unknown"),
        ("see the label's website", "unknown"),
        ("CC BY 4.0, but ask the archive first", "unknown"),
        ("committee", "unknown"),
        ("ＣＣ　ＢＹ　４.０", "allowed"),
        ("CC‑BY‑SA‑4.0", "allowed"),
        ("Tüm hakları saklıdır", "forbidden"),
        ("Alle Rechte vorbehalten", "forbidden"),
        ("非商用", "forbidden"),
        ("ticari olmayan kullanım", "forbidden"),
        ("my own recording", "allowed"),
        ("My own recording, all rights reserved", "allowed"),
        ("自作（自由に使用可）", "allowed"),
        ("kendi kaydım", "allowed"),
        ("my own recording, not for commercial use", "forbidden"),
        ("my own recording, no commercial use", "forbidden"),
        ("my own recording, commercial use: no", "unknown"),
        ("own use", "forbidden"),
        ("自作、商用利用不可", "forbidden"),
        ("自作（非商用）", "forbidden"),
        ("kendi kaydım, ticari olmayan", "forbidden"),
    ],
)
def test_allows_commercial_use_judges_the_name(licence: str, use: str) -> None:
    assert allows_commercial_use(licence) == use
    assert bool(commercial_use_objection(licence)) is (use != "allowed")


def test_commercial_use_objection_names_the_licence() -> None:
    assert commercial_use_objection("CC BY-NC 4.0") == "its licence (CC BY-NC 4.0) forbids commercial use"
    assert commercial_use_objection("") == "its licence (unknown) is not known to allow commercial use"


def test_is_own_declaration_is_no_licence() -> None:
    assert is_own_declaration("my own recording")
    assert not is_own_declaration("CC0-1.0")
    assert not is_own_declaration("unknown")


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        *[(name, True) for name in ("CC0-1.0", "CC BY 4.0", "CC-BY-SA-4.0", "Public Domain", "Apache-2.0", "MIT")],
        *[(name, True) for name in ("CC-BY-NC-4.0", "CC BY-NC-SA 3.0 DE", "cc by nc")],
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", True),
        *[(name, True) for name in ("my own recording", "kendi kaydım", "自作（自由に使用可）")],
        ("my own recording, all rights reserved", True),
        ("my own recording, not for commercial use", False),
        ("my own recording, private use only", False),
        *[(name, False) for name in ("CC BY-ND 4.0", "CC BY-NC-ND 4.0", "All rights reserved", "© the label")],
        *[(name, False) for name in ("", "unknown", "ask the singer", "non-commercial", "CC BY 4.0, but ask first")],
        ("research only", False),
        ("CC0-1.0; CC BY 4.0", True),
        ("CC0-1.0; unknown", False),
    ],
)
def test_publishing_objection_takes_only_what_is_known_to_allow_it(licence: str, allowed: bool) -> None:
    assert bool(publishing_objection(licence)) is not allowed


def test_publishing_objection_says_which_licence() -> None:
    assert publishing_objection("CC BY-ND 4.0") == "its licence (CC BY-ND 4.0) does not allow it"
    assert publishing_objection("CC0-1.0; unknown") == "its licence is unknown"
    assert publishing_objection("ask the singer") == "its licence (ask the singer) is not known to allow it"
