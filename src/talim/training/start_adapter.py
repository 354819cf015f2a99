"""The stored adapter that training begins from, or that is scored alone: origin, design, licence, recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.adapters import injection, serialization
from talim.adapters.config import AdapterConfig
from talim.atomic_io import read_json
from talim.backbones.adapter_folder import AdapterFolder, find_adapter
from talim.design.expression import Design
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.recipe import Recipe
from talim.run import Run

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.corpus.manifest import Clip

UNKNOWN = "unknown"
START = "init_from"  # in run.json
TRAINED_ON = "trained_on"  # in talim.json
MAX_NAMES = 4  # of recordings in a sentence


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter in a folder: of talim or of PEFT, with whatever its files tell."""

    source: AdapterFolder

    @property
    def folder(self) -> Path:
        return self.source.folder

    @cached_property
    def info(self) -> dict[str, Any]:
        """As `serialization.read_info`."""
        return serialization.read_info(self.folder)

    @cached_property
    def design(self) -> Design:
        """The expression that it was trained as, or KIND@adapter."""
        return serialization.design_of(self.folder)

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits of its weights and its configuration."""
        digest = hashlib.sha256()
        for file in (serialization.weights_file(self.folder), self.folder / serialization.CONFIG_FILE):
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()[:16]

    @property
    def trained_on(self) -> dict[str, Any]:
        """`sources`, the first digits of the SHA-256 of files that it was trained on, and whether they are all."""
        known = self.info.get(TRAINED_ON)
        return known if isinstance(known, dict) else {"sources": [], "complete": False}

    def facts(self) -> dict[str, Any]:
        """What run.json, the model card and the rights of a result say of it; "unknown" where its files do not tell."""
        return {
            "name": self.source.name,
            "hash": self.hash,
            "repository": self.source.repository or UNKNOWN,
            "revision": self.source.revision or UNKNOWN,
            "licence": self.source.licence,
            "design": str(self.design),
            "base": self.info["base"].get("name") or UNKNOWN,
            "parameters": self.info["parameters"],
        }

    def lines(self, base: str) -> list[str]:
        """What to tell of it before work begins on the base of this name."""
        facts = self.facts()
        origin = f" (commit {facts['revision']})" if facts["revision"] != UNKNOWN else ""
        unknown = " (find out what it allows before you publish anything made with it)"
        lines = [
            f"adapter {facts['name']}{origin}: {facts['design']}, {facts['parameters']:,} parameters, licence "
            f"{facts['licence']}{unknown if facts['licence'] == UNKNOWN else ''}"
        ]
        trained_on = self.info["base"].get("name")
        if self.info["base"].get("fingerprint") is None and not _same_name(trained_on, base):
            says = f"says that it was trained on {trained_on}" if trained_on else "does not say what it was trained on"
            lines.append(f"note: {self.folder} {says}; here it is on {base}, which its shapes fit")
        return lines


def stored_adapter(name: Path | str, option: str) -> StoredAdapter:
    """The adapter of a folder, a run or the Hub; TalimError, naming the `option`, where none is there."""
    return StoredAdapter(find_adapter(name, option))


def start_of(recipe: Recipe) -> StoredAdapter | None:
    """The adapter that a recipe begins from; None where training begins anew."""
    return None if recipe.init_from is None else stored_adapter(recipe.init_from, "--init-from")


def complete_recipe(recipe: Recipe, run: Run) -> Recipe:
    """The recipe with the design and, unless one was given, the base of the adapter that it begins from.

    UsageError where a design was given that is not the adapter's, or where the run in the folder was begun from another
    one. A recipe that begins anew is returned as it is.
    """
    start = start_of(recipe)
    if start is None:
        return recipe
    begun = read_json(run.facts_file).get(START) if run.facts_file.is_file() else None
    if isinstance(begun, dict) and begun.get("hash") != start.hash:
        raise UsageError(
            f"{run.folder}: was begun from the adapter {begun.get('name')} with content {begun.get('hash')}, but "
            f"{recipe.init_from} now holds {start.hash}: restore that adapter, or choose another --out"
        )
    if "design" in recipe.model_fields_set and recipe.design != start.design:
        raise UsageError(
            f"--design {recipe.design} contradicts --init-from {recipe.init_from}, whose design is {start.design}: an "
            "adapter is trained further as it is; leave out --design (or design in the --config file)"
        )
    base = recipe.base if "base" in recipe.model_fields_set else serialization.base_to_load(start.folder)
    changes: dict[str, Any] = {"design": start.design, "base": base}
    if not Path(str(recipe.init_from)).expanduser().is_dir():  # of the Hub, where a branch may move on
        changes["init_from"] = f"{start.source.repository}@{start.source.revision}"
    return recipe.model_copy(update=changes)


def check_start(start: StoredAdapter, design: Design, backbone: Backbone) -> None:
    """TalimError where the adapter does not fit the base, or its talim.json describes other modules than it has."""
    serialization.check_adapter(backbone, start.folder)
    if not design.is_stored and not _describes(design, serialization.read_config(start.folder), backbone):
        raise TalimError(
            f"{start.folder / serialization.INFO_FILE}: its design {design} is not that of the modules in "
            f'{serialization.CONFIG_FILE}; write "design": "" there to take them as they are'
        )


def load_start(start: StoredAdapter, design: Design, backbone: Backbone) -> Any:
    """Add the adapter to the base's model, ready to be trained further as this design; returns the PEFT model.

    The backbone's reading of captions stays.
    """
    reading = backbone.transliterate
    peft = serialization.load(backbone, start.folder, trainable=True)
    backbone.transliterate = reading
    peft.peft_config[injection.DEFAULT_NAME].__dict__["design"] = str(design)
    return peft


def _describes(design: Design, config: Any, backbone: Backbone) -> bool:
    """Whether a design expression is that of the modules of a configuration."""
    try:
        expected = injection.peft_config_for(design, backbone.sites(), backbone.num_parameters, 0.0, 0, None)
    except UsageError:
        return False
    if getattr(config, "modules_to_save", None) or getattr(config, "bias", "none") not in ("none", False, None):
        return False
    if isinstance(config, AdapterConfig) and isinstance(expected, AdapterConfig):
        modules = [{(block["module"], block["kind"]) for block in each.blocks} for each in (config, expected)]
        return modules[0] == modules[1]
    return type(config) is type(expected) and config.target_modules == expected.target_modules  # type: ignore[attr-defined]


def precision_notes(weights: Mapping[str, Any]) -> list[str]:
    """A line where weights of the base itself are trained in 16 bits: biases, and modules that are trained whole."""
    rounded = [name for name, weight in weights.items() if weight.element_size() < 4]
    if not rounded:
        return []
    return [
        f"note: this adapter also trains {format_counted(len(rounded), 'weight')} of the base, such as "
        f"{rounded[0].removeprefix('base_model.model.')}, in 16 bits, which round small changes away; "
        "--set training.precision=fp32 keeps them"
    ]


def _same_name(stored: str | None, name: str) -> bool:
    """Whether a stored base is called as this one, whatever folder it lay in."""
    return bool(stored) and str(stored).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]


def trained_sources(clips: Sequence[Clip], start: StoredAdapter | None) -> dict[str, Any]:
    """For talim.json: the files that an adapter was trained on, with those of the adapter that it began from."""
    before = {"sources": [], "complete": True} if start is None else start.trained_on
    return {
        "sources": sorted({*map(_source, clips), *before.get("sources", [])}),
        "complete": before.get("complete") is True,
    }


def not_at_hand(info: Mapping[str, Any], clips: Sequence[Clip]) -> str:
    """That an adapter with this talim.json was trained on more than `clips`, or that it is not known; else empty."""
    trained_on = info.get(TRAINED_ON) or {}
    elsewhere = set(trained_on.get("sources") or ()) - {_source(clip) for clip in clips}
    if elsewhere:
        files = format_counted(len(elsewhere), "file")
        return f"{files} that the adapter was trained on are not among the training clips of this corpus"
    return "" if trained_on.get("complete") is True else "what else the adapter was trained on is not known"


def _source(clip: Clip) -> str:
    return clip.source_hash[:16]


def seen_before(trained_on: Mapping[str, Any], clips: Sequence[Clip], whose: str) -> dict[str, Any]:
    """Whether recordings were in the training of an adapter: `answer` (yes, no or unknown), and a `note` unless no.

    `whose` names the adapter in the note.
    """
    known = set(trained_on.get("sources") or ())
    found = sorted({clip.recording for clip in clips if _source(clip) in known})
    if found:
        names = ", ".join(found[:MAX_NAMES]) + (" ..." if len(found) > MAX_NAMES else "")
        count = format_counted(len(found), "recording")
        return {
            "answer": "yes",
            "note": f"{whose} was trained on {count} that the scores are measured on ({names}): they are too good",
        }
    if trained_on.get("complete") is True:
        return {"answer": "no", "note": ""}
    return {
        "answer": UNKNOWN,
        "note": f"whether {whose} was trained on these recordings is not known; if it was, the scores are too good",
    }
