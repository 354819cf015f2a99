"""The command that makes music: options of every family of bases, refused where a base has no use for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli.options import (
    BaseOption,
    DeviceOption,
    JsonOption,
    SamplerOption,
    SamplingStepsOption,
    SeedOption,
    show,
)

EXAMPLE = (
    "Example: `talim generate --run my-run --prompt 'slow flute, raga Yaman' --out flute.flac`, or "
    "`talim generate --base mustango --prompt 'slow waltz' --beats '92 bpm 3/4' --chords 'Gm@0 Eb/G@2.5' --steps 50 "
    "--sampler ddim --out waltz.flac`"
)


def generate(
    prompt: Annotated[list[str], typer.Option(help="Words for the music. May be repeated.")],
    out: Annotated[Path, typer.Option(help="File (.flac, .wav); a folder where there are many pieces.")],
    run: Annotated[Path | None, typer.Option(help="Folder of a run: its base and its adapter.")] = None,
    base: BaseOption = None,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="Folder of an adapter. May be repeated: they act together.")
    ] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option(help="How strongly each adapter acts: 0 to 1.5, 1 as trained. One for each."),
    ] = None,
    no_adapter: Annotated[bool, typer.Option("--no-adapter", help="The base of the run, alone.")] = False,
    seconds: Annotated[
        float,
        typer.Option(help="Length; MusicGen goes on beyond its window by overlap, Mustango makes up to 60."),
    ] = 10.0,
    seed: SeedOption = 0,
    count: Annotated[int, typer.Option(help="Pieces per prompt, with consecutive seeds.")] = 1,
    guidance: Annotated[float, typer.Option(help="How strongly the words pull; 1 is not at all.")] = 3.0,
    temperature: Annotated[
        float | None, typer.Option(help="MusicGen: below 1 safer, above 1 wilder.", show_default="1.0")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="MusicGen: draw each token from this many likeliest.", show_default="250"),
    ] = None,
    steps: SamplingStepsOption = None,
    sampler: SamplerOption = None,
    beats: Annotated[
        list[str] | None,
        typer.Option(help="Mustango: '92 bpm 3/4 from 0.4' or '1@0.5 2@1.0'. Once, or once a prompt."),
    ] = None,
    chords: Annotated[
        list[str] | None, typer.Option(help="Mustango: 'Gm@0 Eb/G@2.5'. Once, or once a prompt.")
    ] = None,
    predict_music: Annotated[
        bool,
        typer.Option(
            "--predict-music", help="Mustango: its own networks guess the beats and chords not given."
        ),
    ] = False,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Make music from words; every file says in its tags that it is AI-generated, and by what."""
    from talim import progress
    from talim.generation import generate as stage
    from talim.generation import sources

    rows = stage.generate(
        prompts=prompt,
        out=out,
        source=lambda: sources.choose_source(run, base, adapter or [], no_adapter, strength or []),
        seconds=seconds,
        seed=seed,
        count=count,
        sampling=stage.GenerationOptions(guidance, temperature, top_k, steps, sampler),
        music=stage.read_beats_chords(beats or [], chords or [], seconds),
        predict_music=predict_music,
        progress=progress.for_terminal(),
        device=device,
    )
    show(rows, json_, "\n".join(row["file"] for row in rows))
