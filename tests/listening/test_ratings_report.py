"""Ratings of a folder as JSON and page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.japanese_block import untranslated
from fixtures.listening_test_folder import protocol_of
from fixtures.page_ids import repeated_ids
from fixtures.simulated_votes import simulated

from talim.errors import TalimError, UsageError
from talim.listening import protocol as p
from talim.listening.export import to_jsonl
from talim.listening.ratings import NoVotesCountError
from talim.listening.ratings_report import rate_folder, sentences

Make = Callable[..., Path]
TRUTH = {"linear": 0.8, "conv": 0.2, "untrained": -1.0, "real": 1.6}
TRIALS = {"per_listener": 12, "repeats": 3, "attention": 2}


def protocol(**changes: Any) -> p.Protocol:
    return protocol_of(trials=TRIALS, **changes)


def test_rate_folder_two_sites_writes_json_and_page(make_test: Make, tmp_path: Path) -> None:
    folder = make_test(trials=TRIALS)
    created = p.load(folder)
    for site in ("delhi", "ankara"):
        rows = simulated(created, TRUTH, 7, seed=len(site), site=site)
        (tmp_path / f"{site}.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"fad": {"linear": 2, "conv": 3, "untrained": 9, "real": 1}}), encoding="utf-8")
    result = rate_folder(folder, [tmp_path / "delhi.jsonl", tmp_path / "ankara.jsonl"], scores)
    assert result["sites"] == {"delhi": 7, "ankara": 7}
    assert result["rank_correlation"][0]["spearman"] == pytest.approx(-1)
    assert json.loads((folder / "ratings.json").read_text("utf-8"))["test"] == "0" * 16
    page = Path(result["page"]).read_text("utf-8")
    assert page.count('class="plot"') >= 2
    assert "<script src" not in page
    assert re.search(r"real music \(real\) (leads|and linear lead|is preferred)", result["verdict"])
    assert '<span class="design">linear</span>' in page  # no name is broken at a hyphen
    assert "14 of 14 listeners included" in sentences(result)
    assert untranslated(page, [*TRUTH, "delhi", "ankara", "fad", "0" * 16]) == []
    assert repeated_ids(page) == []
    assert page.count("<table>") == 2 * len(created.aspects)
    assert result["sentences_translated"]["ja"][-1] == "回答した14人のうち14人を集計しました。"
    scores.write_text('{"fad": 3}', encoding="utf-8")
    with pytest.raises(UsageError, match="expected"):
        rate_folder(folder, [tmp_path / "delhi.jsonl"], scores)


def test_rate_folder_without_or_with_foreign_votes_raises_error(make_test: Make, tmp_path: Path) -> None:
    folder = make_test(trials=TRIALS)
    with pytest.raises(TalimError, match="no votes yet"):
        rate_folder(folder)
    rows = [row | {"first": "martian"} for row in simulated(p.load(folder), TRUTH, 2)]
    (tmp_path / "x.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    with pytest.raises(TalimError, match="martian"):
        rate_folder(folder, [tmp_path / "x.jsonl"])


def test_rate_folder_of_some_pairs_prints_no_number_of_others(make_test: Make, tmp_path: Path) -> None:
    folder = make_test(trials=TRIALS)
    rows = [row for row in simulated(p.load(folder), TRUTH, 7) if "untrained" not in (row["first"], row["second"])]
    (tmp_path / "x.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    result = rate_folder(folder, [tmp_path / "x.jsonl"])
    told = sentences(result)
    assert "  untrained:" not in told
    assert "linear with untrained" in told
    assert Path(result["page"]).read_text("utf-8").count("<td>not rated</td>") == 2 * 3  # two aspects


def test_rate_folder_leaves_no_earlier_ratings_beside_a_page_on_which_nobody_counts(
    make_test: Make, tmp_path: Path
) -> None:
    folder, votes = make_test(trials=TRIALS), tmp_path / "x.jsonl"
    votes.write_text(to_jsonl(simulated(p.load(folder), TRUTH, 6)), encoding="utf-8")
    rate_folder(folder, [votes])
    assert (folder / "ratings.json").is_file()
    with pytest.raises(TalimError, match=r"no votes yet; .*; not current any more, of earlier votes: .*ratings\.json$"):
        rate_folder(folder)
    assert (folder / "ratings.json").is_file()
    votes.write_text(to_jsonl(simulated(p.load(folder), TRUTH, 3, careless=3)), encoding="utf-8")
    with pytest.raises(NoVotesCountError, match=r"Removed, because its votes count no more: .*ratings\.json$"):
        rate_folder(folder, [votes])
    assert not (folder / "ratings.json").exists()
    page = (folder / "ratings" / "index.html").read_text("utf-8").replace("&#39;", "'")
    assert "nobody's answers count" in page
    assert untranslated(page, [*TRUTH, "here", "protocol.yaml", "exclusions"]) == []
    with pytest.raises(NoVotesCountError, match=r"index\.html$"):  # nothing was there to remove
        rate_folder(folder, [votes])
