"""Accepted pieces as files that say what they are: tags, licence and provenance; commercial use only if allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim import audio
from talim.atomic_io import new_folder, read_json, write_json, write_text
from talim.briefs import acceptance, candidates, usage_rights
from talim.briefs.brief import Brief
from talim.briefs.report import open_reviews
from talim.errors import TalimError

PROVENANCE = "provenance.json"
NOTICE = "LICENCE.txt"


def export_accepted(
    folder: Path,
    brief: Brief,
    target: Path,
    *,
    commercial: bool = False,
    suffix: str = ".flac",
    database: str | None = None,
) -> list[dict[str, Any]]:
    """Write the accepted pieces of FOLDER to TARGET, all or nothing; return what provenance.json says of each.

    TalimError where nothing was accepted, where TARGET exists, and for commercial use where the licence of a base or
    of a recording behind a piece forbids it or is unknown.
    """
    if target.exists():
        raise TalimError(f"{target}: is there already; name a new folder for the export")
    rows = candidates.read_candidates(folder)
    reviews = open_reviews(folder, database)
    digest = reviews.open_brief(brief, {row["id"]: row["sha256"] for row in rows})
    verdicts = acceptance.combined_verdicts(said := reviews.rows(), brief)
    accepted = [row for row in rows if verdicts.get(row["id"]) == "accept"]
    if not accepted:
        raise TalimError(
            f"{folder}: no candidate is accepted ({len(said)} reviews), so there is nothing to export"
        )
    told = read_json(folder / candidates.DESIGNS)
    judged = {
        name: about["rights"] | usage_rights.usage_allowed(about["rights"]) for name, about in told.items()
    }
    if commercial:
        require_usage_allowed({row["design"] for row in accepted}, judged)
    use = "commercial" if commercial else "not for commercial use"
    made = []
    with new_folder(target) as place:
        for row in accepted:
            said_of_it = sum(one["candidate"] == row["id"] for one in said)
            tags = tags_of(row, judged[row["design"]], brief, digest, use, said_of_it)
            name = f"{brief.name}-{row['id']}{suffix}"
            audio.write(place / name, audio.read(folder / row["file"]), tags)
            made.append(
                {"file": name, "candidate": row["id"], "design": row["design"], "seconds": row["seconds"]}
            )
            made[-1] |= {"tags": tags, "checks": row["checks"], "rights": judged[row["design"]]}
        write_json(place / PROVENANCE, {"brief": digest, "use": use, "pieces": made})
        write_text(place / NOTICE, delivery_notice(made, use))
    return made


def require_usage_allowed(designs: set[str], judged: dict[str, dict[str, Any]]) -> None:
    """TalimError that names what stands against commercial use of any of these designs."""
    against = [
        f"{name}: commercial use is {judged[name]['commercial']} ({'; '.join(judged[name]['because'])})"
        for name in sorted(designs)
        if judged[name]["commercial"] != "allowed"
    ]
    if against:
        raise TalimError(
            f"no commercial export: {', and '.join(against)}; clear the rights, train on what allows it, or export "
            "without --commercial"
        )


def tags_of(
    row: dict[str, Any], judged: dict[str, Any], brief: Brief, digest: str, use: str, reviews: int
) -> dict[str, str]:
    """The candidate's own tags, and what the brief, its review and its rights add."""
    licences = "; ".join(judged["recordings"])
    return row["tags"] | {
        "title": f"{brief.title.get('en', brief.name)} ({row['id']})",
        "license": f"{use}; base: {judged['base_licence']}; recordings: {licences}",
        "copyright": "AI-generated; see the licences of its base and recordings",
        "use": use,
        "consent": "; ".join(judged["consent"]),
        "brief": digest,
        "candidate": row["id"],
        "candidate_sha256": row["sha256"],
        "accepted_by": f"{brief.accepted_by} of {reviews} reviewers",
    }


def delivery_notice(made: list[dict[str, Any]], use: str) -> str:
    """What lies beside the files, in words."""
    lines = [f"These pieces are AI-generated. Use: {use}.", ""]
    for one in {piece["design"]: piece for piece in made}.values():
        found = one["rights"]
        lines += [
            f"Design {one['design']}: base {found['base']}, licence {found['base_licence']}.",
            f"  Recordings it learned from, by licence: {_counted(found['recordings'])}.",
            f"  Consent of the performers: {_counted(found['consent'])}.",
        ]
    lines += [
        "",
        "Licences that ask for attribution or for the same licence keep asking; see provenance.json.",
    ]
    return "\n".join(lines) + "\n"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" if count else name for name, count in counts.items())
