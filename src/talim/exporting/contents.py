"""What of a finished run leaves this machine: its files by name; no recordings, no paths, and what stays behind."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from talim import recipe as recipes
from talim.adapters import serialization
from talim.atomic_io import FileTakenError, friendly_os_errors, new_folder, read_json, read_jsonl
from talim.corpus.recordings import file_hash
from talim.design.adapter_kinds import KINDS
from talim.errors import TalimError, UsageError
from talim.exporting import public_facts
from talim.exporting.public_facts import PublicFacts
from talim.generation.sources import find_run
from talim.html.formatting import format_bytes, format_counted
from talim.inside_folder import resolve_inside
from talim.recipe import Recipe
from talim.run import OWN_BASE, Run
from talim.terminal_text import one_line

Files = dict[str, bytes | Path]  # by name in the export: the content, or the file to copy
ADAPTER_FILES = (
    *(serialization.CONFIG_FILE, serialization.WEIGHTS_FILE, serialization.INFO_FILE),
    *(serialization.CARD_FILE, serialization.LICENCE_FILE),
)
CHECKSUMS = "SHA256SUMS"  # as sha256sum writes and checks it
EXAMPLES = "samples"  # the folder of audio examples, as in a run
MANIFEST = f"{EXAMPLES}/manifest.jsonl"
IN_TRAINING = "caption_in_training"  # of a sample: its prompt is a caption of the training, too
GENERATED = ("before", "after")  # roles of samples; the third is a held-out recording
PAGES = ("scores.html", "copies.html", "report")
STAYS = {
    "continuations": "its pieces begin with held-out recordings",
    "metrics_cache": "measures of this machine, made again when they are needed",
    "listening": "votes and names of listeners",
    **dict.fromkeys(PAGES, "a page may hold recordings; talim report makes one"),
}


@dataclass(frozen=True)
class ExportedRun:
    """A finished run, as it is read for an export; `note` says how it was chosen where that is not plain."""

    run: Run
    note: str = ""

    @cached_property
    def info(self) -> dict[str, Any]:
        """The adapter's talim.json."""
        return serialization.read_info(self.run.adapter)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The run's run.json; empty where it has none."""
        facts = read_json(self.run.facts_file) if self.run.facts_file.is_file() else {}
        return facts if isinstance(facts, dict) else {}

    @cached_property
    def recipe(self) -> Recipe:
        return self.run.recipe

    @property
    def local_base(self) -> str:
        """The name of a base that was a folder of the user's; empty for one that others can have by its name."""
        return str(self.info["base"]["name"]) if self.info["base"].get("local") else ""

    @property
    def base_name(self) -> str:
        """What the base is called elsewhere: its name, with the commit where it is of the Hub."""
        return f"{OWN_BASE}{self.local_base}" if self.local_base else self.run.base

    @property
    def base_licence(self) -> str:
        base = self.facts.get("base")
        return str((base.get("licence") if isinstance(base, dict) else None) or "unknown")

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """Rows of the manifest of audio that `talim evaluate` wrote; none where there is none."""
        manifest = self.run.folder / MANIFEST
        return read_jsonl(manifest) if manifest.is_file() else []

    @cached_property
    def public(self) -> PublicFacts:
        """Takes out what names recordings that were kept out; prompts that are captions of the training, too, stay."""
        return PublicFacts([str(row.get("prompt")) for row in self.samples if row.get(IN_TRAINING) is True])

    def json_file(self, path: Path) -> bytes:
        """A JSON file of the run, without commands, paths of this machine and names of what was kept out, as bytes."""
        return as_json(_without_paths(self.public.of(read_json(path), path.stem), self._known_folders), path)

    @cached_property
    def _known_folders(self) -> dict[str, str]:
        """Paths that the run's files hold, the longest first, and what is written instead."""
        named = [Path(path).expanduser() for path in self._recipe_paths]
        folders = [self.run.folder, *(path for path in named if path.is_dir() or path.is_absolute())]
        folders = [form for folder in folders for form in (folder.absolute(), folder.resolve())]
        names = {str(folder): folder.name for folder in folders}
        names |= {str(Path.home()): "~"} if Path.home() != Path("/") else {}
        return dict(sorted(names.items(), key=lambda item: -len(item[0])))

    @property
    def _recipe_paths(self) -> list[str]:
        return [str(path) for path in (self.recipe.corpus, self.recipe.base, self.recipe.init_from) if path]

    @property
    def portable_recipe(self) -> Recipe:
        """The recipe with names instead of paths of this machine."""
        changes: dict[str, Any] = {"corpus": Path(self.recipe.corpus).name, "base": self.recipe.base}
        if self.local_base:
            changes["base"] = self.base_name
        if self.recipe.init_from is not None and Path(self.recipe.init_from).expanduser().is_absolute():
            changes["init_from"] = Path(self.recipe.init_from).name
        return self.recipe.model_copy(update=changes)

    def provenance(self) -> bytes:
        """Recipe, base, training and versions in one JSON document, without names of files that were not trained on."""
        parts = {
            "recipe": self.portable_recipe.model_dump(mode="json"),
            "run": self.public.of(self.facts),
            "cost": read_json(self.run.cost),
            "adapter": {name: self.info.get(name) for name in ("talim", "base", "design", "parameters", "sha256")},
        }
        return as_json(_without_paths(parts, self._known_folders), self.run.folder)


def finished_run(folder: Path | str) -> ExportedRun:
    """The run of a folder, or of a proof of concept's chosen design; TalimError unless it is finished and undamaged."""
    path = Path(folder)
    if (path / serialization.CONFIG_FILE).is_file() and not Run(path).recipe_file.is_file():
        above = path.resolve().parent
        advice = (
            f"give its run, {above}"
            if Run(above).recipe_file.is_file()
            else "it says nothing of whose recordings it was trained on; copy that folder as it is"
        )
        raise UsageError(f"{path} is an adapter's folder, and talim export takes a run: {advice}")
    run, note = find_run(path)
    if not run.finished:
        raise TalimError(
            f"{run.folder}: its training is not finished; continue with: {run.resume_command}, then export it"
        )
    exported = ExportedRun(run, note)
    serialization.check_files(run.adapter, exported.info)
    if not run.adapter.joinpath(serialization.WEIGHTS_FILE).is_file():
        raise TalimError(f"{run.adapter}: its {serialization.WEIGHTS_FILE} is missing; copy the run again")
    return exported


def adapter_files(exported: ExportedRun) -> tuple[Files, list[str]]:
    """The adapter's own files by their names, and what is left out of its folder."""
    folder = exported.run.adapter
    files: Files = {name: folder / name for name in ADAPTER_FILES if (folder / name).is_file()}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ADAPTER_FILES)
    left_out = [f"{folder.name}/{name}: no file of talim's" for name in others]
    return files, [*left_out, *_code_left_out(folder)]


def _code_left_out(adapter: Path) -> list[str]:
    """Kinds of the user's own, whose code no export has."""
    blocks = read_json(adapter / serialization.CONFIG_FILE).get("blocks") or []
    kinds = sorted({str(block.get("kind")) for block in blocks if isinstance(block, dict)} - {"full"})
    own = [kind for kind in kinds if kind not in KINDS or not KINDS[kind].__module__.startswith("talim.")]
    return [f"the code of the kind {kind}: whoever loads the adapter has to register it first" for kind in own]


def examples(exported: ExportedRun) -> tuple[Files, list[dict[str, Any]], list[str]]:
    """Audio that `talim evaluate` generated: files, their manifest's rows, and what is left out.

    Recordings of people, which lie beside them, are never taken.
    """
    if not exported.samples:
        return {}, [], ["audio examples: there are none; talim evaluate makes them"]
    files, rows, real, missing = Files(), [], 0, []
    for row in exported.samples:
        name, role = str(row.get("file")), row.get("role")
        if role not in GENERATED:
            real += 1
            continue
        path = resolve_inside(exported.run.samples, name)
        if not path.is_file() or Path(name).name != name:
            missing.append(name)
            continue
        files[f"{EXAMPLES}/{name}"] = exported.public.sample(path)
        rows.append(exported.public.of({key: value for key, value in row.items() if key != "recording"}))
    if rows:
        files[MANIFEST] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    left_out = [f"{EXAMPLES}: {format_counted(real, 'excerpt')} of held-out recordings"] * bool(real)
    left_out.append(public_facts.LEFT_OUT)
    return files, rows, left_out + [f"{EXAMPLES}/{name}: this file of its manifest is missing" for name in missing]


def permission_section(permission: str | None) -> str:
    """A section of a card with who allowed publishing; empty where nobody is named."""
    stated = one_line((permission or "").strip(), 500)
    return f"## Permission to publish\n\nAs whoever published this states: {stated}\n\n" if stated else ""


def example_links(rows: list[dict[str, Any]]) -> str:
    """A section of a card with a line per audio example; empty where there are none."""
    titles = {"before": "without the adapter", "after": "with it"}
    lines = [
        f"- [{titles[row['role']]}]({EXAMPLES}/{row['file']}), seed {row.get('seed')}: "
        f"{one_line(str(row.get('prompt')), 200) or 'no words'}"
        for row in rows
    ]
    untold = any(row.get("prompt") == public_facts.PROMPT for row in rows)
    text = "## Audio examples\n\nGenerated, with equal seeds; after the seed stands what was asked for:\n\n"
    text += "\n".join(lines) + "\n\n" + f"{public_facts.PROMPT_UNTOLD}\n\n" * untold
    return text if rows else ""


def others_left_out(exported: ExportedRun, taken: Mapping[str, Any]) -> list[str]:
    """What else lies in the run's folder and stays there, each with its reason."""
    names = {name.split("/")[0] for name in taken} | {EXAMPLES, "adapter"}
    lines = []
    for path in sorted(exported.run.folder.iterdir()):
        if path.name not in names and not path.name.startswith("."):
            lines.append(f"{path.name}: {STAYS.get(path.name, 'not needed to use the adapter')}")
    return lines


def check_free(out: Path) -> None:
    """FileTakenError if something is at `out`, other than an empty folder."""
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise FileTakenError(f"{out}: is there already, and is not overwritten; choose another --out")


def write_folder(out: Path, files: Files, finish: Callable[[Path], None] | None = None) -> None:
    """Write the files and their checksums into a new folder: all of it or nothing.

    `finish` is called with the unfinished folder, to add to it or to refuse it.
    """
    with friendly_os_errors(out):
        check_free(out)
    with new_folder(out) as partial:
        for name, content in files.items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            else:
                shutil.copyfile(content, target)
        if finish is not None:
            finish(partial)
        written = {path.relative_to(partial).as_posix(): path for path in sorted(partial.rglob("*")) if path.is_file()}
        (partial / CHECKSUMS).write_bytes(checksums(written))
        check_free(out)  # again: making it may take minutes


def checksums(files: Mapping[str, bytes | Path]) -> bytes:
    """SHA-256 of each file, as `sha256sum --check` reads them."""
    return "".join(f"{_digest(content)}  {name}\n" for name, content in sorted(files.items())).encode()


def size_of(content: bytes | Path) -> int:
    """Bytes of a file's content."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def listing(files: Mapping[str, bytes | Path]) -> list[str]:
    """A line per file with its size, and one with the sum."""
    sizes = {name: size_of(content) for name, content in sorted(files.items())}
    width = max(map(len, sizes))
    lines = [f"  {name:{width}}  {format_bytes(size)}" for name, size in sizes.items()]
    return [*lines, f"  {format_counted(len(sizes), 'file')}, {format_bytes(sum(sizes.values()))}"]


def recipe_file(exported: ExportedRun) -> bytes:
    """The portable recipe as YAML."""
    return recipes.dump(exported.portable_recipe).encode()


def _digest(content: bytes | Path) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_hash(content)


def as_json(value: Any, source: Path) -> bytes:
    """JSON of what was read in `source`; TalimError for a number that JSON does not have."""
    try:
        return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except ValueError:
        raise TalimError(
            f"{source}: holds NaN or an infinite number, which talim never writes; copy the run again"
        ) from None


def _without_paths(value: Any, known: Mapping[str, str]) -> Any:
    """JSON without commands, which hold paths, and with these folders called by their names."""
    if isinstance(value, dict):
        return {key: _without_paths(item, known) for key, item in value.items() if key != "command"}
    if isinstance(value, list):
        return [_without_paths(item, known) for item in value]
    if isinstance(value, str):
        for path, name in known.items():
            value = value.replace(path, name)
    return value


def log_file(exported: ExportedRun) -> bytes:
    """The training log, without a torn last line."""
    return "".join(json.dumps(exported.public.of(row)) + "\n" for row in read_jsonl(exported.run.log)).encode()


def card_of(exported: ExportedRun) -> str:
    """The adapter's model card; empty where it has none."""
    file = exported.run.adapter / serialization.CARD_FILE
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def split_card(card: str) -> tuple[dict[str, Any], str]:
    """A card's header and the rest; no header where it has none that can be read."""
    match = re.match(r"---\n(.*?)^---\n", card, re.DOTALL | re.MULTILINE)
    if match is None:
        return {}, card
    try:
        header = yaml.safe_load(match[1])
    except yaml.YAMLError:
        header = {}
    return header if isinstance(header, dict) else {}, card[match.end() :]


def shared_files(exported: ExportedRun) -> tuple[Files, list[dict[str, Any]], list[str]]:
    """Provenance, conditions and audio examples; the rows of the examples; and what is left out."""
    licence = exported.run.adapter / serialization.LICENCE_FILE
    files: Files = {"provenance.json": exported.provenance()}
    files |= {serialization.LICENCE_FILE: licence} if licence.is_file() else {}
    audio, rows, left_out = examples(exported)
    return files | audio, rows, left_out


def card_sections(exported: ExportedRun) -> tuple[dict[str, Any], str]:
    """The header of the adapter's card, and its sections but for those that say how to load it with talim."""
    header, body = split_card(card_of(exported))
    sections = [part for part in re.split(r"^(?=## )", body, flags=re.MULTILINE) if part.startswith("## ")]
    return header, "".join(part for part in sections if not part.startswith("## How to load it"))


def spelling_note(exported: ExportedRun, reader: str) -> str:
    """A paragraph on letters that `reader` does not spell as talim does; empty where the base knows them all."""
    return (
        f"talim reads words that the tokenizer does not know in plain letters, and {reader} does not: write raga, "
        "not rāga.\n\n"
    ) * bool(exported.info.get(serialization.TRANSLITERATED))
