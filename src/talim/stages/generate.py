"""Make music from words: with a run's adapter, with any adapter folder, or with the base alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import talim
from talim import audio
from talim.adapters import store
from talim.errors import TalimError, UsageError
from talim.run import Run, check_writable, write_jsonl
from talim.stages.progress import Progress

if TYPE_CHECKING:
    from talim.audio import Audio
    from talim.backbones.backbone import Backbone

LONGEST_SECONDS = 3600.0
SUFFIXES = (".flac", ".wav")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. A guidance of 1 leaves the words' pull as trained; 3 is MusicGen's habit."""

    guidance: float = 3.0
    temperature: float = 1.0
    top_k: int = 250

    def __post_init__(self) -> None:
        _within("--guidance", self.guidance, 1.0, 50.0)
        _within("--temperature", self.temperature, 0.0, 10.0)
        if self.top_k < 0:
            raise UsageError(f"--top-k is {self.top_k}; it must be 0 (off) or more, for example 250")


@dataclass(frozen=True)
class Source:
    """Which base and which adapter to use; `adapter` None means the base alone."""

    base: str
    adapter: Path | None


def generate(
    *,
    prompts: Sequence[str],
    out: Path,
    source: Source | Callable[[], Source],
    seconds: float = 10.0,
    seed: int = 0,
    count: int = 1,
    sampling: Sampling | None = None,
    progress: Progress | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Write one file, or for many a folder with manifest.jsonl; return a row per file.

    Everything that can be refused is refused before a model is loaded.
    """
    progress, sampling = progress or Progress(), sampling or Sampling()
    files = _plan(prompts, out, seconds, seed, count)
    source = source if isinstance(source, Source) else source()
    backbone = load_source(source, device)
    progress.say(f"base: {backbone.name}, licence {backbone.licence}; adapter: {source.adapter or 'none'}")
    rows = []
    for path, prompt, piece_seed in files:
        made = one(backbone, prompt, seconds, piece_seed, sampling, progress, path.name)
        row = provenance_tags(backbone, source.adapter, prompt, piece_seed, sampling)
        audio.write(path, made, row)
        rows.append({"file": path.name, "seconds": round(made.seconds, 3), **row, "seed": piece_seed})
    if len(files) > 1 or out != files[0][0]:
        write_jsonl(out / "manifest.jsonl", rows)
    return [row | {"file": str(path)} for row, (path, _, _) in zip(rows, files, strict=True)]


def choose_source(run: Path | None, base: str | None, adapter: Path | None, no_adapter: bool) -> Source:
    """What --run, --base, --adapter and --no-adapter mean together; UsageError where they contradict."""
    if run is not None:
        if base is not None or adapter is not None:
            raise UsageError("--run already says base and adapter; leave out --base and --adapter")
        from talim.stages.train import stored_recipe

        folder = Run(run)
        recipe = stored_recipe(folder)
        if not no_adapter and not folder.adapter.is_dir():
            raise TalimError(f"{run}: its training is not finished; go on with: talim train --out {run}")
        return Source(recipe.base, None if no_adapter else folder.adapter)
    if adapter is not None and no_adapter:
        raise UsageError("--adapter and --no-adapter contradict each other; leave one out")
    if adapter is not None:
        info = store.read_info(adapter)
        return Source(base or info["base"]["name"], adapter)
    if base is None:
        raise UsageError("say what to generate with: --run RUN, --adapter FOLDER or --base NAME")
    return Source(base, None)


def load_source(source: Source, device: str = "auto") -> Backbone:
    """The base with the adapter in it, ready to generate. TalimError if the adapter does not fit."""
    from talim.backbones.load import load

    if source.adapter is not None:
        store.read_info(source.adapter)  # a wrong folder should not cost a model's loading time
    backbone = load(source.base, device=device)
    if source.adapter is not None:
        store.load(backbone, source.adapter)
    backbone.model.eval()
    return backbone


def one(
    backbone: Backbone,
    prompt: str,
    seconds: float,
    seed: int,
    sampling: Sampling,
    progress: Progress,
    title: str,
) -> Audio:
    """A single piece [C, T]; beyond the model's window it goes on from an overlap."""
    return backbone.generate(
        [prompt],
        seconds,
        seed,
        progress=lambda done, total: progress.step(f"generating {title}", done, total),
        **asdict(sampling),
    )[0]


def provenance_tags(
    backbone: Backbone, adapter: Path | None, prompt: str, seed: int, sampling: Sampling
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
    if adapter is not None:
        info = store.read_info(adapter)
        tags["adapter"] = f"{adapter.resolve().parent.name}/{adapter.name}"
        tags["adapter_design"] = str(info["expression"])
    return tags | {name: str(value) for name, value in asdict(sampling).items()}


def _plan(
    prompts: Sequence[str], out: Path, seconds: float, seed: int, count: int
) -> list[tuple[Path, str, int]]:
    """The files to write as (path, prompt, seed); UsageError or TalimError for what cannot be."""
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise UsageError(
            "--prompt is empty; describe the music, for example --prompt 'slow flute, raga Yaman'"
        )
    _within("--seconds", seconds, 0.1, LONGEST_SECONDS)
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


def _within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{name} is {value:g}; it must be between {low:g} and {high:g}")
