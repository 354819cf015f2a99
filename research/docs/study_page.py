"""A hook of mkdocs: the pages of two studies go into the documentation site as it is built.

That of `studies/demo.yaml`, with its sounds, and that of the paper's claims, from the results that are committed in
docs/reports/paper-study. `make docs` makes those that are not there; no page is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {  # as the Makefile has them, and where docs/guides/study.md and docs/reports/paper-study.md link them
    Path("build/study/report/index.html"): Path("guides/demo-study.html"),
    Path("build/paper/report/index.html"): Path("reports/paper-study.html"),
}
NOT_MADE = "<!DOCTYPE html><title>Not made</title><p>This build of the documentation has no study: make docs makes it."


def on_post_build(config: Mapping[str, str], root: Path = ROOT) -> None:
    """Write each study's page, or that there is none, into the site."""
    for page, name in PAGES.items():
        source, target = root / page, Path(config["site_dir"]) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text(encoding="utf-8") if source.is_file() else NOT_MADE, encoding="utf-8")
