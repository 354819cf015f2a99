"""Export of accepted pieces: tags, licence notice, provenance, commercial use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.brief_folder import brief_of, decide, opened_brief

from talim import audio
from talim.briefs import delivery
from talim.errors import TalimError

GOOD = {"linear-001": "accept", "linear-002": "accept", "linear-003": "accept", "conv-001": "edit"}


def test_export_accepted_writes_tags_licence_and_provenance(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "b", brief_of())
    decide(opened, GOOD)
    created = delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out", commercial=True)
    assert [piece["candidate"] for piece in created] == ["linear-001", "linear-002", "linear-003"]
    tags = audio.read_tags(tmp_path / "out" / created[0]["file"])
    assert tags["ai_generated"] == "AI-generated"
    assert tags["use"] == "commercial"
    assert "Apache-2.0" in tags["license"]
    assert "CC0-1.0" in tags["license"]
    assert tags["brief"] == opened.brief_hash
    result = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert result["pieces"][0]["tags"]["candidate_sha256"] == opened.rows["linear-001"]["sha256"]
    assert "CC0-1.0 (12)" in (tmp_path / "out" / "LICENCE.txt").read_text(encoding="utf-8")
    assert (
        audio.read(tmp_path / "out" / created[0]["file"]).samples
        == audio.read(tmp_path / "b" / opened.rows["linear-001"]["file"]).samples
    ).all()
    with pytest.raises(TalimError, match="exists already"):
        delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out")


@pytest.mark.parametrize(
    ("rights", "message"),
    [
        ({"base_licence": "CC-BY-NC-4.0"}, "not cleared, because of base nano-musicgen (CC-BY-NC-4.0);"),
        ({"base_licence": "unknown"}, "because of base nano-musicgen (unknown);"),
        ({"recordings": {"CC0-1.0": 3, "CC BY-NC 4.0": 1}}, "because of recordings under 'CC BY-NC 4.0';"),
        ({"recordings": {"unknown": 4}}, "because of recordings under 'unknown';"),
        ({"consent": {"unknown": 4}}, "because of unknown consent of the performers (4 recordings);"),
    ],
    ids=str,
)
def test_export_accepted_commercial_with_forbidding_or_unknown_licence_raises_error(
    tmp_path: Path, rights: dict, message: str
) -> None:
    opened = opened_brief(tmp_path / "b", brief_of(), **rights)
    decide(opened, GOOD)
    with pytest.raises(TalimError) as result:
        delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out", commercial=True)
    assert message in str(result.value)
    assert "\n" not in str(result.value)
    assert not (tmp_path / "out").exists()
    created = delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out")
    assert audio.read_tags(tmp_path / "out" / created[0]["file"])["use"] == "not for commercial use"


def test_export_accepted_without_accepted_pieces_raises_error(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "b", brief_of())
    decide(opened, {})
    with pytest.raises(TalimError, match="no candidate is accepted"):
        delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out")
