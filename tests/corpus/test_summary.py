"""Facts of summary.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fixtures.prepared_corpus import make

from talim.corpus.summary import split_item


def test_summarize_counts_beats_and_chords_only_where_there_are_any(three: Path, out: Path) -> None:
    assert "clips_with_beats_or_chords" not in make(three, out).summary
    (three / "a.beats").write_text("0.5 1\n12.5 2\n")
    assert make(three, out).summary["clips_with_beats_or_chords"] == {"beats": 2, "chords": 0}


def test_summarize_names_the_scale_of_every_fraction(three: Path, out: Path) -> None:
    (three / "copy.wav").write_bytes((three / "a.wav").read_bytes()[:200_000])
    text = json.dumps(make(three, out).summary)
    assert not re.findall(r'"\w*share\w*"', text.replace('"shared_fraction"', ""))
    assert '"clipped_fraction"' in text


def test_split_item_prefers_musicbrainz_ids_to_titles(three: Path, out: Path) -> None:
    clip = make(three, out).clips[0]
    assert split_item(clip).release == clip.release == "unknown"
    with_ids = clip.model_copy(update={"release": "Album", "extra": {"release_mbid": "r1", "lead_performer": "A"}})
    item = split_item(with_ids)
    assert (item.release, item.work, item.lead) == ("r1", "unknown", "A")
