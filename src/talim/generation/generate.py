"""Generate audio from text with a base model and, usually, adapters; as `Audio` objects or as tagged files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.adapters import serialization
from talim.atomic_io import check_writable, write_jsonl
from talim.backbones.generation_options import resolve_options
from talim.beats_chords import BeatsAndChords
from talim.errors import UsageError
from talim.generation.sources import AdapterChoice, GenerationSource, check_range, load_source
from talim.progress import Progress
from talim.version import __version__

if TYPE_CHECKING:
    from talim.audio import Audio
    from talim.backbones.protocol import Backbone

MAX_SECONDS = 3600.0
MAX_SAMPLES = 10_000  # per prompt
MAX_SEED = 2**31
MAX_SAMPLING_STEPS = 1000
SUFFIXES = (".flac", ".wav")
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


def generate_audio(  # noqa: PLR0913
    *,
    prompts: Sequence[str],
    source: GenerationSource | Callable[[], GenerationSource],
    seconds: float = 10.0,
    seed: int = 0,
    num_samples: int = 1,
    options: GenerationOptions = GenerationOptions(),
    beats_chords: Sequence[BeatsAndChords] = (),
    predict_beats_chords: bool = False,
    progress: Progress | None = None,
    device: str = "auto",
) -> Iterator[Audio]:
    """Yield `num_samples` pieces of `seconds` per prompt, in order, with the seeds `seed`, `seed` + 1, ...

    `beats_chords` holds one entry for all prompts or one per prompt; `predict_beats_chords` lets the base predict what
    is missing. The pieces' tags hold their provenance. The model is loaded for the first piece; UsageError and
    TalimError for the request are raised before that.
    """
    _check_request(prompts, seconds, seed, num_samples)
    conditions = _beats_chords_per_prompt(prompts, beats_chords)
    source = source if isinstance(source, GenerationSource) else source()
    resolved = resolve_options(source.base, options.explicit_options, conditions, predict_beats_chords)
    progress = progress or Progress()
    backbone = load_source(source, device, progress)
    adapters = [f"{c.folder}{f' at scale {c.scale:g}' if c.scale != 1 else ''}" for c in source.adapters]
    progress.log(
        f"base: {backbone.name}, licence {backbone.licence}; "
        f"adapter{'s' * (len(adapters) > 1)}: {', '.join(adapters) or 'none'}"
    )
    if predict_beats_chords:
        conditions = backbone.predict_beats_chords(prompts, conditions)
    total = len(prompts) * num_samples
    pairs = itertools.product(zip(prompts, conditions, strict=True), range(num_samples))
    for number, ((prompt, condition), offset) in enumerate(pairs, start=1):
        title = f"{number} of {total}" if total > 1 else "audio"
        piece = generate_clip(backbone, prompt, seconds, seed + offset, resolved, condition, progress, title)
        tags = provenance_tags(backbone, source.adapters, prompt, seed + offset, resolved, condition)
        yield replace(piece, tags=tags)


def write_audio(pieces: Iterable[Audio], out: Path, count: int) -> list[dict[str, Any]]:
    """Write the `count` pieces of `generate_audio` as soon as each is there; returns a row per file.

    `out` is a .flac or .wav file for one piece, and a folder, with manifest.jsonl, for several. UsageError where it
    does not fit their number, TalimError where it cannot be written; both before the first piece is generated.
    """
    if count > 1 and out.suffix.lower() in (*SUFFIXES, ".mp3", ".ogg"):
        raise UsageError(f"--out {out}: {count} pieces need a folder; give a name without a suffix")
    if count == 1 and out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out}: expected a file name that ends in .flac or .wav")
    check_writable(out / "manifest.jsonl" if count > 1 else out)
    rows = []
    for number, piece in enumerate(pieces, start=1):
        path = out / f"{number:04d}.flac" if count > 1 else out
        piece.save(path)
        facts = {"file": path.name, "seconds": round(piece.seconds, 3)}
        rows.append(facts | {**piece.tags, "seed": int(piece.tags["seed"])})
    if count > 1:
        write_jsonl(out / "manifest.jsonl", rows)
        return [row | {"file": str(out / row["file"])} for row in rows]
    return [row | {"file": str(out)} for row in rows]


def read_beats_chords(beats: Sequence[str], chords: Sequence[str], seconds: float) -> list[BeatsAndChords]:
    """Parse the texts given to --beats and --chords, each once for all prompts or once per prompt.

    UsageError where they cannot be parsed, or where the two are given in different numbers.
    """
    if len({len(texts) for texts in (beats, chords) if len(texts) > 1}) > 1:
        raise UsageError(
            f"--beats was given {len(beats)} times and --chords {len(chords)} times; give each once, or once per prompt"
        )
    count = max(len(beats), len(chords))
    beats, chords = (texts if len(texts) == count else [*(texts or [""])] * count for texts in (beats, chords))
    return [BeatsAndChords.parse(*pair, seconds) for pair in zip(beats, chords, strict=True)]


def generate_clip(
    backbone: Backbone,
    prompt: str,
    seconds: float,
    seed: int,
    options: Mapping[str, Any],
    beats_chords: BeatsAndChords,
    progress: Progress,
    title: str,
) -> Audio:
    """One piece of `seconds`, samples [C, T]; `options` are the base's resolved options."""
    return backbone.generate(
        [prompt],
        seconds,
        seed,
        progress=lambda done, total: progress.step(f"generating {title}", done, total),
        beats_chords=[beats_chords] if beats_chords else None,
        **options,
    )[0]


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
        "title": prompt,
        "ai_generated": "AI-generated",
        "software": f"talim {__version__}",
        "base": backbone.name,
        "base_fingerprint": backbone.fingerprint,
        "base_licence": backbone.licence,
        "adapter": "none",
        "prompt": prompt,
        "seed": str(seed),
    }
    if adapters:
        tags["adapter"] = "; ".join(f"{c.folder.resolve().parent.name}/{c.folder.name}" for c in adapters)
        tags["adapter_design"] = "; ".join(str(serialization.read_info(c.folder)["design"]) for c in adapters)
        tags["adapter_scale"] = "; ".join(f"{c.scale:g}" for c in adapters)
    written = {"beats": beats_chords.beats, "chords": beats_chords.chords, **options}
    return tags | {name: str(value) for name, value in written.items() if value or name not in ("beats", "chords")}


def _check_request(prompts: Sequence[str], seconds: float, seed: int, num_samples: int) -> None:
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UsageError("--prompt is empty; describe the music, for example --prompt 'slow flute, raga Yaman'")
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
            f"--beats or --chords were given {len(beats_chords)} times for {len(prompts)} prompts; "
            "give one for each, in order"
        )
    return [*beats_chords]
