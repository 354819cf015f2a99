"""Renders a template into one self-contained HTML page: style and script inline, nothing fetched."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from talim.html.formatting import format_counted

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Render a template of `html/templates`; every value is escaped unless it is Markup."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name in a template raises
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["counted"] = format_counted
    return environment
