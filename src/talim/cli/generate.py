"""`talim generate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from talim.cli.options import BaseOption, DeviceOption, JsonOption, SamplerOption, SamplingStepsOption, SeedOption, show

EXAMPLE = (
    "Example: `talim generate --run my-run --prompt 'slow flute, raga Yaman' --out flute.flac`, or "
    "`talim generate --base mustango --prompt 'slow waltz' --beats '92 bpm 3/4' --chords 'Gm@0 Eb/G@2.5' "
    "--sampling-steps 50 --sampler ddim --out waltz.flac`, or "
    "`talim generate --run my-run --prompt 'sitar, alap' --continue my-phrase.wav --seconds 20 --out longer.flac`"
)


def generate(
    out: Annotated[Path, typer.Option(help="File (.flac, .wav, .mp3); a folder for several pieces.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="Text that describes the music; '' for none. Repeatable.", show_default="required without --continue"
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of a run: its base with its adapter.")] = None,
    base: BaseOption = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="An adapter of talim or PEFT: folder or Hub id. Repeatable: their outputs add up."),
    ] = None,
    adapter_scale: Annotated[
        list[float] | None,
        typer.Option(help="Scale of each adapter's output, 0 to 1.5; 1 is as trained. One for each."),
    ] = None,
    no_adapter: Annotated[bool, typer.Option("--no-adapter", help="The run's base without adapter.")] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Length; of a continuation, that of the new music. MusicGen continues beyond its window; Mustango "
            "generates up to 60 s.",
            show_default="10",
        ),
    ] = None,
    seed: SeedOption = 0,
    num_samples: Annotated[int, typer.Option(help="Pieces per prompt, with consecutive seeds.")] = 1,
    guidance_scale: Annotated[
        float,
        typer.Option(
            help="How strongly the prompt is followed (classifier-free guidance): by how much the difference that the "
            "text makes to the model is enlarged; 1 leaves it as it is, which is faster."
        ),
    ] = 3.0,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature (MusicGen only).", show_default="1.0")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Sample from the k most likely tokens; 0 is off (MusicGen only).", show_default="250"),
    ] = None,
    sampling_steps: SamplingStepsOption = None,
    sampler: SamplerOption = None,
    beats: Annotated[
        list[str] | None,
        typer.Option(help="'92 bpm 3/4 from 0.4' or '1@0.5 2@1.0', once or once per prompt (Mustango only)."),
    ] = None,
    chords: Annotated[
        list[str] | None, typer.Option(help="'Gm@0 Eb/G@2.5', once or once per prompt (Mustango only).")
    ] = None,
    predict_beats_chords: Annotated[
        bool,
        typer.Option("--predict-beats-chords", help="Predict beats and chords that are not given (Mustango only)."),
    ] = False,
    continue_: Annotated[
        list[Path] | None,
        typer.Option(
            "--continue",
            help="Recording to begin from, of any format: MusicGen goes on from its end, Mustango varies it. One for "
            "all prompts or one per prompt; several with one prompt.",
        ),
    ] = None,
    continue_seconds: Annotated[
        float | None, typer.Option(help="Use only the last seconds of the recording.", show_default="all of it")
    ] = None,
    leave_out_phrase: Annotated[
        bool, typer.Option("--leave-out-phrase", help="Write only what comes after the phrase (MusicGen only).")
    ] = False,
    strength: Annotated[
        float | None,
        typer.Option(
            help="How far the phrase is varied: 0 leaves it, 1 is new music (Mustango only).", show_default="0.5"
        ),
    ] = None,
    melody: Annotated[
        list[Path] | None,
        typer.Option(
            help="Recording of a hummed or played melody to follow, of any format (MusicGen-melody only). One for all "
            "prompts or one per prompt."
        ),
    ] = None,
    melody_from: Annotated[
        str | None,
        typer.Option(
            help="What is read from the melody: chroma of the whole sound, or the pitch of the leading melody, which a "
            "drone does not hide.",
            show_default="chroma",
        ),
    ] = None,
    no_transliterate: Annotated[
        bool,
        typer.Option(
            "--no-transliterate",
            help="Read the prompt as typed, also words that the base does not know. By default, as the adapter was "
            "trained.",
        ),
    ] = False,
    precision: Annotated[
        str,
        typer.Option(
            help="Number format of the base: auto (bf16 where the hardware has it), bf16, fp32, or int8 (MusicGen on a "
            "CPU: several times as fast for a large base)."
        ),
    ] = "auto",
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Generate music from text, also from a phrase on. Files are tagged as AI-generated, with base, prompt and seed."""
    from talim import progress
    from talim.backbones.generation_options import MAX_VARIATION_SECONDS
    from talim.generation import generate as generation
    from talim.generation import sources
    from talim.generation.phrase import PhraseOptions
    from talim.planning.generation_memory import memory_explained

    def source() -> sources.GenerationSource:
        chosen = sources.choose_source(run, base, adapter or [], no_adapter, adapter_scale or [])
        return replace(chosen, precision=precision, transliterate=False if no_transliterate else chosen.transliterate)

    length = generation.DEFAULT_SECONDS if seconds is None else seconds
    timed = MAX_VARIATION_SECONDS if continue_ else length  # a variation is as long as its phrase
    prompts = [""] if prompt is None and continue_ else prompt or []
    generation.check_request(prompts, length, seed, num_samples)
    with memory_explained("generate", lambda: source().base, length, device):
        rows = generation.generate_files(
            out,
            prompts=prompts,
            source=source,
            seconds=seconds,
            seed=seed,
            num_samples=num_samples,
            options=generation.GenerationOptions(guidance_scale, temperature, top_k, sampling_steps, sampler),
            beats_chords=generation.read_beats_chords(beats or [], chords or [], timed),
            predict_beats_chords=predict_beats_chords,
            phrases=continue_ or [],
            phrase_options=PhraseOptions(continue_seconds, not leave_out_phrase, strength),
            melodies=melody or [],
            melody_from=melody_from,
            progress=progress.default(),
            device=device,
        )
    show(rows, json_, "\n".join(row["file"] for row in rows))
