"""Make music from words: with a run's adapter, with any adapter folder, or with the base alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import talim
from talim import audio
from talim.adapters import serialization
from talim.atomic_io import check_writable, write_jsonl
from talim.beats_chords import BeatsAndChords
from talim.errors import UsageError
from talim.generation.sources import AdapterChoice, GenerationSource, _check_range, load_source
from talim.progress import Progress

if TYPE_CHECKING:
    from talim.audio import Audio
    from talim.backbones.protocol import Backbone


MAX_SECONDS = 3600.0

SUFFIXES = (".flac", ".wav")

MAX_SAMPLING_STEPS = 1000

SAMPLERS = ("ddpm", "ddim", "dpm++")


@dataclass(frozen=True)
class GenerationOptions:
    """How a piece is drawn; None is as usual. A guidance of 1 leaves the words' pull as trained.

    Temperature and top-k are for bases that draw tokens, steps and sampler for those that remove noise.
    """

    guidance: float = 3.0
    temperature: float | None = None
    top_k: int | None = None
    steps: int | None = None
    sampler: str | None = None

    def __post_init__(self) -> None:
        _check_range("--guidance", self.guidance, 1.0, 50.0)
        if self.temperature is not None:
            _check_range("--temperature", self.temperature, 0.0, 10.0)
        if self.top_k is not None and self.top_k < 0:
            raise UsageError(f"--top-k is {self.top_k}; it must be 0 (off) or more, for example 250")
        if self.steps is not None and not 1 <= self.steps <= MAX_SAMPLING_STEPS:
            raise UsageError(
                f"--steps is {self.steps}; it must be between 1 and {MAX_SAMPLING_STEPS}, 100 is usual"
            )
        if self.sampler is not None and self.sampler not in SAMPLERS:
            raise UsageError(f"--sampler is {self.sampler!r}; it must be one of {', '.join(SAMPLERS)}")

    @property
    def explicit_options(self) -> dict[str, Any]:
        """What was asked for by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def generate(
    *,
    prompts: Sequence[str],
    out: Path,
    source: GenerationSource | Callable[[], GenerationSource],
    seconds: float = 10.0,
    seed: int = 0,
    count: int = 1,
    sampling: GenerationOptions | None = None,
    music: Sequence[BeatsAndChords] = (),
    predict_music: bool = False,
    progress: Progress | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Write one file, or for many a folder with manifest.jsonl; return a row per file.

    `music` has beats and chords for each prompt, or once for all; `predict_music` lets the base guess what is not
    given. Everything that can be refused is refused before a model is loaded.
    """
    from talim.backbones import generation_options

    progress, sampling = progress or Progress(), sampling or GenerationOptions()
    files = _plan(prompts, out, seconds, seed, count)
    heard = _beats_chords_per_prompt(prompts, music)
    source = source if isinstance(source, GenerationSource) else source()
    asked = generation_options.resolve_options(source.base, sampling.explicit_options, heard, predict_music)
    backbone = load_source(source, device, progress)
    progress.log(f"base: {backbone.name}, licence {backbone.licence}; {_describe_adapters(source.adapters)}")
    if predict_music:
        heard = backbone.predict_music(prompts, heard)
    rows = []
    for index, (path, prompt, piece_seed) in enumerate(files):
        with_music = heard[index // count]
        made = generate_clip(backbone, prompt, seconds, piece_seed, asked, with_music, progress, path.name)
        row = provenance_tags(backbone, source.adapters, prompt, piece_seed, asked, with_music)
        audio.write(path, made, row)
        rows.append({"file": path.name, "seconds": round(made.seconds, 3), **row, "seed": piece_seed})
    if len(files) > 1 or out != files[0][0]:
        write_jsonl(out / "manifest.jsonl", rows)
    return [row | {"file": str(path)} for row, (path, _, _) in zip(rows, files, strict=True)]


def read_beats_chords(beats: Sequence[str], chords: Sequence[str], seconds: float) -> list[BeatsAndChords]:
    """Beats and chords as written after --beats and --chords, each once for all prompts or once for each.

    UsageError where they cannot be read, or where the two are given in different numbers.
    """
    if len({len(each) for each in (beats, chords) if len(each) > 1}) > 1:
        raise UsageError(
            f"--beats was given {len(beats)} times and --chords {len(chords)} times; give each once, or once a prompt"
        )
    pieces = max(len(beats), len(chords))
    pairs = zip(_repeated(beats, pieces), _repeated(chords, pieces), strict=True)
    return [BeatsAndChords.parse(*pair, seconds) for pair in pairs]


def _repeated(texts: Sequence[str], count: int) -> list[str]:
    return [*texts] if len(texts) == count else [*(texts or [""])] * count


def _beats_chords_per_prompt(prompts: Sequence[str], music: Sequence[BeatsAndChords]) -> list[BeatsAndChords]:
    """Beats and chords for every prompt, in order."""
    if len(music) <= 1:
        return [*(music or [BeatsAndChords()])] * len(prompts)
    if len(music) != len(prompts):
        raise UsageError(
            f"--beats or --chords were given {len(music)} times for {len(prompts)} prompts; give one for each, in order"
        )
    return [*music]


def _describe_adapters(adapters: Sequence[AdapterChoice]) -> str:
    words = [str(c.folder) + (f" at {c.strength:g}" if c.strength != 1 else "") for c in adapters]
    return f"adapter{'s' * (len(words) > 1)}: {', '.join(words) or 'none'}"


def generate_clip(
    backbone: Backbone,
    prompt: str,
    seconds: float,
    seed: int,
    asked: Mapping[str, Any],
    music: BeatsAndChords,
    progress: Progress,
    title: str,
) -> Audio:
    """A single piece [C, T]; `asked` are the base's options."""
    return backbone.generate(
        [prompt],
        seconds,
        seed,
        progress=lambda done, total: progress.step(f"generating {title}", done, total),
        music=[music] if music else None,
        **asked,
    )[0]


def provenance_tags(
    backbone: Backbone,
    adapters: Sequence[AdapterChoice],
    prompt: str,
    seed: int,
    asked: Mapping[str, Any],
    music: BeatsAndChords,
) -> dict[str, str]:
    """What a file says about itself; the words AI-generated come first."""
    tags = {
        "title": prompt,
        "ai_generated": "AI-generated",
        "software": f"talim {talim.__version__}",
        "base": backbone.name,
        "base_fingerprint": backbone.fingerprint,
        "base_licence": backbone.licence,
        "adapter": "none",
        "prompt": prompt,
        "seed": str(seed),
    }
    if adapters:
        tags["adapter"] = "; ".join(f"{c.folder.resolve().parent.name}/{c.folder.name}" for c in adapters)
        tags["adapter_design"] = "; ".join(
            str(serialization.read_info(c.folder)["expression"]) for c in adapters
        )
        tags["adapter_strength"] = "; ".join(f"{c.strength:g}" for c in adapters)
    tags |= {name: str(part) for name, part in (("beats", music.beats), ("chords", music.chords)) if part}
    return tags | {name: str(value) for name, value in asked.items()}


def _plan(
    prompts: Sequence[str], out: Path, seconds: float, seed: int, count: int
) -> list[tuple[Path, str, int]]:
    """The files to write as (path, prompt, seed); UsageError or TalimError for what cannot be."""
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UsageError(
            "--prompt is empty; describe the music, for example --prompt 'slow flute, raga Yaman'"
        )
    _check_range("--seconds", seconds, 0.1, MAX_SECONDS)
    if not 1 <= count <= 10_000:
        raise UsageError(f"--count is {count}; it must be between 1 and 10000")
    if seed < 0 or seed + count > 2**31:
        raise UsageError(f"--seed is {seed}; it must be between 0 and {2**31 - count}")
    many = len(prompts) * count > 1
    if many and out.suffix.lower() in (*SUFFIXES, ".mp3", ".ogg"):
        raise UsageError(
            f"--out {out}: {len(prompts) * count} pieces need a folder; give a name without a suffix"
        )
    if not many and out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out}: expected a file name that ends in .flac or .wav")
    wanted = [(prompt, seed + i) for prompt in prompts for i in range(count)]
    paths = [out / f"{i:04d}.flac" for i in range(1, len(wanted) + 1)] if many else [out]
    check_writable(paths[0])
    return [(path, prompt, piece_seed) for path, (prompt, piece_seed) in zip(paths, wanted, strict=True)]
