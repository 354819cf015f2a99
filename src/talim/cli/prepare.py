"""`talim prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import CaptionOption, HeldOutOption, JsonOption, SeedOption, show

EXAMPLE = "Example: `talim prepare my-recordings --out my-corpus --caption 'sitar, raga Yaman'`"


def prepare(
    source: Annotated[
        str, typer.Argument(help="Folder of recordings, with or without metadata.csv; or another source.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the corpus.")],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="folder, otmm, symbtr[:theory], huggingface or mirdata:LOADER; detected if not given.",
        ),
    ] = None,
    caption: CaptionOption = None,
    clip_seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 10.0,
    sample_rate: Annotated[int, typer.Option(help="Sample rate of the stored clips in Hz.")] = 32000,
    channels: Annotated[int, typer.Option(help="1, or 2 for a stereo model.")] = 1,
    held_out_fraction: Annotated[
        float | None,
        typer.Option(help="Fraction of the music kept out of training, up to 0.5; 0.2, or 0.3 of under 20 recordings."),
    ] = None,
    held_out: HeldOutOption = None,
    split_by: Annotated[str, typer.Option(help="auto, performer, lead, release, recording or blocks.")] = "auto",
    base: Annotated[
        str | None,
        typer.Option(help="Base model whose tokenizer the captions are checked with; plain letters if not given."),
    ] = None,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> None:
    """Turn recordings into a corpus of captioned clips, split by recording, with a page about it."""
    early_checks.check_name(out)
    from talim import api
    from talim.reporting import messages

    corpus = api.prepare(
        source,
        out,
        format=format,
        caption=caption,
        clip_seconds=clip_seconds,
        sample_rate=sample_rate,
        channels=channels,
        held_out_fraction=held_out_fraction,
        held_out=held_out or (),
        split_by=split_by,
        base=base,
        seed=seed,
    )
    show(corpus.summary, json_, messages.corpus_message(corpus.summary, out, source))
