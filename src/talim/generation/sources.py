"""What to generate with: a base and adapters, chosen by a run, by folders or by name, and loaded."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from talim.atomic_io import read_json
from talim.backbones.adapter_folder import PICKLED, WEIGHTS, AdapterFolder, find_adapter
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.path_suggestions import did_you_mean
from talim.progress import Progress
from talim.run import POC_DECISIONS, Run, is_poc
from talim.training.model_card import CAPTIONED

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone


MAX_ADAPTER_SCALE = 1.5
WITHOUT_WORDS = (
    "note: {} was trained without captions: words are left to the base; the adapter itself goes with --prompt ''"
)
MAX_NAMED_RUNS = 8


@dataclass(frozen=True)
class AdapterChoice:
    """An adapter's folder and its scale: 0 is the base alone, 1 as trained, at most 1.5."""

    folder: Path
    scale: float = 1.0

    @property
    def identity(self) -> list[Any]:
        """Sixteen hex digits of the adapter's weights, and its scale; the folder's name where it has no weights."""
        weights = next((f for name in (WEIGHTS, PICKLED) if (f := self.folder / name).is_file()), None)
        if weights is None:
            return [str(self.folder), self.scale]
        with open(weights, "rb") as file:
            return [hashlib.file_digest(file, "sha256").hexdigest()[:16], self.scale]


@dataclass(frozen=True)
class GenerationSource:
    """The base and the adapters to generate with; no adapters means the base alone."""

    base: str
    adapters: tuple[AdapterChoice, ...] = ()
    note: str = ""  # how they were chosen, where that is not plain from what was asked for
    # whether words that the base does not know are read in letters that it knows; None: as the adapters were trained
    transliterate: bool | None = None
    precision: str = "auto"  # of the base: auto, bf16, fp32 or int8


def choose_source(
    run: Path | None, base: str | None, adapters: Sequence[Path | str], no_adapter: bool, scales: Sequence[float] = ()
) -> GenerationSource:
    """Combine --run, --base, --adapter, --adapter-scale and --no-adapter; UsageError where they contradict.

    Adapters of the Hub are fetched.

    The base of a run without its adapter reads prompts as the run read its captions, so that the two can be compared.
    """
    for scale in scales:
        check_range("--adapter-scale", scale, 0.0, MAX_ADAPTER_SCALE)
    note, transliterate, found = "", None, list[AdapterFolder]()
    if run is not None:
        if base is not None or adapters:
            raise UsageError("--run already says base and adapter; leave out --base and --adapter")
        finished, note = find_run(run)
        base, found = finished.base, [] if no_adapter else [AdapterFolder(finished.adapter)]
        if not no_adapter and not finished.adapter.is_dir():
            raise TalimError(
                f"{finished.folder}: its training is not finished; continue with: {finished.resume_command}"
            )
        transliterate = _spelling_of(finished.adapter) if no_adapter else None
    elif adapters and no_adapter:
        raise UsageError("--adapter and --no-adapter contradict each other; leave one out")
    count = len(found) or len(adapters)
    if scales and len(scales) != count:
        raise UsageError(
            f"--adapter-scale was given {format_counted(len(scales), 'time')} for "
            f"{format_counted(count, 'adapter')}; give one for each, in order"
        )
    found = found or [find_adapter(adapter) for adapter in adapters]
    choices = tuple(map(AdapterChoice, (each.folder for each in found), scales or [1.0] * count))
    if base is None and choices:
        from talim.adapters.serialization import base_to_load

        base = base_to_load(choices[0].folder)
    if base is None:
        raise UsageError("say what to generate with: --run RUN, --adapter FOLDER or --base NAME")
    return GenerationSource(base, choices, note, transliterate)


def _spelling_of(adapter: Path) -> bool | None:
    """False where an adapter was trained on captions as they were written; None for the default."""
    from talim.adapters import serialization

    try:
        info = serialization.read_info(adapter)
    except TalimError:  # unfinished or damaged: its base alone does not need it
        return None
    return None if info.get(serialization.TRANSLITERATED) is True else False


def find_run(folder: Path) -> tuple[Run, str]:
    """The run of a folder, or of the design that a proof of concept chose, with a sentence that says so.

    TalimError where there is none: it names what the folder holds instead.
    """
    if not folder.is_dir():
        wrong = "is a file" if folder.exists() else f"no such folder{did_you_mean(folder)}"
        raise TalimError(f"{folder}: {wrong}; give the folder of a run, as talim train --out wrote it")
    if (folder / "recipe.yaml").is_file():
        return Run(folder), ""
    if is_poc(folder):
        return _chosen_run(folder)
    if (folder / "adapter_config.json").is_file():
        raise TalimError(f"{folder} is an adapter's folder, not a run's; give it as --adapter {folder}")
    runs = sorted(path.parent for path in folder.glob("**/recipe.yaml"))
    if runs:
        named = ", ".join(map(str, runs[:MAX_NAMED_RUNS])) + (" ..." if len(runs) > MAX_NAMED_RUNS else "")
        raise TalimError(f"{folder} is no run, but holds {len(runs)}; give one of them: {named}")
    raise TalimError(f"{folder}: no run is here (recipe.yaml is missing); train one with: talim train --out RUN")


def _chosen_run(folder: Path) -> tuple[Run, str]:
    path = folder / POC_DECISIONS
    decided = read_json(path) if path.is_file() else {}
    chosen = decided.get("chosen") if isinstance(decided, dict) else None
    name = chosen.get("run") if isinstance(chosen, dict) else None
    if (
        chosen is None
        or not isinstance(name, str)
        or PurePath(name).name != name
        or not (folder / name / "recipe.yaml").is_file()
    ):
        runs = ", ".join(str(path.parent) for path in sorted(folder.glob("*/adapter")) if Run(path.parent).finished)
        stages = decided.get("stages") if isinstance(decided, dict) else None
        rows = [row for row in stages if isinstance(row, dict)] if isinstance(stages, list) else []
        stopped = next((str(row["stopped"]) for row in rows if row.get("stopped")), "")
        state = (
            f"has chosen no design. {stopped.rstrip('.')}"
            if stopped
            else "has chosen no design yet; the same talim poc command goes on"
        )
        others = f"; or give one of its runs ({runs})" if runs else ""
        raise TalimError(f"{folder}: this proof of concept {state}{others}")
    run = Run(folder / name)
    return run, f"{folder} is a proof of concept: its chosen design is used, {chosen.get('design')} in {run.folder}"


def load_source(
    source: GenerationSource,
    device: str = "auto",
    progress: Progress | None = None,
    prompts: Sequence[str] | None = None,
) -> Backbone:
    """The base with its adapters, in the base's precision, in eval mode. TalimError where an adapter does not fit.

    What is told of adapters that were trained without words is left out where all `prompts` are empty; None: not known.
    """
    from talim.adapters import injection, serialization
    from talim.backbones.load import load

    # read before the base is loaded, so that a wrong folder is refused at once
    infos = [serialization.read_info(choice.folder) for choice in source.adapters]
    backbone = load(source.base, source.precision, device)
    scales: dict[str, float] = {}
    model = None
    for index, (choice, info) in enumerate(zip(source.adapters, infos, strict=True)):
        name = injection.DEFAULT_NAME + (f"-{index + 1}" if index else "")
        model = serialization.load(backbone, choice.folder, name)
        scales[name] = choice.scale
        if info["base"].get("fingerprint") is None and progress is not None:
            named = info["base"].get("name")
            on = f" (it names {named}, and this is {backbone.name})" if named and named != backbone.name else ""
            progress.log(f"{choice.folder} does not name the weights it was trained on{on}; its shapes fit")
    chosen = zip(source.adapters, infos, strict=True)
    words = prompts is None or any(prompts)
    without_words = [choice.folder for choice, info in chosen if words and info.get(CAPTIONED) is False]
    unchanged = [line for choice in source.adapters for line in serialization.unchanged_notes(choice.folder)]
    for line in (*_choose_spelling(source, infos, backbone), *map(WITHOUT_WORDS.format, without_words), *unchanged):
        if progress is not None:
            progress.log(line)
    if model is not None:
        injection.set_adapter_scales(model, scales)
        injection.cast_adapters(model, backbone.dtype)
    backbone.model.eval()
    return backbone


def _choose_spelling(source: GenerationSource, infos: Sequence[dict[str, Any]], backbone: Backbone) -> list[str]:
    """Set how prompts are read: as asked for, else as the first adapter was trained; a line for each that differs."""
    trained = {
        choice.folder: info.get("transliterated") is True
        for choice, info in zip(source.adapters, infos, strict=True)
        if info["base"].get("fingerprint") is not None
    }
    as_trained = next(iter(trained.values()), True)
    backbone.transliterate = as_trained if source.transliterate is None else source.transliterate
    words = {True: "in letters that the base knows", False: "as they were written"}
    return [
        f"note: {folder} was trained on captions {words[spelling]}; here prompts are read {words[not spelling]}"
        for folder, spelling in trained.items()
        if spelling != backbone.transliterate
    ]


def check_adapter(folder: Path, base: str | None = None) -> dict[str, Any]:
    """Load the adapter into its own base, or into `base`; TalimError says why it does not fit."""
    backbone = load_source(choose_source(None, base, [folder], False))
    return {"folder": str(folder), "base": backbone.name, "fits": True}


def check_range(name: str, value: float, low: float, high: float) -> None:
    """UsageError unless low <= value <= high."""
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{name} is {value:g}; it must be between {low:g} and {high:g}")
