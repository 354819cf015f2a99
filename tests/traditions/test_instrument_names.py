"""Names of instruments: spellings, typing errors, and names that no list has."""

from __future__ import annotations

from collections import Counter

import pytest

from talim.errors import TalimError
from talim.traditions.instrument_names import _FILE, resolve_instrument
from talim.traditions.name_matching import normalize_words


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("sitar", "sitar"), ("Sitaar", "sitar"), ("sittar", "sitar"), (" SITARS ", "sitar"), ("tanpoora", "tanpura"),
        ("kemençe", "kemence"), ("Kudüm", "kudum"), ("bağlama", "saz"), ("尺八", "shakuhachi"), ("ud", "oud"),
        ("vocals", "voice"), ("electric guitar", "electric guitar"), ("Bowed Sitar", "Bowed Sitar"), ("tar", "tar"),
        ("waterphone", "waterphone"), ("x", "x"), ("", ""),
    ],
)  # fmt: skip
def test_resolve_instrument_gives_the_usual_name(written: str, name: str) -> None:
    assert resolve_instrument(written) == name


@pytest.mark.parametrize(
    ("written", "offer"),
    [("sitra", "sitar"), ("sitarw", "sitar"), ("tabal", "tabla"), ("bansruri", "bansuri"), ("vioiln", "violin"),
     ("harmonuim", "harmonium"), ("electric gutiar", "guitar"), ("clarinett x", "")],
)  # fmt: skip
def test_resolve_instrument_refuses_typing_errors_with_the_nearest_names(written: str, offer: str) -> None:
    if not offer:
        assert resolve_instrument(written) == written
        return
    with pytest.raises(TalimError, match=rf"no instrument is called '{written}': did you mean .*{offer}"):
        resolve_instrument(written)


def test_instrument_names_belong_to_one_instrument() -> None:
    from talim.atomic_io import read_json

    names = [name for entry in read_json(_FILE) for name in {entry["name"], *entry["aliases"]}]
    assert [name for name, count in Counter(map(str.casefold, names)).items() if count > 1] == []
    assert all(resolve_instrument(entry["name"]) == entry["name"] for entry in read_json(_FILE))
    assert all(normalize_words(name) for name in names)
