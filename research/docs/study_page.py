"""A hook of mkdocs: the page of `studies/demo.yaml`, with its sounds, goes into the documentation site as it is built.

`make docs` runs that study first where its page is not there; nothing of it is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUDY_PAGE = Path("build/study/report/index.html")  # as the Makefile has it
TARGET = Path("guides/demo-study.html")  # as docs/guides/study.md links it
NOT_MADE = "<!DOCTYPE html><title>Not made</title><p>This build of the documentation has no study: make docs runs it."


def on_post_build(config: Mapping[str, str], root: Path = ROOT) -> None:
    """Write the study's page, or that there is none, into the site."""
    page, target = root / STUDY_PAGE, Path(config["site_dir"]) / TARGET
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page.read_text(encoding="utf-8") if page.is_file() else NOT_MADE, encoding="utf-8")
