"""What each page of the app shows, read from the folder; texts in the language of the reader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from talim.app.commands import DESIGNS, LENGTHS
from talim.app.jobs import RUNNING, JobRunner
from talim.app.workspace import COLUMNS, METADATA, Workspace
from talim.atomic_io import read_json, unfinished_in
from talim.audio.tags import read_tags
from talim.backbones.registry import MODELS, NANO
from talim.corpus.labels import COLUMNS as LABELS
from talim.corpus.metadata import SUGGESTION_OR
from talim.corpus.translated_report import translated_reason
from talim.errors import TalimError
from talim.html import formatting
from talim.planning.hardware import BANDWIDTH_EFFICIENCY, MATMUL_EFFICIENCY, gpu_table
from talim.reporting import catalogue, cost_quality_use, human_ratings, predictor_sentences, sentences
from talim.reporting.audio_examples import group_samples
from talim.reporting.run_results import RunResults, read_result
from talim.run import Run

MAX_POINTS = 40  # of the curve of the training loss, each a mean over steps
MADE = re.compile(r"generating .*, seconds (?P<done>\d+)/(?P<asked>\d+), (?P<speed>\S+) times real time")
NO_CELLS = ("mode_probability", "other_modes", "cycle_probability", "other_cycles", "instruments_from")


class PageReader:
    """Reads what a page shows; `language` is a code of the app's words, English where a sentence has no other."""

    def __init__(self, work: Workspace, jobs: JobRunner, language: str) -> None:
        self.work, self.jobs, self.language = work, jobs, language

    def read(self, name: str) -> dict[str, Any]:
        """The values of one page, and what all pages have: the steps that are done, and the command of this one."""
        return {"done": self.done(), "folder": str(self.work.folder), **PAGES[name](self)}

    def done(self) -> list[str]:
        """The steps whose results are there."""
        work, run = self.work, self.work.run
        pieces = work.numbered("music")
        known = {
            "recordings": work.summary.is_file(),
            "plan": "design" in work.choices,
            "train": run is not None and Run(run).finished,
            "listen": run is not None and Run(run).scores.is_file(),
            "make": bool(pieces),
            "decide": run is not None and (run / "report" / "index.html").is_file(),
            "share": bool(work.numbered("shared")),
        }
        return [name for name, is_done in known.items() if is_done]

    # Recordings

    def recordings(self) -> dict[str, Any]:
        work, fault = self.work, ""
        try:
            table = work.table()
        except TalimError as error:
            table, fault = {}, str(error)
        suggested = work.suggestions()
        more = [column for cells in suggested.values() for column in cells if column not in NO_CELLS]
        columns = list(dict.fromkeys([*COLUMNS, *(column for cells in table.values() for column in cells), *more]))
        rows = [
            {
                "file": name,
                "audio": work.address(work.recordings / name),
                "cells": table.get(name, {}),
                "suggested": _suggested_cells(suggested.get(name, {})),
            }
            for name in work.files("recordings")
        ]
        shown = {"rows": rows, "columns": columns, "fault": fault, "corpus": None, "caption": ""}
        if work.summary.is_file():
            inputs = [work.recordings, work.recordings / METADATA]
            changed = max(path.stat().st_mtime for path in inputs if path.exists()) > work.summary.stat().st_mtime
            shown["corpus"] = self._corpus(read_json(work.summary)) | {"changed": changed}
        return shown

    def _corpus(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        split, page = summary["split"], self.work.corpus / "report" / "index.html"
        leakage = split.get("leakage") or {}
        return {
            "clips": summary["clips"],
            "recordings": summary["recordings"],
            "length": self._duration(summary["seconds"]),
            "split": [
                {"side": side, "clips": split[side]["clips"], "length": self._duration(split[side]["seconds"])}
                for side in ("train", "validation", "held_out")
                if side in split
            ],
            "explanation": split.get("explanation") or "",
            "leaks": {key: formatting.format_percent(value) for key, value in leakage.items() if value},
            "skipped": [self._skipped(row) for row in summary["skipped"]],
            "notes": [{"file": row.get("file", ""), "reason": row["note"]} for row in summary.get("notes") or ()],
            "licences": [f"{name} ({count})" for name, count in summary["rights"]["licences"].items()],
            "without_caption": (summary.get("missing_captions") or {}).get("recordings", 0),
            "page": self.work.address(page) if page.is_file() else "",
        }

    def _skipped(self, row: Mapping[str, str]) -> dict[str, str]:
        reason = translated_reason(row["reason"], self.language)
        return {"file": row["file"], "reason": reason, "lang": "en" if reason == row["reason"] else self.language}

    # Plan

    def plan(self) -> dict[str, Any]:
        chosen = self.work.choices
        bases = [
            {"name": name, "licence": model.licence, "download": formatting.format_bytes(model.download_gb * 1e9)}
            for name, model in MODELS.items()
        ]
        shown = {
            "bases": bases,
            "gpus": list(gpu_table()),
            "lengths": list(LENGTHS),
            "chosen": {"base": NANO, "length": "quick", **chosen},
            "plan": None,
        }
        try:
            planned = json.loads(self.jobs.output("plan"))
        except ValueError:  # none yet, or it failed
            return shown
        shown["plan"] = {
            "base": planned["base"],
            "hardware": planned["hardware"] if planned["hardware"] in gpu_table() else "",
            "rates": {
                "matrix": formatting.format_percent(MATMUL_EFFICIENCY),
                "memory": formatting.format_percent(BANDWIDTH_EFFICIENCY),
            },
            "energy_known": any(row["energy_joules"] is not None for row in planned["designs"]),
            "limit": formatting.format_bytes(planned["memory_limit_bytes"]),
            "steps": planned["steps"],
            "rows": [self._design(row) for row in planned["designs"]],
        }
        return shown

    def _design(self, row: Mapping[str, Any]) -> dict[str, Any]:
        joules, money = row["energy_joules"], row["money"]
        return {
            "design": row["design"],
            "asked": row["design"] in (*DESIGNS, self.work.choices.get("design")),
            "parameters": formatting.format_count(row["parameters"]),
            "share": formatting.format_percent(row["parameter_fraction"]),
            "memory": formatting.format_bytes(row["memory_bytes"]),
            "time": self._duration(row["hours"] * 3600),
            "energy": "" if joules is None else f"{formatting.format_number(joules / 3600, 1)} Wh",
            "money": "" if money is None else formatting.format_number(money, 2),
            "fits": row["fits"],
        }

    # Train

    def train(self) -> dict[str, Any]:
        chosen = {"base": NANO, "length": "quick", "design": DESIGNS[0], **self.work.choices}
        runs = [path.name for path in self.work.numbered("run") if path.is_dir()]
        shown: dict[str, Any] = {"chosen": chosen, "runs": runs, "run": None, "lengths": list(LENGTHS)}
        shown["ready"] = self.work.summary.is_file()
        if self.work.run is not None and is_started(self.work.run):
            shown["run"] = self._training(read_result(self.work.run))
        return shown

    def _training(self, result: RunResults) -> dict[str, Any]:
        rows = {side: [row for row in result.log if row.get("split") == side] for side in ("train", "validation")}
        done, asked = result.steps_done, result.steps_asked or result.steps_done
        seconds = float(rows["train"][-1].get("seconds", 0)) if rows["train"] else 0.0
        left = None if result.finished or not done else seconds / done * (asked - done)
        width = max(1, len(rows["train"]) // MAX_POINTS)
        return {
            "name": result.folder.name,
            "design": result.design,
            "base": str(result.base["name"]),
            "finished": result.finished,
            "done": done,
            "asked": asked,
            "left": "" if left is None else self._duration(left),
            "taken": self._duration(seconds),
            "unit": result.loss_unit,
            "train": [_mean(rows["train"][n : n + width]) for n in range(0, len(rows["train"]), width)],
            "validation": [[row["step"], row["loss"]] for row in rows["validation"]],
            "references": self._references(result),
        }

    def _references(self, result: RunResults) -> list[dict[str, Any]]:
        """What predictors without a model reach on the validation clips."""
        known = next((row["references"] for row in result.log if row.get("references")), {})
        return [
            {"name": self._text(predictor_sentences.predictor_name(each)), "loss": loss} for each, loss in known.items()
        ]

    # Listen

    def listen(self) -> dict[str, Any]:
        if self.work.run is None or not Run(self.work.run).finished:
            return {"run": None}
        result = read_result(self.work.run)
        groups = [
            {"prompt": prompt, "sounds": {role: self.work.address(sample.path) for role, sample in samples.items()}}
            for prompt, _, samples in group_samples(result.samples)
        ]
        said = [self._text(cost_quality_use.quality_point(result))] if result.scores else []
        return {
            "run": result.folder.name,
            "groups": groups,
            "sentences": said,
            "page": self._page(result.folder),
            "test": self._listening_test(result.folder) if groups else None,
        }

    def _listening_test(self, run: Path) -> dict[str, Any]:
        """The blind test of a run: where its listeners' pages are open, and what came of it."""
        job, page = self.jobs.find("listening-test"), run / "listening" / "ratings" / "index.html"
        return {
            "links": self._links("listening-test", "Listener") if job is not None and run.name in job.arguments else [],
            "sentences": self._said(run),
            "page": self.work.address(page) if page.is_file() else "",
        }

    def _links(self, name: str, who: str) -> list[str]:
        """The addresses of people that a command has printed, while it serves them."""
        job = self.jobs.find(name)
        if job is None or job.state != RUNNING:
            return []
        return re.findall(rf"^{who}: (http\S+)", self.jobs.output(name), re.MULTILINE)

    def _said(self, folder: Path) -> list[dict[str, str]]:
        """What people said of what is in a folder, in the page's language where there is a sentence in it."""
        return [
            {"text": text, "lang": self.language if each.translated.get(self.language) else "en"}
            for each in human_ratings.load_ratings(folder, folder)
            for text in each.translated.get(self.language) or each.sentences
        ]

    # Make

    def make(self) -> dict[str, Any]:
        work = self.work
        result = read_result(work.run) if work.run is not None and Run(work.run).finished else None
        under_way = self._under_way()  # before files are listed: it may be finished in between
        files = [
            file
            for path in reversed(work.numbered("music"))
            for file in (sorted(path.glob("*.flac")) if path.is_dir() else [path])
            if file.is_file() and (under_way is None or self._name(file) != under_way["name"])
        ]
        return {
            "run": None if result is None else result.folder.name,
            "prompt": "" if result is None else str(result.corpus.get("example_caption") or ""),
            "phrases": work.files("phrases"),
            "pieces": [self._piece(file) for file in files],
            "under_way": under_way,
        }

    def _under_way(self) -> dict[str, Any] | None:
        """The piece that is being written, or was when its command was killed, as far as there is sound of it."""
        job = self.jobs.find("make")
        if job is None:
            return None
        running, out = job.state == RUNNING, self.work.folder / job.arguments[-1]
        since = job.began if running else 0.0  # what an earlier command left is not what this one writes
        begun = [
            (written, part, final)
            for part, final in unfinished_in(out.parent if out.suffix else out)
            if (final == out or not out.suffix) and final.suffix == ".flac" and not final.exists()
            and (written := _written_at(part)) > since
        ]  # fmt: skip
        _, part, final = max(begun, default=(0.0, None, None))
        if part is None and not running:
            return None
        made = [match.groupdict() for line in job.log if (match := MADE.match(line))]
        return {
            "running": running,
            "name": "" if final is None else self._name(final),
            "audio": "" if part is None else self.work.address(part),
            "progress": made[-1] if made else None,
        }

    def _piece(self, file: Path) -> dict[str, Any]:
        try:
            tags = read_tags(file)
        except TalimError:  # it is being written
            tags = {}
        return {"name": self._name(file), "audio": self.work.address(file), "tags": tags}

    def _name(self, file: Path) -> str:
        return file.relative_to(self.work.folder).as_posix()

    # Decide

    def decide(self) -> dict[str, Any]:
        if self.work.run is None or not is_started(self.work.run):
            return {"run": None}
        result = read_result(self.work.run)
        price = self.work.choices.get("price_per_hour")
        ratings = human_ratings.load_ratings(self.work.folder, self.work.folder)
        texts = cost_quality_use.points(
            result, price, [sentence for each in ratings for sentence in each.sentences[:1]]
        )
        return {
            "run": result.folder.name,
            "points": texts.get(self.language, texts["en"]),
            "verdict": sentences.loss_verdict(result)[0],
            "page": self._page(result.folder),
            "miniature": result.miniature,
            "price": price or "",
            "brief": self._brief(),
        }

    def _brief(self) -> dict[str, Any] | None:
        """The latest brief: where its review is open, and what came of it."""
        briefs = [path for path in self.work.numbered("brief") if path.is_dir()]
        if not briefs:
            return None
        page, links = briefs[-1] / "usefulness" / "index.html", self._links("brief", "Reviewer")
        return {
            "name": briefs[-1].name,
            "review": links[0] if links else "",
            "sentences": self._said(briefs[-1]),
            "page": self.work.address(page) if page.is_file() else "",
        }

    # Share

    def share(self) -> dict[str, Any]:
        work, run = self.work, self.work.run
        card = None if run is None else Run(run).adapter / "README.md"
        return {
            "run": run.name if run is not None and Run(run).finished else None,
            "card": card.read_text(encoding="utf-8") if card is not None and card.is_file() else "",
            "shared": [
                {"name": path.name, "files": [
                    {"name": file.relative_to(path).as_posix(), "address": work.address(file)}
                    for file in sorted(path.rglob("*")) if file.is_file()
                ]}
                for path in reversed(work.numbered("shared"))
            ],
        }  # fmt: skip

    def _page(self, run: Path) -> str:
        page = run / "report" / "index.html"
        return self.work.address(page) if page.is_file() else ""

    def _text(self, texts: Mapping[str, str]) -> str:
        return texts.get(self.language, texts.get("en", ""))

    def _duration(self, seconds: float) -> str:
        return self._text(catalogue.duration(seconds))


PAGES: Mapping[str, Callable[[PageReader], dict[str, Any]]] = {
    "recordings": PageReader.recordings,
    "plan": PageReader.plan,
    "train": PageReader.train,
    "listen": PageReader.listen,
    "make": PageReader.make,
    "decide": PageReader.decide,
    "share": PageReader.share,
}


def is_started(run: Path) -> bool:
    """Whether a training has written its recipe into the folder."""
    return Run(run).recipe_file.is_file()


def _written_at(path: Path) -> float:
    """When something was written into a file last (seconds of the epoch); 0 for one that is empty, or gone by now."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0.0
    return status.st_mtime if status.st_size else 0.0


def _mean(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The mean [step, loss] of neighbouring steps."""
    return [sum(row[key] for row in rows) / len(rows) for key in ("step", "loss")]


def _suggested_cells(cells: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Suggestions by column: the values to choose from, and their probability, of a mode and of a cycle."""
    modes, cycles = LABELS["mode"], LABELS["cycle"]
    found = {}
    for column, value in cells.items():
        if column in NO_CELLS or not value:
            continue
        of = "mode_probability" if column in modes else "cycle_probability" if column in cycles else ""
        probability = cells.get(of)
        found[column] = {
            "values": value.split(SUGGESTION_OR) if of else [value],
            "percent": round(100 * float(probability)) if probability else None,
        }
    return found
