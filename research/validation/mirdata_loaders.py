"""Every loader of mirdata on mirdata's own test resources, through the importer of `talim prepare`, without network.

    python -m research.validation.mirdata_loaders DATA

DATA holds a checkout of mir-dataset-loaders/mirdata in the folder `mirdata`, which is not part of the project; the
dependencies of mirdata have to be installed. The resources of a loader are a few recordings and a sample of its index.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from research.docs import markdown
from talim import audio
from talim.atomic_io import write_text
from talim.corpus.importers.mirdata import dataset_recordings, initialize
from talim.errors import TalimError

PAGE = Path("docs/reports/mirdata-loaders.md")
CHECKOUTS = {"mirdata": "mir-dataset-loaders/mirdata"}
FOUND = (
    "raga",
    "makam",
    "tala",
    "usul",
    "laya",
    "form",
    "tonic_hz",
    "artist",
    "artists",
    "instruments",
    "release",
    "work",
)
IMPORTED = "imported"
REFUSALS = {  # a part of the message: the outcome in the table
    "this data set has no audio": "no audio: joined with your own files by MusicBrainz id",
    "several sounds and none of the whole": "several sounds per track and none of the whole: named, refused",
    "needs": "needs a package that is not installed here: named, refused",
}


@dataclass(frozen=True)
class LoaderOutcome:
    """What became of a loader: its outcome, readable recordings, those left out, and the columns that it filled."""

    name: str
    outcome: str
    recordings: int = 0
    left_out: int = 0
    columns: tuple[str, ...] = ()


def mirdata(checkout: Path) -> Any:
    """The package of the checkout, whose index samples lie beside it."""
    sys.path.insert(0, str(checkout))
    return importlib.import_module("mirdata")


def run_loader(package: Any, name: str, home: Path) -> LoaderOutcome:
    """Import the resources of one loader and read every recording's first second."""
    try:
        dataset = initialize(package, name, home, "test")
        with TemporaryDirectory() as out:
            found = dataset_recordings(dataset, name, home, Path(out))
    except TalimError as error:
        outcome = next((words for part, words in REFUSALS.items() if part in str(error)), f"**failed**: {error}")
        return LoaderOutcome(name, outcome)
    except Exception as error:
        return LoaderOutcome(name, f"**failed**: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
    silent = [file.name for file in found.files if not is_readable(file.path)]
    columns = {column for file in found.files for column in FOUND if column in file.row}
    outcome = IMPORTED if found.files else "its sounds are not in the resources: named, left out"
    if silent:
        outcome = f"**failed**: no sound in {silent[0]}"
    ordered = tuple(column for column in FOUND if column in columns)
    return LoaderOutcome(name, outcome, len(found.files) - len(silent), len(found.skipped), ordered)


def is_readable(path: Path) -> bool:
    """Whether a recording's samples can be read."""
    try:
        return audio.read(path).samples.size > 0
    except TalimError:
        return False


def page(outcomes: Sequence[LoaderOutcome], version: str) -> str:
    """The whole page, as Markdown."""
    counts = Counter("**failed**" if each.outcome.startswith("**") else each.outcome for each in outcomes)
    rows = [[outcome, str(count)] for outcome, count in counts.most_common()]
    imported = [each for each in outcomes if each.recordings]
    loaders = [
        [f"`{each.name}`", str(each.recordings), str(each.left_out), ", ".join(each.columns)] for each in imported
    ]
    others = [[f"`{each.name}`", each.outcome] for each in outcomes if not each.recordings]
    lines = [OPENING.format(version=version, loaders=len(outcomes)), *markdown.table(("outcome", "loaders"), rows), ""]
    lines += [markdown.paragraph(COLUMNS), ""]
    lines += [*markdown.table(("loader", "recordings", "left out", "labels"), loaders), ""]
    return "\n".join([*lines, *markdown.table(("loader", "outcome"), others)]) + "\n"


OPENING = """# mirdata's loaders

Every loader of mirdata {version} on the test resources of its repository (one or a few recordings each, a sample of the
index), through the importer of `talim prepare --format mirdata:LOADER`, without network. The resources are not part of
the project.

```sh
python -m research.validation.mirdata_loaders DATA
```

{loaders} loaders:
"""
COLUMNS = """*Left out*: tracks of the index sample whose sound is not in the resources; each is named. *Labels*:
columns that at least one recording has, of those that talim uses beside title, source and licence."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all loaders and write the page; exit status 1 if one failed, and without a page where none could be read."""
    parser = argparse.ArgumentParser(description="mirdata's loaders on mirdata's test resources.")
    parser.add_argument("data", type=Path, help="folder with the checkout")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    options = parser.parse_args(arguments)
    checkout = options.data / "mirdata"
    resources = checkout / "tests" / "resources" / "mir_datasets"
    if not resources.is_dir():
        parser.error(f"{options.data} lacks mirdata (github: {CHECKOUTS['mirdata']}) with its tests/resources")
    package = mirdata(checkout)
    outcomes = [run_loader(package, name, resources / name) for name in package.list_datasets()]
    if not any(each.outcome == IMPORTED for each in outcomes):
        raise SystemExit(f"no loader could be read: {outcomes[0].outcome}; make yardsticks installs what mirdata needs")
    text = page(outcomes, getattr(importlib.import_module("mirdata.version"), "version", ""))
    write_text(options.out, text)
    print(text)
    raise SystemExit(int(any(each.outcome.startswith("**") for each in outcomes)))


if __name__ == "__main__":
    main()
