"""Invalid tradition files: one line that names the file, the entry and the problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.invented_tradition import MARSH, write_marsh

from talim.errors import TalimError
from talim.traditions.tradition import load


def mode(**changed: Any) -> list[dict[str, Any]]:
    return [{"name": "Heron", "degrees": "a b c e", **changed}]


def cycle(**changed: Any) -> list[dict[str, Any]]:
    return [{"name": "Five", "beats": 5, **changed}]


def ornament(**changed: Any) -> list[dict[str, Any]]:
    return [{"name": "Drop", "shape": "glide", "seconds": [0, 1], "extent_cents": [1, 2], **changed}]


HEAD = MARSH["tradition.json"]
INVALID = [
    ("modes", None, "no such file"),
    ("modes", [], "expected a list of modes, at least one"),
    ("modes", {"Heron": {}}, "expected a list of modes"),
    ("modes", ["Heron"], 'is "Heron"; it must be an object with the keys name, degrees, and may have slug'),
    ("modes", [{"name": "Heron"}], "'Heron' lacks 'degrees'"),
    ("modes", [{"degrees": "a b"}], "mode 1 lacks 'name'"),
    ("modes", [{"name": 7, "degrees": "a b"}], "name must be a word"),
    ("modes", mode(vadi="a"), "unknown key 'vadi'"),
    ("modes", mode(degrees="a b x"), "unknown note 'x'"),
    ("modes", mode(degrees="a 7"), "unknown note '7'"),
    ("modes", mode(degrees="a c b"), "degrees must be two or more notes ascending"),
    ("modes", mode(degrees="a"), "degrees must be two or more"),
    ("modes", mode(degrees="a b a'"), "degrees must be"),
    ("modes", mode(degrees=["a", "b"]), "wrong kind"),
    ("modes", mode(theory="a b c"), "theory has 3 notes and degrees 4"),
    ("modes", mode(phrases=["a q"]), "unknown note 'q'"),
    ("modes", mode(phrases="a b"), "phrases must be a list"),
    ("modes", mode(aliases="Grey"), "aliases must be a list"),
    ("modes", mode(contour="up"), "contour 'up' is none of ascending, descending, both"),
    ("modes", mode() + mode(), "both have the name"),
    ("modes", [*mode(), {"name": "Bittern", "degrees": "a b", "aliases": ["Reed hérron"]}], "'Heron' and 'Bittern'"),
    ("cycles", cycle(beats=0), "beats must be above 0"),
    ("cycles", cycle(beats="many"), "wrong kind"),
    ("cycles", cycle(sections=[3, 3]), "sections add up to 6 beats, not 5"),
    ("cycles", cycle(strokes="Toc Tic"), "strokes fill 2 beats, not 5"),
    ("cycles", cycle(strokes="Toc:2 Tac:3"), "unknown syllable 'Tac'"),
    ("cycles", cycle(strokes="toc toc toc toc toc"), "cannot read the stroke"),
    ("cycles", cycle(claps=[6]), "claps and waves are beats 1 to 5, not 6"),
    ("ornaments", ornament(shape="wiggle"), "shape 'wiggle' is none of"),
    ("ornaments", ornament(seconds=[2, 1]), "seconds must be a pair"),
    ("ornaments", ornament(rate_hz=[1]), "rate_hz must be a pair"),
    ("tradition", {**HEAD, "notes": {}}, "give 'notes'"),
    ("tradition", {**HEAD, "notes": {"a": "low"}}, "could not convert"),
    ("tradition", {**HEAD, "stroke_weights": {"Toc": 2}}, "must weigh 0 to 1"),
    ("tradition", {**HEAD, "low_end_cents": "low"}, "low_end_cents must be a number, not 'low'"),
    ("tradition", {**HEAD, "low_end_cents": True}, "low_end_cents must be a number, not True"),
    ("tradition", {**HEAD, "mode_words": "reed"}, "mode_words must be a list"),
    ("tradition", {"name": "Marsh"}, "lacks 'mode_words'"),
    ("tradition", [], "is []; it must be an object with the keys name, mode_words, cycle_words, and may have slug"),
]


@pytest.mark.parametrize(("file", "content", "problem"), INVALID, ids=[f"{f}-{s[:24]}" for f, _, s in INVALID])
def test_load_of_an_invalid_entry_names_file_and_problem(tmp_path: Path, file: str, content: Any, problem: str) -> None:
    folder = write_marsh(tmp_path / "marsh", **{file: content})
    with pytest.raises(TalimError) as caught:
        load(folder)
    message = str(caught.value)
    assert problem in message
    assert f"{file}.json" in message
    assert "\n" not in message


def test_load_reads_where_melodies_have_their_low_end(tmp_path: Path) -> None:
    assert load(write_marsh(tmp_path / "plain")).low_end_cents is None
    assert load(write_marsh(tmp_path / "marsh", tradition={**HEAD, "low_end_cents": -500})).low_end_cents == -500.0


def test_load_of_invalid_json_names_the_file(tmp_path: Path) -> None:
    folder = write_marsh(tmp_path / "marsh")
    (folder / "cycles.json").write_text("[{", encoding="utf-8")
    with pytest.raises(TalimError, match=r"cycles\.json: cannot be read as JSON"):
        load(folder)


def test_load_raises_stroke_weights_on_first_beat_and_claps(tmp_path: Path) -> None:
    head = {**HEAD, "first_weight": 0.9, "clap_weight": 0.7}
    cycles = [{"name": "Six", "beats": 6, "claps": [1, 4], "strokes": "Tic Tic Tic Tic Tic Toc"}]
    six = load(write_marsh(tmp_path / "marsh", tradition=head, cycles=cycles)).cycle("six")
    assert [stroke.weight for stroke in six.strokes] == [0.9, 0.4, 0.4, 0.7, 0.4, 1.0]
