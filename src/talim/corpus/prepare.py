"""From a folder of recordings to a corpus: clips, words, rights and a split, kept up to date."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talim.corpus.captions import Words, describe_file, write_editable
from talim.corpus.importers.folder import find as find_in_folder
from talim.corpus.manifest import UNKNOWN, Clip, Corpus
from talim.corpus.recordings import Found
from talim.corpus.rights import usable
from talim.corpus.sources import Cutting, Progress, Work, cut_all, known_landmarks
from talim.corpus.split import make_split, plain_leak
from talim.corpus.stock import earlier_summary, edited_rows, remove_corpus, remove_stale, store
from talim.corpus.summary import on_sides, piece_of, summarise
from talim.corpus.twins import Twins, find_twins
from talim.errors import TalimError, UsageError
from talim.run import Run


def prepare(
    source: str | Path | Found,
    out: str | Path,
    *,
    clip_seconds: float = 10.0,
    rate_hz: int = 32000,
    seed: int = 0,
    held_out_share: float = 0.2,
    held_out: tuple[str, ...] = (),
    describe: str | None = None,
    split: str = "auto",
    channels: int = 1,
    use: str = "any",
    progress: Progress | None = None,
) -> Corpus:
    """Make or update the corpus `out` from a folder of recordings, or from what an importer found.

    Only what is new is decoded. Files that cannot be used are listed in summary["skipped"], and with `use`
    "commercial" those whose licence forbids that or is unknown. Raises UsageError for wishes that make no sense (no
    recordings, unknown held-out name), TalimError where nothing usable remains or the disk refuses.
    """
    out = Path(out)
    cutting = Cutting(float(clip_seconds), int(rate_hz), int(channels))
    _check_wishes(cutting, held_out_share, describe, out)
    found = source if isinstance(source, Found) else find_in_folder(Path(source), out)
    found = usable(found, edited_rows(out), use)
    with Run(out).lock():
        before = earlier_summary(out)
        work = cut_all(found.files, out, cutting, progress)
        work.skipped[:0] = found.left_out
        try:
            edited = edited_rows(out)
            words = _describe_all(found, edited, describe, work)
            clips = _make_clips(words, work, seed)
            pieces = [piece_of(clip) for clip in clips]
            twins = _twins(words, work, out, cutting)
            pairs = [(pair.first, pair.second) for pair in twins]
            division = make_split(
                pieces, share=held_out_share, seed=seed, step=split, held_out=held_out, twins=pairs
            )
        except TalimError:
            if before is None:
                remove_corpus(out)
            raise
        waiting = write_editable(out / "metadata.csv", words, edited)
        by_chance = plain_leak(pieces, held_out_share, seed, pairs)
        summary = summarise(
            clips, division, seed, cutting, words, work, found, len(waiting), twins, by_chance
        )
        done = _report(before, work, cutting)
        corpus = Corpus(out, on_sides(clips, division), summary, done)
        store(corpus)
        remove_stale(out, work.cuts.values(), cutting)
    if progress:
        progress(len(found.files), len(found.files), _last_word(corpus))
    return corpus


def _check_wishes(cutting: Cutting, share: float, describe: str | None, out: Path) -> None:
    if not 1.0 <= cutting.clip_seconds <= 600.0:
        raise UsageError(f"clips of {cutting.clip_seconds:g} s are not possible; choose 1 to 600 seconds")
    if not 4000 <= cutting.rate_hz <= 192000:
        raise UsageError(f"a rate of {cutting.rate_hz} Hz is not possible; choose 4000 to 192000, e.g. 32000")
    if cutting.channels not in (1, 2):
        raise UsageError(f"{cutting.channels} channels are not possible; choose 1 (mono) or 2 (stereo)")
    if not 0.0 < share <= 0.5:
        raise UsageError(f"a held-out share of {share:g} is not possible; choose more than 0 up to 0.5")
    if describe is not None and not describe.strip():
        raise UsageError('the description is empty; say what is heard, e.g. --describe "raga Yaman, voice"')
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out takes the folder for the corpus")
    strangers = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if strangers and not any((out / name).exists() for name in ("corpus.jsonl", ".lock")):
        raise UsageError(
            f"{out}: holds other files ({sorted(strangers)[0]}) and no corpus; choose a new folder"
        )


def _describe_all(
    found: Found,
    edited: Mapping[str, Mapping[str, str]],
    describe: str | None,
    work: Work,
) -> dict[str, Words]:
    """The words of every file; one whose words cannot be read is skipped and reported."""
    words: dict[str, Words] = {}
    for file in found.files:
        if file.name not in work.cuts:
            continue
        try:
            words[file.name] = describe_file(file, edited.get(file.name, {}), describe)
        except TalimError as error:
            work.skipped.append({"file": file.name, "reason": f"its words: {error}"})
    if not words:
        what = "nothing was found in it"
        if work.skipped:
            first = work.skipped[0]
            what = f"none of its recordings can be used ({len(work.skipped)}); {first['file']}: {first['reason']}"
        raise TalimError(f"{found.place}: {what}")
    return words


def _make_clips(words: Mapping[str, Words], work: Work, seed: int) -> list[Clip]:
    """Every clip, still on no side of the split, in the order of files and time."""
    slugs = _slugs(list(words), work)
    return [
        _clip(f"{slugs[name]}-{piece.start_seconds:07.1f}", name, said, work, at, seed)
        for name, said in words.items()
        for at, piece in enumerate(work.cuts[name].clips)
    ]


def _clip(key: str, name: str, said: Words, work: Work, at: int, seed: int) -> Clip:
    """One clip with the words and labels that hold in it."""
    cut = work.cuts[name]
    piece = cut.clips[at]
    caption, labels = said.at(piece.start_seconds, piece.start_seconds + piece.seconds, seed)
    music = said.timing.at(piece.start_seconds, piece.seconds)
    return Clip(
        id=key,
        file=piece.file,
        recording=said.recording,
        performer=said.performer,
        start_seconds=piece.start_seconds,
        seconds=piece.seconds,
        caption=caption,
        split="train",
        audio_hash=piece.audio_hash,
        source_file=name,
        source_hash=cut.source_hash,
        licence=said.licence,
        source=said.source,
        consent=said.consent,
        release=said.release,
        work=said.work,
        tradition=labels.tradition or UNKNOWN,
        mode=labels.mode[0] if labels.mode else UNKNOWN,
        cycle=labels.cycle[0] if labels.cycle else "none" if labels.free else UNKNOWN,
        section=labels.section or UNKNOWN,
        instruments=" | ".join(labels.instruments) or UNKNOWN,
        tonic_hz=labels.tonic_hz,
        beats=str(music.beats),
        chords=str(music.chords),
        extra=dict(said.extra),
    )


def _twins(words: Mapping[str, Words], work: Work, out: Path, cutting: Cutting) -> list[Twins]:
    """Files with a common stretch of sound."""
    marks = {name: known_landmarks(out, work.cuts[name].source_hash, cutting) for name in words}
    return find_twins(marks)


def _slugs(names: list[str], work: Work) -> dict[str, str]:
    """A short readable name for every file, with a part of its hash where two would be the same."""
    plain = {name: re.sub(r"\W+", "-", Path(name).stem).strip("-").lower()[:60] or "clip" for name in names}
    count = Counter(plain.values())
    return {
        name: slug if count[slug] == 1 else f"{slug}-{work.cuts[name].source_hash[:8]}"
        for name, slug in plain.items()
    }


def _report(before: dict[str, Any] | None, work: Work, cutting: Cutting) -> dict[str, Any]:
    """What this run did, for the one who typed it: {"decoded", "reused", "rebuilt_because"}."""
    changed = []
    for name, now in (
        ("clip_seconds", cutting.clip_seconds),
        ("rate_hz", cutting.rate_hz),
        ("channels", cutting.channels),
    ):
        if before is not None and before.get(name) != now:
            changed.append(f"{name} {before.get(name)} -> {now}: all clips are cut again")
    return {"decoded": work.decoded, "reused": work.reused, "rebuilt_because": changed}


def _last_word(corpus: Corpus) -> str:
    """What the one who typed the command should know first."""
    told = [
        f"{corpus.work['decoded']} cut, {corpus.work['reused']} as before",
        *corpus.work["rebuilt_because"],
    ]
    if corpus.summary["skipped"]:
        told.append(f"{len(corpus.summary['skipped'])} files skipped")
    if waiting := corpus.summary["captions_to_write"]:
        file = corpus.folder / waiting["file"]
        told.append(
            f"{waiting['recordings']} recordings have no words: type them into {file} and run this again"
        )
    return "; ".join(told)
