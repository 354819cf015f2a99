"""The page of a Hugging Face Space: makes music with the graphs beside it, one piece at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio  # pyright: ignore[reportMissingImports]
from generate import Music  # pyright: ignore[reportMissingImports]

WAITING = 20  # pieces that may wait


def make_page(folder: Path) -> Any:
    """The page: a prompt, length, seed, guidance and temperature; the piece as a WAV file."""
    music = Music(folder)
    settings = music.settings
    longest = settings["most_frames"] / settings["frame_rate_hz"]

    shown = gradio.Progress()  # gradio finds it among the defaults, and gives each call its own

    def make(
        prompt: str, seconds: float, seed: float, guidance: float, temperature: float, progress: Any = shown
    ) -> str:
        def show(done: int, total: int) -> None:
            progress((done, total))

        codes = music.codes(prompt, seconds, int(seed), guidance, temperature, progress=show)
        with tempfile.NamedTemporaryFile(suffix=".wav", delete=False) as file:
            music.save(music.sound(codes), file.name)
        return file.name

    inputs = [
        gradio.Textbox(label="Prompt", value=settings["prompt"], max_length=1000),
        gradio.Slider(1, longest, value=min(10.0, longest), step=1, label="Seconds"),
        gradio.Number(0, label="Seed", precision=0),
        gradio.Slider(1, 8, value=3, step=0.5, label="Guidance (1: off)"),
        gradio.Slider(0, 1.5, value=1, step=0.05, label="Temperature (0: the most likely codes)"),
    ]
    page = gradio.Interface(
        make,
        inputs,
        gradio.Audio(type="filepath", format="wav", label="Music, AI-generated"),
        title=settings["title"],
        description=settings["about"],
        flagging_mode="never",
        cache_examples=False,
    )
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


if __name__ == "__main__":
    make_page(Path(__file__).parent).launch()
