"""The results log: complete lines only, the last one of an id counts, an incomplete one is dropped."""

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
def test_results_log_file_cut_anywhere_has_the_complete_lines(
    rows: list, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("study")
    log = ResultsLog(folder)
    for row in rows:
        log.add(row)
    data = log.path.read_bytes()
    saved = data[: cut % (len(data) + 1)]
    log.path.write_bytes(saved)
    whole = rows[: saved.count(b"\n")]
    found = ResultsLog(folder)
    assert found.lines == {row["id"]: row for row in whole}
    found.add({"id": "new", "status": "done"})
    again = ResultsLog(folder)
    assert again.lines == {row["id"]: row for row in [*whole, {"id": "new", "status": "done"}]}


def test_results_log_repeated_id_uses_the_last_line(tmp_path: Path) -> None:
    log = ResultsLog(tmp_path)
    log.add({"id": "a", "status": "failed", "error": "x"})
    assert (log.failed("a"), log.done("a")) == (True, False)
    log.add({"id": "a", "status": "done"})
    for known in (log, ResultsLog(tmp_path)):
        assert (known.failed("a"), known.done("a")) == (False, True)
    assert not log.done("b")


def test_results_log_without_repair_changes_nothing(tmp_path: Path) -> None:
    truncated = b'{"id": "a", "status": "done"}\n{"id": "b", "sta'
    (tmp_path / "results.jsonl").write_bytes(truncated)
    assert set(ResultsLog(tmp_path, repair=False).lines) == {"a"}
    assert (tmp_path / "results.jsonl").read_bytes() == truncated


def test_results_log_damaged_line_inside_raises(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_bytes(b'{"id": "a"\n{"id": "b", "status": "done"}\n')
    with pytest.raises(TalimError, match="line 1"):
        ResultsLog(tmp_path)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_results_log_numbers_have_seven_significant_digits(value: float) -> None:
    saved = to_jsonable({"x": [value], "n": 12345678901}, DIGITS)
    assert saved["n"] == 12345678901
    assert saved["x"][0] == pytest.approx(value, rel=1e-6, abs=0)
    assert to_jsonable(saved, DIGITS) == saved
    assert len(f"{abs(saved['x'][0])!r}".partition("e")[0].strip("0").replace(".", "").strip("0")) <= 7
