"""Export of accepted pieces with tags, licence notice and provenance; commercial use only if allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim import audio
from talim.atomic_io import new_folder, read_json, write_json, write_text
from talim.briefs import acceptance, candidates, usage_rights
from talim.briefs.brief import Brief
from talim.briefs.report import open_reviews
from talim.corpus.attribution import attribution_line
from talim.errors import TalimError
from talim.html.formatting import format_counted

PROVENANCE = "provenance.json"
NOTICE = "LICENCE.txt"


def export_accepted(
    folder: Path, brief: Brief, target: Path, *, commercial: bool = False, database: str | None = None
) -> list[dict[str, Any]]:
    """Write the accepted pieces of FOLDER to TARGET, all or none; returns their rows of provenance.json.

    TalimError if nothing was accepted, if TARGET exists, or if `commercial` and the licence of a base or of a
    recording of a piece forbids commercial use or is unknown.
    """
    if target.exists():
        raise TalimError(f"{target}: exists already; give a new folder for the export")
    reviews, rows, review_rows = open_reviews(folder, brief, database)
    brief_hash = reviews.facts()["hash"]
    verdicts = acceptance.combined_verdicts(review_rows, brief)
    accepted = [row for row in rows if verdicts.get(row["id"]) == "accept"]
    if not accepted:
        raise TalimError(
            f"{folder}: no candidate is accepted ({format_counted(len(review_rows), 'review')}), nothing to export"
        )
    rights = {
        name: facts["rights"] | usage_rights.usage_allowed(facts["rights"])
        for name, facts in read_json(folder / candidates.CONTENDERS).items()
    }
    if commercial:
        require_usage_allowed({row["contender"] for row in accepted}, rights)
    use, pieces = "commercial" if commercial else "not for commercial use", []
    with new_folder(target) as new:
        for row in accepted:
            num_reviews = sum(review["candidate"] == row["id"] for review in review_rows)
            tags = tags_of(row, rights[row["contender"]], brief, brief_hash, use, num_reviews)
            name = f"{brief.name}-{row['id']}.flac"
            audio.write(new / name, audio.read(folder / row["file"]), tags)
            piece = {"file": name, "candidate": row["id"], "contender": row["contender"]}
            piece |= {"seconds": row["seconds"], "tags": tags, "checks": row["checks"]}
            pieces.append(piece | {"rights": rights[row["contender"]]})
        write_json(new / PROVENANCE, {"brief": brief_hash, "use": use, "pieces": pieces})
        write_text(new / NOTICE, delivery_notice(pieces, use))
    return pieces


def require_usage_allowed(contenders: set[str], rights: dict[str, dict[str, Any]]) -> None:
    """TalimError that names the reasons against commercial use of these contenders, if there are any."""
    own = {name: rights[name] for name in sorted(contenders) if rights[name]["commercial"] != "allowed"}
    if own:
        obstacles = [f"{k}: commercial use is {r['sentence']}" for k, r in own.items()]
        raise TalimError(
            f"no commercial export: {', and '.join(obstacles)}; clear the rights, train on recordings that allow it, "
            "or export without --commercial"
        )


def tags_of(
    row: dict[str, Any], rights: dict[str, Any], brief: Brief, brief_hash: str, use: str, num_reviews: int
) -> dict[str, str]:
    """The tags of the candidate, extended by the brief, the review and the rights."""
    licences = "; ".join(rights["recordings"])
    phrase = f"; phrase: {rights['phrase']['rights']}" if "phrase" in rights else ""
    begun = f"; adapter it began from: {rights['adapter_licence']}" if "adapter" in rights else ""
    return row["tags"] | {
        "title": f"{brief.title.get('en', brief.name)} ({row['id']})",
        "license": f"{use}; base: {rights['base_licence']}{begun}; recordings: {licences}{phrase}",
        "copyright": f"AI-generated; see the licences of its base and recordings{' and of its phrase' * bool(phrase)}",
        "use": use,
        "consent": "; ".join(rights["consent"]),
        "brief": brief_hash,
        "candidate": row["id"],
        "candidate_sha256": row["sha256"],
        "accepted_by": f"{brief.accepted_by} of {format_counted(num_reviews, 'reviewer')}",
    }


def delivery_notice(pieces: list[dict[str, Any]], use: str) -> str:
    """The text of LICENCE.txt."""
    lines = [f"These pieces are AI-generated. Use: {use}.", ""]
    for contender, rights in {piece["contender"]: piece["rights"] for piece in pieces}.items():
        lines += [
            f"{contender}: base {rights['base']}, licence {rights['base_licence']}.",
            *_adapter_lines(rights),
            f"  Training recordings, by licence: {_counted(rights['recordings'])}.",
            f"  Consent of the performers: {_counted(rights['consent'])}.",
            *_phrase_lines(rights.get("phrase")),
            *_attribution_lines(rights.get("attributions") or []),
        ]
    lines += ["", "Licences that require attribution or the same licence still apply; see provenance.json."]
    return "\n".join(lines) + "\n"


def _phrase_lines(phrase: dict[str, str] | None) -> list[str]:
    if not phrase:
        return []
    return [
        f"  Made from the phrase {phrase['file']}, given by the user, not by the model; rights: {phrase['rights']}."
    ]


def _adapter_lines(rights: dict[str, Any]) -> list[str]:
    """The adapter that training began from; none where it began anew."""
    if "adapter" not in rights:
        return []
    return [f"  Its training began from the adapter {rights['adapter']}, licence {rights['adapter_licence']}."]


def _attribution_lines(rows: list[dict[str, str]]) -> list[str]:
    if not rows:
        return ["  The recordings cannot be named one by one: the run.json of their run does not tell them."]
    return ["  Trained on:", *(f"    {attribution_line(row)}" for row in rows)]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" if count else name for name, count in counts.items())
