"""What a sound file says of how it was made: tags and content credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim.audio import credentials
from talim.audio.provenance import generated_by, given_seconds
from talim.audio.tags import read_tags
from talim.errors import TalimError

NO_MARK = "no mark of a model was found; that is no proof, as every conversion may lose marks"


def origin_of(path: Path) -> dict[str, Any]:
    """`ai_generated` (True, or None where nothing says so), `tags`, `given_seconds` and `credentials` of a file.

    `credentials` is None where there are none; `credentials_note` says why they were not looked for. AudioError for
    what is no sound file.
    """
    tags = read_tags(path)
    made, note = generated_by(tags), ""
    found: credentials.Credentials | None = None
    try:
        credentials.require_package()
    except TalimError as error:
        note = str(error)
    else:
        found = credentials.read(path)
        if found is None and path.suffix.lower() not in credentials.FORMATS:
            note = f"{path.suffix or 'a name without a suffix'}: talim reads none in this format"
    return {
        "file": str(path),
        "ai_generated": True if made or (found and found.generated) else None,
        "generated_by": made,
        "given_seconds": given_seconds(tags),
        "tags": tags if made else {},
        "credentials": found and vars(found),
        "credentials_note": note,
    }


def origin_lines(origin: dict[str, Any]) -> list[str]:
    """What `origin_of` found, for people: a line for the file, one for its tags and one for its credentials."""
    given = origin["given_seconds"]
    if not origin["ai_generated"]:
        first = NO_MARK
    elif given:
        first = f"made by a model from {given:g} s on; what is before was given"
    else:
        first = "made by a model"
    lines = [f"{origin['file']}: {first}"]
    if origin["generated_by"]:
        prompt = origin["tags"].get("prompt")
        lines.append(f"tags: {origin['generated_by']}" + (f", prompt {prompt!r}" if prompt else ""))
    if found := origin["credentials"]:
        lines.append(f"content credentials: {_credentials_text(found)}")
    elif origin["credentials_note"]:
        lines.append(f"content credentials: not looked for ({origin['credentials_note']})")
    return lines


def _credentials_text(found: dict[str, Any]) -> str:
    signer = found["signer"] or "an unnamed signer"
    if not found["intact"]:
        problems = ", ".join(found["problems"]) or "the signature is not right"
        return f"do not hold: the file was changed after {signer} signed it, or the signature is not right ({problems})"
    vouched = "" if found["trusted"] else " (no known authority vouches for this certificate)"
    when = f" on {found['signed_at']}" if found["signed_at"] else ""
    facts = found["description"] or found["software"] or "no more is said"
    return f"signed by {signer}{vouched}{when}, not changed since: {facts}"
