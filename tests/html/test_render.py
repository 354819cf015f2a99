"""Templates: escaped, self-contained, missing values raise."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from fixtures.browser import CHROMIUM, launched, open_page
from jinja2 import TemplateNotFound, UndefinedError
from markupsafe import Markup, escape

from talim.html import render as render_module
from talim.html.languages import words
from talim.html.render import TEMPLATES, render


def test_page_template_is_self_contained_and_accessible() -> None:
    page = render("page.html", version="1.2.3")
    assert page.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in page
    assert "width=device-width" in page
    assert 'href="#content"' in page
    assert "talim 1.2.3" in page
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"^\s*//.*$", "", page, flags=re.MULTILINE))
    assert "@import" not in page
    assert "url(" not in page


def test_page_template_forbids_everything_that_comes_from_elsewhere() -> None:
    page = render("page.html", version="1")
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data:"
    assert not re.search(r"https?:|\*|'self'|eval", policy)
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_a_long_page_begins_with_links_to_its_sections() -> None:
    """Of the page of a corpus-like template: as many anchors as headings, in their order; none on a short page."""
    found = [(f"part-{number}", f"Part {number} <b>& more</b>") for number in range(5)]
    body = "".join(f'<h2 id="{anchor}">{escape(title)}</h2>' for anchor, title in found)
    environment = render_module._environment()
    source = "{% extends 'page.html' %}{% block content %}{{ body }}{% endblock %}"
    template = environment.from_string(source)
    page = template.render(version="1", body=Markup(f'{body}<p id="ja" lang="ja">短い</p>'))
    (contents,) = re.findall(r'<nav class="contents" aria-label="On this page">(.*?)</nav>', page, re.DOTALL)
    links = [(anchor, html.unescape(title)) for anchor, title in re.findall('href="#([^"]*)">(.*?)</a>', contents)]
    assert links == found
    assert '<a href="#ja" lang="ja">日本語</a>' in contents
    assert page.index("</nav>") < page.index("<main")
    assert "<nav" not in template.render(version="1", body=Markup(body.partition("<h2")[2]))
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    assert ".contents { display: none; }" in style.partition("@media print")[2]


@pytest.mark.parametrize(
    ("page", "templates", "fewest"),
    [
        ("run", ("report.html", "continuation.html", "tables.html"), 50),
        ("study", ("study.html", "tuning_table.html"), 40),
    ],
)
def test_headings_and_columns_in_english_alone_are_named_in_japanese(
    page: str, templates: tuple[str, ...], fewest: int
) -> None:
    heads = words("ja", "heads")[page]
    text = "".join((TEMPLATES / name).read_text("utf-8") for name in templates)
    found = {*re.findall(r'<h2 id="[^"]*">([^<]*?)(?:\{%[^\n]*)?</h2>|<th scope="col"[^>]*>([^<{]+)</th>', text)}
    shown = {html.unescape(heading or column) for heading, column in found} - {""}
    assert shown - heads.keys() == set()
    rows = (TEMPLATES.parents[1] / "reporting" / "tables.py").read_text("utf-8")
    assert [head for head in heads.keys() - shown if f'"{head}"' not in rows] == []
    assert len(heads) >= fewest


def test_page_carries_the_translations_of_those_heads_alone_that_it_has() -> None:
    template = render_module._environment().from_string(
        "{% extends 'page.html' %}{% block heads %}{{ kind }}{% endblock %}{% block content %}"
        '<h2 id="a">Loss</h2><table><tr><th scope="row">95 % interval</th><th>Own</th></tr></table>{% endblock %}'
    )
    page = template.render(version="1", kind="run")
    (text,) = re.findall(r'<script type="application/json" class="heads" lang="ja">(.*?)</script>', page)
    known = words("ja", "heads")["run"]
    assert json.loads(text) == {name: known[name] for name in ("Loss", "95 % interval")}
    assert 'class="heads"' not in template.render(version="1", kind="")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_page_in_a_browser_opens_what_is_in_the_language_of_its_reader(tmp_path: Path) -> None:
    source = "{% extends 'page.html' %}{% from 'tables.html' import whole %}{% block content %}<h1>x</h1>"
    source += "{% call whole('ja') %}短い<h2>Loss</h2>{% endcall %}<details><summary>more</summary>y</details>"
    source += (
        '<table><tr><th scope="row">95 % interval</th></tr></table>{% endblock %}{% block heads %}run{% endblock %}'
    )
    heads = {"ja-JP": ["Loss", "95 % interval 95 %区間"]}
    (tmp_path / "x.html").write_text(render_module._environment().from_string(source).render(version="1"))
    with launched() as browser:
        for locale, expected in {"ja-JP": ["ja translated whole"], "en-GB": [], "fr": []}.items():
            page = open_page(browser, (tmp_path / "x.html").as_uri(), locale)
            found = page.evaluate("[...document.querySelectorAll('details[open]')].map((each) => each.className)")
            assert (found, page.script_errors) == (expected, []), locale
            found = page.evaluate("[...document.querySelectorAll('h2, th')].map((each) => each.textContent)")
            assert found == heads.get(locale, ["Loss", "95 % interval"])


@pytest.mark.parametrize("query", ["prefers-color-scheme: dark", "@media print", "max-width: 52rem", ":focus-visible"])
def test_style_has_rules_for_dark_print_narrow_and_focus(query: str) -> None:
    assert query in (TEMPLATES / "page.css").read_text(encoding="utf-8")


def test_style_of_a_phone_keeps_columns_of_japanese_wider_than_a_character_and_captions_on_the_screen() -> None:
    narrow = (TEMPLATES / "page.css").read_text(encoding="utf-8").partition("(max-width: 34rem)")[2].partition("\n}")[0]
    assert '.scroll th[scope="row"] { min-width: 9.5rem; }' in narrow
    assert ".translated .scroll td:not(.number) { min-width: 7rem; }" in narrow
    assert ".scroll caption:not(.unseen) { position: sticky; left: 0; max-width: calc(100vw - 2.5rem); }" in narrow


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two #rrggbb colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_style_contrast_is_sufficient_in_both_schemes() -> None:
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    schemes = re.findall(
        r"--paper: (#\w{6}); --ink: (#\w{6}); --quiet: (#\w{6}).*?--wash: (#\w{6}); --accent: (#\w{6})", style
    )
    assert len(schemes) == 2
    for paper, ink, quiet, wash, accent in schemes:
        for ground in (paper, wash):
            assert contrast(ink, ground) > 7
            assert contrast(quiet, ground) > 4.5
            assert contrast(accent, ground) > 4.5


def test_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_render_missing_value_raises() -> None:
    with pytest.raises(UndefinedError):
        render("page.html")
    with pytest.raises(TemplateNotFound):
        render("no-such.html")
