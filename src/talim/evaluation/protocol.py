"""The protocol of scores: what was measured and how, with a hash; scores of different protocols are not compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from talim.errors import TalimError

EMBEDDINGS = ("timbre", "pitch", "rhythm")  # the shipped ones, in which distances are measured


def score_protocol(facts: Mapping[str, Any]) -> dict[str, Any]:
    """`facts` (data, lengths, sample rate), the embeddings and versions, and the hash of all of them."""
    from talim.evaluation import clip_measures
    from talim.metrics import embeddings, pitch
    from talim.run import provenance

    protocol = {
        **facts,
        "embeddings": {name: embeddings.load(name).identity for name in EMBEDDINGS},
        "measures": {
            "measures": clip_measures.VERSION,
            "pitch": pitch.VERSION,
            "names": [*clip_measures.MEASURE_DESCRIPTIONS],
        },
        "talim": provenance().get("talim"),
    }
    text = json.dumps(protocol, sort_keys=True, default=str)
    return {**protocol, "hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def require_same_protocol(
    protocols: Mapping[str, Mapping[str, Any]],
    remedy: str = "run talim evaluate on both with the same corpus, lengths and version of talim",
) -> None:
    """Check that score tables, by name, have one protocol hash, without which their values cannot be compared.

    TalimError names two tables that differ, their hashes, the settings that differ as far as they are recorded, and
    the remedy.
    """
    for (one, first), (other, second) in pairwise(protocols.items()):
        if first.get("hash") == second.get("hash"):
            continue
        keys = sorted(key for key in {*first, *second} - {"hash"} if first.get(key) != second.get(key))
        differing = f"; they differ in {', '.join(keys)}" if keys else ""
        raise TalimError(
            f"the scores of {one} (protocol {first.get('hash') or 'unknown'}) and {other} (protocol "
            f"{second.get('hash') or 'unknown'}) cannot be compared{differing}; {remedy}"
        )
