"""What all pages share: templates, the style sheet, the reply's tags, and which characters a file may hold."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from eosin.report.sections.replies import KNOWN_TAGS


@functools.cache
def templates() -> Environment:
    """Every value is escaped unless it is Markup; a name that the page does not know raises."""
    environment = Environment(
        loader=PackageLoader("eosin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda v: f"{100 * v:.0f}\u00a0%"
    return environment


def stylesheet() -> Markup:
    """The style sheet of every page."""
    return Markup((Path(__file__).parents[1] / "templates" / "page.css").read_text("utf-8"))


def tags_of(recipe: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags of a run's reply grammar, in order; those that are known where the recipe does not say."""
    grammar = recipe.get("grammar")
    if isinstance(grammar, str) and re.fullmatch(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*", grammar):
        return tuple(grammar.split("/"))
    return KNOWN_TAGS


def tag_classes(tags: tuple[str, ...]) -> dict[str, str]:
    """The style of each block of a reply."""
    return {t: f"b{i % 3}" if t != "answer" else "banswer" for i, t in enumerate(tags)}


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(html: str) -> str:
    """Replace characters that no HTML file may hold (control characters, half surrogates)."""
    return _CONTROL.sub("\ufffd", html)
