"""The data card of a curation: what it is made from, under which licences, how much there is, and what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from eosin.core.settings.curation.recipe import CurationRecipe


def card_text(recipe: CurationRecipe, ledger: Mapping[str, Any]) -> str:
    """The card as Markdown, from the recipe and the ledger."""
    last, read = ledger["steps"][-1], ledger["steps"][0]
    lines = [f"# {_plain(recipe.name or 'Curated samples')}", ""]
    if recipe.description:
        lines += [_plain(recipe.description), ""]
    lines += [f"{last['num_out']:,} samples. Research use only, not for diagnosis.", "", "## Sources", ""]
    lines += _table(("source", "samples"), last["sources"])
    for card in read["facts"].get("cards", ()):
        lines += _source(card)
    lines += ["", "## Licences", "", *_table(("licence", "samples"), last["licences"])]
    lines += [
        "",
        "The licence of the whole is the strictest of these; it is for the user to settle.",
        "",
        "## Splits",
        "",
    ]
    lines += _table(("split", "samples"), last["splits"])
    lines += ["", "## Steps", "", "| step | in | kept | set aside | made | out |", "|---|---:|---:|---:|---:|---:|"]
    for step in ledger["steps"]:
        made = step["made"] + step["again"] - step["parents"]
        aside = sum(step["dropped"].values())
        counts = (step["num_in"], step["num_kept"], aside, made, step["num_out"])
        lines.append(f"| {step['step']} | {' | '.join(f'{n:,}' for n in counts)} |")
    lines += ["", "## Set aside", "", *_table(("step: reason", "samples"), ledger["total"]["reasons"])]
    lines += _facts(ledger)
    warnings = read["facts"].get("warnings", ())
    if warnings:
        lines += ["", "## To know", "", *(f"- {_plain(w)}" for w in warnings)]
    settings = yaml.safe_dump(
        recipe.model_dump(mode="json", exclude={"workers", "engine", "ray_address"}),
        sort_keys=False,
        allow_unicode=True,
        width=110,
    )
    lines += ["", "## Settings", "", *(f"    {line}" for line in settings.splitlines()), ""]
    return "\n".join(lines)


def _source(card: Mapping[str, Any]) -> list[str]:
    told = [("title", card.get("title")), ("licence", card.get("licence")), ("citation", card.get("citation")),
            ("homepage", card.get("homepage"))]  # fmt: skip
    said = "; ".join(f"{name}: {_plain(str(value))}" for name, value in told if value)
    return ["", f"- {_plain(str(card.get('name')))}: {said}"]


def _table(head: tuple[str, str], rows: Mapping[str, int]) -> list[str]:
    if not rows:
        return ["None."]
    lines = [f"| {head[0]} | {head[1]} |", "|---|---:|"]
    return lines + [f"| {_plain(name)} | {n:,} |" for name, n in sorted(rows.items(), key=lambda r: (-r[1], r[0]))]


def _facts(ledger: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for step in ledger["steps"][1:]:
        for name, value in step["facts"].items():
            if isinstance(value, (str, int, float)):
                lines.append(f"- {step['step']}, {_plain(name.replace('_', ' '))}: {_plain(str(value))}")
    return ["", "## What the steps say", "", *lines] if lines else []


def _plain(text: str) -> str:
    """A text of strangers as one line that cannot break a table or open a tag."""
    flat = " ".join(text.split())
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("[", "&#91;"), ("`", "'")):
        flat = flat.replace(sign, safe)
    return flat[:400]
