"""Whether an adapter may be published: by the licences of its recordings, its base and what it began from."""

from __future__ import annotations

from talim.errors import TalimError
from talim.exporting.contents import ExportedRun
from talim.html.formatting import format_counted
from talim.licences import publishing_objection, refuses_consent
from talim.terminal_text import one_line
from talim.training.model_card import own_terms

MAX_NAMED = 12


def training_recordings(exported: ExportedRun) -> list[dict[str, str]]:
    """A row per recording that the adapter was trained on, of run.json; none where that does not tell."""
    trained_on = exported.facts.get("trained_on")
    rows = trained_on.get("attributions") if isinstance(trained_on, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def objections(exported: ExportedRun) -> list[str]:
    """Each reason why the adapter may not be published, with what it is about; empty where it may be."""
    lines = []
    rows = training_recordings(exported)
    for row in rows:
        reason = publishing_objection(row.get("licence", ""))
        if not reason and refuses_consent(row.get("consent", "")):
            reason = f"its performer's consent is {row['consent']!r}"
        if reason:
            lines.append(f"the recording {row.get('recording')} ({row.get('file')}): {reason}")
    if not rows:
        lines.append("the recordings: run.json does not name those that it was trained on, nor their licences")
    if reason := publishing_objection(exported.base_licence):
        lines.append(f"the base {exported.info['base']['name']}: {reason}")
    if (start := exported.run.start) is not None and (reason := publishing_objection(str(start.get("licence")))):
        lines.append(f"the adapter that training began from, {start.get('name')}: {reason}")
    return [one_line(line, 300) for line in lines]


def refuse_unless_allowed(exported: ExportedRun, permission: str | None) -> None:
    """TalimError with every objection, unless a `permission` is stated."""
    found = objections(exported)
    if not found or (permission or "").strip():
        return
    more = f" and {len(found) - MAX_NAMED} more" * (len(found) > MAX_NAMED)
    unknown = any(row.get("licence", "") in ("", "unknown") for row in training_recordings(exported))
    known = ", write licences that you know into the column licence of metadata.csv" if unknown else ""
    raise TalimError(
        f"{exported.run.folder} may not be published: {'; '.join(found[:MAX_NAMED])}{more}. Leave them out of the "
        f"corpus and train again{known}, or, if whoever holds the rights allowed it, say who and when: --permission "
        "'TEXT' (it is printed on the card)"
    )


def own_terms_notes(exported: ExportedRun) -> list[str]:
    """Sentences on performers and licences that only whoever wrote them understands, and how to say them to others."""
    owners, licences = (", ".join(f'"{one_line(word, 80)}"' for word in words) for words in own_terms(exported.facts))
    mended = "then prepare and train again, or tell it to whoever gets this"
    notes = [
        f"note: nobody else knows who the performer {owners} is: write the name into the column performer of "
        f"metadata.csv, {mended}"
    ] * bool(owners)
    return notes + [
        f"note: the licence {licences} is a declaration, which gives others no rights: write terms that do, such as "
        f"CC BY 4.0, into the column licence of metadata.csv, {mended}"
    ] * bool(licences)


def consent_note(exported: ExportedRun) -> str:
    """A sentence where performers' consent is not on record; empty where it is."""
    unknown = [row for row in training_recordings(exported) if row.get("consent", "unknown") in ("", "unknown")]
    if not unknown:
        return ""
    return (
        f"note: the consent of the performers of {format_counted(len(unknown), 'recording')} is not on record; ask "
        "them before you make this public"
    )
