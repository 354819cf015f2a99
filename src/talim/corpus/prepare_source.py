"""From any source to a corpus and its page: importers, players for what holds no sound, the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from talim.corpus import report
from talim.corpus.importers import registry
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare_corpus as prepare_found
from talim.synthesis.score_playback import ScorePlayer


def prepare(
    source: str | Path,
    out: Path,
    *,
    kind: str | None = None,
    say: Callable[[str], None] | None = None,
    **wishes: Any,
) -> Corpus:
    """Make or update the corpus `out` from a source of any kind, and write its page CORPUS/report/index.html.

    `kind` is KIND or KIND:DETAIL, None to recognise it; `say` hears what is left out of a source that gives
    nothing; wishes are those of talim.corpus.prepare. Raises UsageError for a source that is none, TalimError
    where nothing usable remains.
    """
    found = registry.list_recordings(str(source), Path(out), kind, ScorePlayer())
    if say and not found.files:
        for row in found.left_out:
            say(f"left out {row['file']}: {row['reason']}")
    corpus = prepare_found(found, out, **wishes)
    report.write(corpus)
    return corpus
