"""Export of votes and merging of sites."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from fixtures.listening_test_folder import protocol_of
from fixtures.stored_votes import PROMPTS, SOUNDS, Clock, at_once, begun, make_vote, open_store

from talim.errors import TalimError
from talim.listening import export
from talim.listening.database import sqlite_url
from talim.listening.vote_store import VoteStore


def test_export_jsonl_and_csv_have_equal_content(url: str) -> None:
    store, protocol = open_store(url)
    listener = begun(store, protocol)
    store.answer(listener, make_vote(store, listener), at_once)
    rows = store.rows()
    table = list(csv.DictReader(io.StringIO(export.to_csv(rows))))
    assert [row["answer"] for row in table] == ["1", ""]
    assert table[0]["listener"] == listener
    assert export.to_jsonl(rows).count("\n") == 2
    assert export.to_csv([rows[0] | {"site": "=cmd()"}]).splitlines()[1].split(",")[1] == "'=cmd()"


def test_merge_sites_keeps_provenance(tmp_path: Path) -> None:
    rows = {}
    for site in ("delhi", "ankara"):
        store = VoteStore(sqlite_url(tmp_path / f"{site}.db"), Clock())
        protocol = protocol_of()
        store.open_test(protocol, SOUNDS, PROMPTS, site)
        listener = begun(store, protocol)
        store.answer(listener, make_vote(store, listener), at_once)
        rows[site] = store.rows()
    path = tmp_path / "ankara.jsonl"
    path.write_text(export.to_jsonl(rows["ankara"]), encoding="utf-8")
    merged = export.merge([("here", rows["delhi"]), (str(path), export.read(path)), ("again", rows["delhi"])])
    assert Counter(row["site"] for row in merged) == {"delhi": 2, "ankara": 2}
    with pytest.raises(TalimError, match="different tests"):
        export.merge([("here", rows["delhi"]), ("there", [rows["ankara"][0] | {"test": "other"}])])
    with pytest.raises(TalimError, match="answered differently"):
        export.merge([("here", rows["delhi"]), ("there", [rows["delhi"][0] | {"answer": -2}])])
