"""Renders a template into one self-contained HTML page: style and script inline, nothing fetched."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from talim.html.formatting import format_counted
from talim.html.languages import languages, words

_HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>', re.DOTALL)
_HEAD = re.compile(r"<(h2|th)\b[^>]*>([^<]+)<")
TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Render a template of `html/templates`; every value is escaped unless it is Markup."""
    return _environment().get_template(template).render(**values)


def headings(content: str) -> list[tuple[str, str]]:
    """The anchor and title of each section of a page, from its rendered HTML: its table of contents."""
    translated = tuple(f"{language}-" for language in languages() if language != "en")
    return [
        (anchor, Markup(title).striptags().rstrip("."))
        for anchor, title in _HEADING.findall(content)
        if not anchor.startswith(translated)
    ]


def heads_in(content: str, language: str, page: str) -> dict[str, str]:
    """The headings and heads of tables in rendered HTML that heads.json names for this kind of page, translated."""
    known = words(language, "heads").get(page)
    if not known:  # a page may have megabytes of sound to search
        return {}
    found = dict.fromkeys(Markup(text.strip()).unescape() for _, text in _HEAD.findall(content))
    return {head: known[head] for head in found if head in known}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name in a template raises
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"counted": format_counted, "languages": languages, "words": words}
    environment.filters |= {"headings": headings, "heads_in": heads_in}
    return environment
