"""What of a run's records leaves this machine: figures, and texts that can name no recording that was kept out.

Whoever shares an adapter names those whose recordings it was trained on. Those of the test and of validation bind
nothing in it and have not been asked: they are counted. A text is therefore taken only where it is known to hold no
name of theirs; any other one, of a later version too, becomes empty.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from talim import audio

# keys whose whole value is of the adapter, its base, its training recordings or the software
WHOLE = ("adapter", "base", "cost", "init_from", "protocol", "provenance", "recipe", "trained_on")
# keys whose texts are constants of talim's, names of designs and measures, or about what was trained on
TEXTS = (
    *("answer", "best", "by", "clip", "corpus_hash", "design", "detail", "direction", "file", "kind", "loss_unit"),
    *("name", "not_compared_with", "parts", "part_names", "reason", "role", "run_id", "sentence", "source", "split"),
    *("strategy", "undecided", "unit", "validation_from", "verdict"),
)
DROPPED = ("command", "corpus", "rights")  # of `corpus` that names recordings; `rights` of those that were kept out
PROMPT = "a caption of a recording that was kept out"  # in place of a prompt
PROMPT_UNTOLD = (
    f'"{PROMPT[0].upper()}{PROMPT[1:]}": the words describe a recording that was not used to train the adapter, to '
    "measure it by music that it has not heard. They are not told, as those who play it are not named here."
)
LEFT_OUT = (
    "names, files and captions of the recordings that were kept out of training: they are counted, and called "
    "recording 1, recording 2 and so on; prompts that were their captions alone are not told"
)
PROMPT_TAGS = ("title", "prompt", "prompt_as_read")


class PublicFacts:
    """Takes names out of a run's records; one recording has one number in all that one object was given.

    `prompts` may be told: captions that recordings of the training have, too.
    """

    def __init__(self, prompts: Collection[str] = ()) -> None:
        self._prompts = {"", PROMPT, *prompts}
        self._numbers: dict[str, str] = {}

    def of(self, value: Any, key: str = "") -> Any:
        """JSON without what may name a recording that was kept out; `key` is where it stood."""
        if key in WHOLE:
            return value
        if isinstance(value, dict):
            if key == "per_recording":
                return {self._numbered(name): item for name, item in value.items()}
            return {name: self.of(item, name) for name, item in value.items() if name not in DROPPED}
        if isinstance(value, list):
            items = [self.of(item, key) for item in value]
            return [item for item in items if item != "" or key in TEXTS]
        if not isinstance(value, str) or key in TEXTS:
            return value
        if key == "prompt":
            return self.prompt(value)
        return self._numbered(value) if key == "recording" else ""

    def prompt(self, text: str) -> str:
        """A prompt as it is told."""
        return text if text in self._prompts else PROMPT

    def sample(self, path: Path) -> bytes | Path:
        """A generated piece: the file itself, or its bytes without a prompt that is not told; samples are equal."""
        tags = audio.read_tags(path)
        if tags.get("prompt", "") in self._prompts:
            return path
        kept = {name: PROMPT if name in PROMPT_TAGS else text for name, text in tags.items()}
        with TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            audio.write(copy, audio.read(path), kept)
            return copy.read_bytes()

    def _numbered(self, name: str) -> str:
        return self._numbers.setdefault(name, f"recording {len(self._numbers) + 1}")
