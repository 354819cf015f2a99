"""The study's page in the documentation site: copied whole where it was made, linked, and made by `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from research.docs.study_page import NOT_MADE, ROOT, STUDY_PAGE, TARGET, on_post_build


def test_on_post_build_copies_the_study_page_or_says_that_there_is_none(tmp_path: Path) -> None:
    site = {"site_dir": str(tmp_path / "site")}
    on_post_build(site, tmp_path)
    assert (tmp_path / "site" / TARGET).read_text("utf-8") == NOT_MADE
    (tmp_path / STUDY_PAGE).parent.mkdir(parents=True)
    (tmp_path / STUDY_PAGE).write_text("<audio src='data:'>", encoding="utf-8")
    on_post_build(site, tmp_path)
    assert (tmp_path / "site" / TARGET).read_text("utf-8") == "<audio src='data:'>"


def test_study_page_is_made_and_linked_where_the_hook_expects_it() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert f"STUDY := {STUDY_PAGE.parts[0]}/{STUDY_PAGE.parts[1]}\n" in makefile
    assert re.search(r"^docs:.*\$\(STUDY\)/report/index\.html", makefile, re.MULTILINE)
    guide = (ROOT / "docs" / TARGET.parent / "study.md").read_text("utf-8")
    assert f'href="../{TARGET.name}"' in guide
    settings = re.search(r"^hooks:.*", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert settings
    assert yaml.safe_load(settings[0]) == {"hooks": ["research/docs/study_page.py"]}
