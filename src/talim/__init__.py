"""Teach a music-generation model a tradition it hardly knows, with a small adapter, and measure the difference.

Stages, in the order of the work (each is also a command, `talim --help`):

    prepare        recordings -> corpus of captioned clips, split by recording
    designs        adapter designs and their exact cost, from shapes alone
    plan           memory, time, energy and money, before anything is spent
    train          one adapter in a frozen base model
    generate       music from text
    evaluate       loss and music scores on held-out recordings
    report         one HTML page about a run or a study
    study          a grid of designs, bases, corpora and seeds
    export         a run as a folder for others, a model of transformers, ONNX graphs, a repository of the Hub

Models and values:

    load_base      MusicGen or Mustango, by name, Hub id or folder
    load_adapter   a stored adapter into a loaded base
    Recipe         what is trained: base, corpus, design, seed, settings
    Corpus         what `prepare` wrote
    Run            the folder of one training
    Audio          samples [C, T] with their rate; plays in a notebook, saves to FLAC or WAV

`import talim.adapters` registers talim's adapters with PEFT, for any PyTorch model. Importing talim loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from talim.version import __version__

if TYPE_CHECKING:
    from talim.api import (
        designs,
        evaluate,
        export,
        generate,
        load_adapter,
        load_base,
        plan,
        prepare,
        report,
        study,
        train,
    )
    from talim.audio import Audio
    from talim.corpus.manifest import Corpus
    from talim.recipe import Recipe
    from talim.run import Run

_MODULE_OF = {
    "prepare": "talim.api",
    "designs": "talim.api",
    "plan": "talim.api",
    "train": "talim.api",
    "generate": "talim.api",
    "evaluate": "talim.api",
    "report": "talim.api",
    "study": "talim.api",
    "export": "talim.api",
    "load_base": "talim.api",
    "load_adapter": "talim.api",
    "Recipe": "talim.recipe",
    "Corpus": "talim.corpus.manifest",
    "Run": "talim.run",
    "Audio": "talim.audio",
}

__all__ = [
    "Audio",
    "Corpus",
    "Recipe",
    "Run",
    "__version__",
    "designs",
    "evaluate",
    "export",
    "generate",
    "load_adapter",
    "load_base",
    "plan",
    "prepare",
    "report",
    "study",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'talim' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
