"""Generate audio from text with a base model and, usually, adapters; as `Audio` objects or as tagged files."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.audio import AudioStream
from talim.backbones.adapter_folder import AdapterFolder
from talim.backbones.devices import check_device_name
from talim.backbones.generation_options import resolve_options
from talim.backbones.precision import check_precision_name
from talim.backbones.readable_text import reading_notes
from talim.backbones.resolve import resolve_source
from talim.backbones.streamed_pieces import StreamedPieces
from talim.beats_chords import BeatsAndChords
from talim.corpus.melody import melody_of
from talim.errors import UsageError
from talim.generation.melody import GivenMelody, pair_melodies, read_melodies
from talim.generation.output import choose_output
from talim.generation.phrase import ALL_KEPT, Phrase, PhraseOptions, pair_phrases, read_phrases
from talim.generation.sources import AdapterChoice, GenerationSource, check_range, load_source
from talim.html.formatting import format_counted
from talim.interrupts import RESUME_PREFIX, Interrupted
from talim.progress import Progress
from talim.terminal_text import one_line
from talim.version import __version__

if TYPE_CHECKING:
    import numpy as np

    from talim.audio import Audio
    from talim.backbones.protocol import Backbone

DEFAULT_SECONDS = 10.0
MAX_SECONDS = 3600.0
MAX_SAMPLES = 10_000  # per prompt
MAX_SEED = 2**31
MAX_PROMPT_LETTERS = 5000
MAX_SAMPLING_STEPS = 1000
INT8_PARAMETERS = 100e6  # of a base, from which on reading its weights takes most of the time
MAX_SHOWN, MAX_TEXTS = 200, 3  # letters of a prompt that is repeated, and how many are
LONG_SECONDS = 60.0  # of a piece, from which on it is told where it is while it is written
SAMPLERS = ("ddpm", "ddim", "dpm++")


@dataclass(frozen=True)
class GenerationOptions:
    """Sampling options; None is the base's default. UsageError for values out of range.

    `guidance_scale` 1 is without classifier-free guidance. `temperature` and `top_k` are for bases that sample tokens,
    `sampling_steps` and `sampler` for diffusion bases.
    """

    guidance_scale: float = 3.0
    temperature: float | None = None
    top_k: int | None = None
    sampling_steps: int | None = None
    sampler: str | None = None

    def __post_init__(self) -> None:
        check_range("--guidance-scale", self.guidance_scale, 1.0, 50.0)
        if self.temperature is not None:
            check_range("--temperature", self.temperature, 0.0, 10.0)
        if self.top_k is not None and self.top_k < 0:
            raise UsageError(f"--top-k is {self.top_k}; it must be 0 (off) or more, for example 250")
        steps = self.sampling_steps
        if steps is not None and not 1 <= steps <= MAX_SAMPLING_STEPS:
            raise UsageError(f"--sampling-steps is {steps}; it must be 1 to {MAX_SAMPLING_STEPS}, 100 is usual")
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise UsageError(f"--sampler is {self.sampler!r}; it must be one of {', '.join(SAMPLERS)}")

    @property
    def explicit_options(self) -> dict[str, Any]:
        """The options that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class PieceRequest:
    """One piece: its prompt, seed, length, beats and chords, phrase, and what it shares with the others of one call."""

    prompt: str
    seed: int
    seconds: float
    beats_chords: BeatsAndChords
    shared: Mapping[str, Any]  # base by name, adapters by content and scale, options
    phrase: Phrase | None = None
    phrase_options: PhraseOptions = ALL_KEPT
    melody: GivenMelody | None = None

    @property
    def key(self) -> str:
        """Sixteen hex digits: equal requests to equal weights give equal sound."""
        given = {"prompt": self.prompt, "seed": self.seed, "seconds": self.seconds, **self.shared}
        if self.phrase is not None:
            given["phrase"] = [self.phrase.hash, self.phrase_options.keep, self.phrase_options.strength]
        if self.melody is not None:
            given["melody"] = [self.melody.hash, self.melody.source]
        given |= {"beats": str(self.beats_chords.beats), "chords": str(self.beats_chords.chords)}
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode("utf-8", "backslashreplace")).hexdigest()[:16]


class Generation:
    """The pieces of one call; they are checked when it is made, the model is loaded for the first piece.

    UsageError and TalimError for a request that cannot be met are raised before the model is loaded. `beats_chords`
    holds one entry for all prompts or one per prompt; with `predict_beats_chords` the base predicts what is missing.
    `phrases` are files or sounds to begin from, one for all prompts or one per prompt (or several for one prompt): the
    pieces go on from them for `seconds`, or are variations of the same length, as the base does it. `melodies` are
    what a base conditioned on them follows, given as phrases are; `melody_from` is "chroma" (None) or "pitch".
    """

    def __init__(  # noqa: PLR0913
        self,
        *,
        prompts: Sequence[str],
        source: GenerationSource | Callable[[], GenerationSource],
        seconds: float | None = None,
        seed: int = 0,
        num_samples: int = 1,
        options: GenerationOptions = GenerationOptions(),
        beats_chords: Sequence[BeatsAndChords] = (),
        predict_beats_chords: bool = False,
        phrases: Sequence[Audio | Path | str] = (),
        phrase_options: PhraseOptions = ALL_KEPT,
        melodies: Sequence[Audio | Path | str] = (),
        melody_from: str | None = None,
        progress: Progress | None = None,
        device: str = "auto",
    ) -> None:
        length = DEFAULT_SECONDS if seconds is None else seconds
        check_request(prompts, length, seed, num_samples)
        prompts = [prompt if prompt.strip() else "" for prompt in prompts]
        check_device_name(device)
        self.source = source = source if isinstance(source, GenerationSource) else source()
        check_precision_name(source.precision, device)
        read, self.phrase_options = read_phrases(source.base, phrases, phrase_options, seconds)
        prompts, used = pair_phrases(prompts, read)
        followed = pair_melodies(len(prompts), read_melodies(source.base, melodies, melody_from))
        varies = self.phrase_options.strength is not None
        lengths = [phrase.audio.seconds if varies and phrase else length for phrase in used]
        conditions = _beats_chords_per_prompt(prompts, beats_chords)
        late_chords: list[str] = []
        if varies:  # beats of a tempo go on to the longest phrase there can be
            conditions, late_chords = _within(conditions, lengths)
        self.options = resolve_options(source.base, options.explicit_options, conditions, predict_beats_chords)
        if predict_beats_chords:
            from talim.backbones.load import check_predictors

            check_predictors(source.base)
        self.prompts, self.device, self.progress = prompts, device, progress or Progress()
        for line in late_chords:
            self.progress.log(line)
        self._conditions, self._predict = conditions, predict_beats_chords
        shared = {"base": resolve_source(source.base).name, "options": self.options}
        shared |= {"predict": predict_beats_chords, "adapters": [choice.identity for choice in source.adapters]}
        shared |= {} if source.transliterate is None else {"transliterate": source.transliterate}
        shared |= {} if source.precision == "auto" else {"precision": source.precision}
        self.pieces = [
            PieceRequest(prompt, seed + offset, of_piece, condition, shared, phrase, self.phrase_options, melody)
            for prompt, of_piece, condition, phrase, melody in zip(
                prompts, lengths, conditions, used, followed, strict=True
            )
            for offset in range(num_samples)
        ]

    @cached_property
    def backbone(self) -> Backbone:
        """The base with its adapters, loaded now; what it is and what it cannot read is reported."""
        if self.source.note:
            self.progress.log(self.source.note)
        backbone = load_source(self.source, self.device, self.progress, self.prompts)
        adapters = [f"{c.folder}{f' at scale {c.scale:g}' if c.scale != 1 else ''}" for c in self.source.adapters]
        commit = f" (commit {backbone.revision})" if backbone.revision else ""
        self.progress.log(
            f"base: {backbone.name}{commit}, licence {backbone.licence}; "
            f"adapter{'s' * (len(adapters) > 1)}: {', '.join(adapters) or 'none'}"
        )
        self.progress.log(f"precision: {backbone.precision_reason}")
        if (hint := faster_precision(backbone, self.source.precision)) is not None:
            self.progress.log(hint)
        what = "the prompts" if len(self.prompts) > 1 else "the prompt"
        for line in reading_notes(backbone, self.prompts, what, "as typed: --no-transliterate"):
            self.progress.log(line)
        if given := [prompt for prompt in dict.fromkeys(self.prompts) if prompt]:
            texts = ", ".join(one_line(repr(prompt), MAX_SHOWN) for prompt in given[:MAX_TEXTS])
            more = f" and {len(given) - MAX_TEXTS} more" * (len(given) > MAX_TEXTS)
            self.progress.log(
                f"the model is told this text and nothing else: {texts}{more}; a raga, tala or instrument that the "
                "text does not name is not told"
            )
        if empty := self.prompts.count(""):
            which = f"{empty} of {len(self.prompts)} prompts are" if len(self.prompts) > 1 else "the prompt is"
            self.progress.log(f"note: {which} empty: no words say what is played; {self._without_guidance}")
        for phrase in {id(piece.phrase): piece.phrase for piece in self.pieces if piece.phrase}.values():
            for remark in phrase.remarks:
                self.progress.log(f"note: {phrase.name}: {remark}")
            self.progress.log(phrase.described(backbone, self.phrase_options))
        for line in dict.fromkeys(piece.melody.described(piece.seconds) for piece in self.pieces if piece.melody):
            self.progress.log(line)
        return backbone

    @property
    def _without_guidance(self) -> str:
        """What becomes of guidance where a prompt is empty."""
        if any(piece.melody or piece.beats_chords for piece in self.pieces) or self._predict:
            return "guidance acts on the other conditions"
        return "guidance, which strengthens what a text asks for, has nothing to act on and is skipped"

    @cached_property
    def _beats_chords(self) -> dict[tuple[str, BeatsAndChords], BeatsAndChords]:
        """Beats and chords by prompt and what was given with it, predicted where that is asked for."""
        given = list(zip(self.prompts, self._conditions, strict=True))
        if not self._predict:
            return {pair: pair[1] for pair in given}
        predicted = self.backbone.predict_beats_chords(self.prompts, self._conditions)
        return dict(zip(given, predicted, strict=True))

    @cached_property
    def _melody_classes(self) -> dict[int, np.ndarray]:
        """Pitch classes of the melodies by the melody's identity, as this base hears them."""
        melodies = {id(piece.melody): piece.melody for piece in self.pieces if piece.melody}
        return {key: melody.classes(self.backbone) for key, melody in melodies.items()}

    def generate(self, indices: Sequence[int]) -> Iterator[tuple[int, AudioStream]]:
        """Some of the pieces, each with its index; they are made together.

        A piece is made while it is saved or read, as far as it is not there already, with its provenance as tags;
        `request` is its key. It does not depend on the others.
        """
        if not indices:
            return
        pieces = [self.pieces[index] for index in indices]
        phrases = [piece.phrase.audio for piece in pieces if piece.phrase is not None]  # all have one, or none
        clips = generate_clips(
            self.backbone,
            [piece.prompt for piece in pieces],
            [piece.seconds for piece in pieces],
            [piece.seed for piece in pieces],
            {**self.options, **self._melody_options(pieces)},
            [self._condition_of(piece) for piece in pieces],
            self.progress,
            under_way=True,
            phrases=phrases,
            phrase_options=self.phrase_options,
        )
        for row, clip in clips:
            clip = self._with_gain_logged(clip, indices[row]) if phrases else clip
            yield indices[row], self._tagged(pieces[row], clip)

    def _melody_options(self, pieces: Sequence[PieceRequest]) -> dict[str, Any]:
        """The melodies of pieces, where one has one; what precedes them in a phrase is read in the same way."""
        followed = next((piece.melody for piece in pieces if piece.melody is not None), None)
        if followed is None:
            return {}
        melodies = [None if piece.melody is None else self._melody_classes[id(piece.melody)] for piece in pieces]
        if not pieces[0].phrase:
            return {"melody": melodies}
        source = followed.source
        return {"melody": melodies, "melody_of_phrase": lambda sound: melody_of(sound, self.backbone, source).classes}

    def _condition_of(self, piece: PieceRequest) -> BeatsAndChords:
        condition = self._beats_chords[piece.prompt, piece.beats_chords]
        return condition if piece.phrase is None else condition.cut(0.0, piece.seconds)  # predicted ones may go on

    def _tagged(self, piece: PieceRequest, clip: AudioStream) -> AudioStream:
        condition = self._condition_of(piece)
        tags = provenance_tags(self.backbone, self.source.adapters, piece.prompt, piece.seed, self.options, condition)
        if piece.phrase is not None:
            tags |= piece.phrase.tags(self.phrase_options)
            tags["title"] = piece.prompt or f"from {piece.phrase.name}"
        if piece.melody is not None:
            tags |= piece.melody.tags
        return replace(clip, tags=tags | {"request": piece.key})

    def _with_gain_logged(self, clip: AudioStream, index: int) -> AudioStream:
        """A clip that begins from a phrase; it is told where all of it is turned down."""
        title = f"{index + 1} of {len(self.pieces)}" if len(self.pieces) > 1 else "audio"
        logged: list[float] = []

        def blocks() -> Iterator[np.ndarray]:
            peak = 0.0
            for block in clip.blocks():
                peak = max(peak, float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
                yield block
            if peak > 1.0 and not logged:
                logged.append(peak)
                self.progress.log(
                    f"{title}: turned down by {20 * math.log10(peak):.1f} dB, so that it does not clip, its phrase too"
                )

        return replace(clip, blocks=blocks)


def faster_precision(backbone: Backbone, asked_for: str) -> str | None:
    """What would make generation faster on this device; None where nothing is known to."""
    large = backbone.num_parameters >= INT8_PARAMETERS and backbone.family == "musicgen"
    if asked_for != "auto" or backbone.device.type != "cpu" or not large:
        return None
    return "note: --precision int8 generates several times as fast on a CPU, with a small change of the sound"


def generate_audio(**request: Any) -> Iterator[Audio]:
    """Yield `num_samples` pieces of `seconds` per prompt, in order, with the seeds `seed`, `seed` + 1, ...

    The arguments are those of `Generation`; it is made, with all its checks, when the first piece is asked for.
    """
    generation = Generation(**request)
    count, waiting, following = len(generation.pieces), {}, 0
    for index, clip in generation.generate(range(count)):
        waiting[index] = clip
        while following in waiting:
            yield waiting.pop(following).read()
            following += 1


def generate_files(out: Path, **request: Any) -> list[dict[str, Any]]:
    """Write the pieces of `Generation(**request)` as soon as each is there; returns a row per piece, in order.

    `out` is a .flac, .wav or .mp3 file for one piece, and a folder for several, where pieces are numbered on and
    manifest.jsonl has a line for each. No file is overwritten: a piece that an earlier, equal request left there is
    used again. UsageError where `out` is taken by something else or does not fit the number of pieces, TalimError
    where it cannot be written; both before the model is loaded. Interrupted, the same call goes on.
    """
    count = max(len(request["prompts"]), len(request.get("phrases", ()))) * request.get("num_samples", 1)
    output = choose_output(out, count)
    generation = Generation(**request)
    progress, rows, keys = generation.progress, {}, [piece.key for piece in generation.pieces]
    with output.opened(progress, keys):
        there = {index: output.take(key, generation.backbone.fingerprint) for index, key in enumerate(keys)}
        rows = {index: row for index, row in there.items() if row is not None}
        missing = [index for index in there if index not in rows]
        try:
            for index, clip in generation.generate(missing):
                long = generation.pieces[index].seconds >= LONG_SECONDS
                rows[index] = output.add(clip, partial(_tell, progress) if long else None)
        except KeyboardInterrupt:
            if not rows:
                raise Interrupted("no piece was finished; the same command begins again") from None
            finished = f"finished and in {out}: {len(rows)} of {format_counted(count, 'piece')}"
            raise Interrupted(f"{finished}. {RESUME_PREFIX}run the same command again") from None
        finally:
            progress.close()
    if len(missing) < count:
        there_already = count - len(missing)
        which = f"{there_already} of {format_counted(count, 'piece')}"
        progress.log(f"there already, from an equal request: {which}; none is made twice")
    return [rows[index] for index in range(count)]


def _tell(progress: Progress, unfinished: Path) -> None:
    """Where a piece is while it is written."""
    progress.log(f"what is there of it can be played while it is made: {unfinished}")


def read_beats_chords(beats: Sequence[str], chords: Sequence[str], seconds: float) -> list[BeatsAndChords]:
    """Parse the texts given to --beats and --chords, each once for all prompts or once per prompt.

    UsageError where they cannot be parsed, or where the two are given in different numbers.
    """
    check_range("--seconds", seconds, 0.1, MAX_SECONDS)
    if len({len(texts) for texts in (beats, chords) if len(texts) > 1}) > 1:
        raise UsageError(
            f"--beats was given {format_counted(len(beats), 'time')} and --chords "
            f"{format_counted(len(chords), 'time')}; give each once, or once per prompt"
        )
    count = max(len(beats), len(chords))
    beats, chords = (texts if len(texts) == count else [*(texts or [""])] * count for texts in (beats, chords))
    return [BeatsAndChords.parse(*pair, seconds) for pair in zip(beats, chords, strict=True)]


def generate_clips(  # noqa: PLR0913
    backbone: Backbone,
    prompts: Sequence[str],
    seconds: Sequence[float],
    seeds: Sequence[int],
    options: Mapping[str, Any],
    beats_chords: Sequence[BeatsAndChords],
    progress: Progress,
    under_way: bool = False,
    phrases: Sequence[Audio] = (),
    phrase_options: PhraseOptions = ALL_KEPT,
) -> Iterator[tuple[int, AudioStream]]:
    """A piece for each prompt, with its index as soon as its targets are there, decoded when it is saved or read.

    `options` are the base's resolved options. Progress is told in seconds of music. With `under_way` a piece is given
    out before: what saves or reads it waits for the targets as it needs them, and those of the others come beside.
    With `phrases`, one per prompt, the pieces begin from them.
    """
    title = "generating audio, seconds" if len(prompts) == 1 else f"generating {len(prompts)} pieces, seconds"
    last = "decoding audio" if len(prompts) == 1 else "decoding the last pieces"
    given = {
        **options,
        "progress": in_seconds(progress, title, sum(seconds), last if under_way else ""),
        "beats_chords": list(beats_chords) if any(beats_chords) else None,
    }
    if phrases:
        use = {"keep_phrase": phrase_options.keep, "strength": phrase_options.strength, "under_way": under_way}
        yield from backbone.generate_from_each(phrases, prompts, seconds, seeds, **use, **given)
        return
    parts = backbone.generate_parts(prompts, seconds, seeds, **given)
    pieces = StreamedPieces(parts, len(prompts))
    for row in pieces.each():
        if not under_way:
            pieces.complete(row)
        clip = backbone.stream_parts(partial(pieces.parts_of, row), seconds[row])
        name = f"decoding {row + 1} of {len(prompts)}" if len(prompts) > 1 else "decoding audio"
        yield row, _with_progress(clip, seconds[row], progress, name, partial(pieces.ended, row))


def in_seconds(progress: Progress, title: str, seconds: float, last: str = "") -> Callable[[int, int], None]:
    """A base's progress in any unit, told in seconds of music with how many are made in a second.

    `last` is what begins when all is made: turning its end into sound, which may take as long again.
    """
    begun = time.monotonic()

    def report(done: int, of: int) -> None:
        music, total = seconds * done / of, max(1, round(seconds))
        speed = music / max(time.monotonic() - begun, 1e-9)
        there = total if done >= of else min(round(music), total - 1)  # all of it is told when it is there
        progress.step(title, there, total, f"{speed:.2g} times real time")
        if last and done >= of:
            progress.step(last, 0, total)

    return report


def _with_progress(
    clip: AudioStream, seconds: float, progress: Progress, title: str, is_there: Callable[[], bool]
) -> AudioStream:
    """A clip that reports how many of its seconds are decoded, as soon as making them does not take the time."""

    def blocks() -> Iterator[np.ndarray]:
        done, total = 0, max(1, round(seconds))
        for block in clip.blocks():
            done += block.shape[1]
            if is_there():
                progress.step(title, min(round(done / clip.rate_hz), total), total)
            yield block

    return replace(clip, blocks=blocks)


def provenance_tags(
    backbone: Backbone,
    adapters: Sequence[AdapterChoice],
    prompt: str,
    seed: int,
    options: Mapping[str, Any],
    beats_chords: BeatsAndChords,
) -> dict[str, str]:
    """Tags of a generated file: that it is AI-generated, and from which base, adapters, prompt, seed and options."""
    tags = {
        "title": prompt or "without a prompt",
        "ai_generated": "AI-generated",
        "software": f"talim {__version__}",
        "base": backbone.name,
        "base_fingerprint": backbone.fingerprint,
        "base_licence": backbone.licence,
        "adapter": "none",
        "prompt": prompt,
        "seed": str(seed),
    }
    if (read := backbone.read_as(prompt)) != prompt:
        tags["prompt_as_read"] = read
    if adapters:
        from talim.adapters import serialization

        tags["adapter"] = "; ".join(f"{c.folder.resolve().parent.name}/{c.folder.name}" for c in adapters)
        tags["adapter_design"] = "; ".join(str(serialization.read_info(c.folder)["design"]) for c in adapters)
        tags["adapter_licence"] = "; ".join(AdapterFolder(c.folder).licence for c in adapters)
        tags["adapter_scale"] = "; ".join(f"{c.scale:g}" for c in adapters)
    written = {"beats": beats_chords.beats, "chords": beats_chords.chords, **options}
    return tags | {name: str(value) for name, value in written.items() if value or name not in ("beats", "chords")}


def check_request(prompts: Sequence[str], seconds: float, seed: int, num_samples: int) -> None:
    """UsageError for no prompt at all and for numbers out of range; imports nothing heavy."""
    if not prompts:
        raise UsageError(
            "--prompt is missing; describe the music, for example --prompt 'slow flute, raga Yaman', or use --prompt ''"
        )
    for prompt in prompts:
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise UsageError(f"--prompt {prompt[:100]!r}: holds bytes that are no letters; type it again, in UTF-8")
        if len(prompt) > MAX_PROMPT_LETTERS:
            raise UsageError(f"--prompt has {len(prompt)} letters; base models read a sentence or two: shorten it")
    check_range("--seconds", seconds, 0.1, MAX_SECONDS)
    if not 1 <= num_samples <= MAX_SAMPLES:
        raise UsageError(f"--num-samples is {num_samples}; it must be between 1 and {MAX_SAMPLES}")
    if seed < 0 or seed + num_samples > MAX_SEED:
        raise UsageError(f"--seed is {seed}; it must be between 0 and {MAX_SEED - num_samples}")


def _beats_chords_per_prompt(prompts: Sequence[str], beats_chords: Sequence[BeatsAndChords]) -> list[BeatsAndChords]:
    if len(beats_chords) <= 1:
        return [*(beats_chords or [BeatsAndChords()])] * len(prompts)
    if len(beats_chords) != len(prompts):
        raise UsageError(
            f"--beats or --chords were given {format_counted(len(beats_chords), 'time')} for "
            f"{format_counted(len(prompts), 'prompt')}; "
            "give one for each, in order"
        )
    return [*beats_chords]


def _within(conditions: Sequence[BeatsAndChords], lengths: Sequence[float]) -> tuple[list[BeatsAndChords], list[str]]:
    """Beats and chords up to each length in seconds, and a line for chords that are left out."""
    cut = [condition.cut(0.0, seconds) for condition, seconds in zip(conditions, lengths, strict=True)]
    lines = []
    for given, kept, seconds in zip(conditions, cut, lengths, strict=True):
        if late := len(given.chords.names) - len(kept.chords.names):
            lines.append(f"note: {format_counted(late, 'chord')} left out, after the phrase's {seconds:.2f} s")
    return cut, list(dict.fromkeys(lines))
