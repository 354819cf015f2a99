"""Studies' pages in the documentation site: copied whole where they were made, linked, and made by `make docs`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from research.docs.study_page import NOT_MADE, PAGES, ROOT, on_post_build

LINKED_IN = ("guides/study.md", "reports/paper-study.md")


def test_on_post_build_copies_the_pages_or_says_that_there_is_none(tmp_path: Path) -> None:
    site = {"site_dir": str(tmp_path / "site")}
    on_post_build(site, tmp_path)
    assert {(tmp_path / "site" / name).read_text("utf-8") for name in PAGES.values()} == {NOT_MADE}
    for page in PAGES:
        (tmp_path / page).parent.mkdir(parents=True)
        (tmp_path / page).write_text(f"<audio src='data:'> {page}", encoding="utf-8")
    on_post_build(site, tmp_path)
    assert all((tmp_path / "site" / name).read_text("utf-8").endswith(str(page)) for page, name in PAGES.items())


def test_study_pages_are_made_and_linked_where_the_hook_expects_them() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (made,) = re.findall(r"^docs:(.*)", makefile, re.MULTILINE)
    folders = dict(re.findall(r"^(\w+) := (build/\w+)$", makefile, re.MULTILINE))
    assert {folders[name] + "/report/index.html" for name in re.findall(r"\$\((\w+)\)/report", made)} == {
        str(page) for page in PAGES
    }
    for name, source in zip(PAGES.values(), LINKED_IN, strict=True):
        assert f'href="../{name.name}"' in (ROOT / "docs" / source).read_text("utf-8")
    settings = re.search(r"^hooks:.*", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert settings
    assert yaml.safe_load(settings[0]) == {"hooks": ["research/docs/study_page.py"]}
