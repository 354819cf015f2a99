"""Results on disk: whole lines, the last one of an id, a torn one dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.atomic_io import to_jsonable
from talim.errors import TalimError
from talim.experiments.results_log import DIGITS, ResultsLog

ROWS = st.lists(
    st.fixed_dictionaries({"id": st.sampled_from("abc"), "status": st.just("done"), "x": st.text()}),
    min_size=1,
    max_size=6,
)  # fmt: skip


@given(rows=ROWS, cut=st.integers(0, 500))
def test_wherever_a_crash_cuts_the_file_whole_lines_stay(
    rows: list, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("study")
    ledger = ResultsLog(folder)
    for row in rows:
        ledger.add(row)
    data = ledger.path.read_bytes()
    kept = data[: cut % (len(data) + 1)]
    ledger.path.write_bytes(kept)
    whole = rows[: kept.count(b"\n")]
    found = ResultsLog(folder)
    assert found.lines == {row["id"]: row for row in whole}
    found.add({"id": "new", "status": "done"})
    again = ResultsLog(folder)
    assert again.lines == {row["id"]: row for row in [*whole, {"id": "new", "status": "done"}]}


def test_the_last_line_of_a_trial_counts(tmp_path: Path) -> None:
    ledger = ResultsLog(tmp_path)
    ledger.add({"id": "a", "status": "failed", "error": "x"})
    assert (ledger.failed("a"), ledger.done("a")) == (True, False)
    ledger.add({"id": "a", "status": "done"})
    for known in (ledger, ResultsLog(tmp_path)):
        assert (known.failed("a"), known.done("a")) == (False, True)
    assert not ledger.done("b")


def test_to_look_is_not_to_touch(tmp_path: Path) -> None:
    torn = b'{"id": "a", "status": "done"}\n{"id": "b", "sta'
    (tmp_path / "results.jsonl").write_bytes(torn)
    assert set(ResultsLog(tmp_path, repair=False).lines) == {"a"}
    assert (tmp_path / "results.jsonl").read_bytes() == torn


def test_damage_inside_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_bytes(b'{"id": "a"\n{"id": "b", "status": "done"}\n')
    with pytest.raises(TalimError, match="line 1"):
        ResultsLog(tmp_path)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_kept_to_seven_digits(value: float) -> None:
    kept = to_jsonable({"x": [value], "n": 12345678901}, DIGITS)
    assert kept["n"] == 12345678901
    assert kept["x"][0] == pytest.approx(value, rel=1e-6, abs=0)
    assert to_jsonable(kept, DIGITS) == kept
    assert len(f"{abs(kept['x'][0])!r}".partition("e")[0].strip("0").replace(".", "").strip("0")) <= 7
