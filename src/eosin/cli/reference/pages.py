"""The reference as Markdown: recipe fields, commands, Python API. `make docs` puts it into the site."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eosin.cli.reference.fields import Group, groups

__all__ = ["commands_page", "python_page", "recipe_page", "write_pages"]

_HEAD = "<!-- Made by `eosin reference --out`; a change here is lost. -->\n\n"


def write_pages(out: Path, command: Any) -> list[Path]:
    """Write recipe.md, commands.md and python.md into a folder.

    Args:
        command: the root of the command line, as click sees it.
    """
    from eosin.core.store.artifacts import write_text_atomic

    out.mkdir(parents=True, exist_ok=True)
    made = {"recipe.md": recipe_page(), "commands.md": commands_page(command), "api.md": python_page()}
    for name, text in made.items():
        write_text_atomic(out / name, _HEAD + text)
    return [out / name for name in made]


def recipe_page() -> str:
    """Every class of settings with its fields."""
    lines = ["# Recipe fields", "", "Every field that a recipe may hold. `eosin run RECIPE --dry-run` prints a recipe "
             "with all of them; `eosin reference FIELD` tells of one. A field is set in the recipe, or on the command "
             "line as `key=value` with dots between the levels: `stages.rl.temperature=0.7`.", ""]  # fmt: skip
    for group in groups():
        lines += _group_lines(group)
    return "\n".join(lines)


def _group_lines(group: Group) -> list[str]:
    lines = [
        f"## {group.name}",
        "",
        *(["At " + ", ".join(f"`{p}`" for p in group.places if p), ""] * any(group.places)),
    ]
    lines += [group.text, "", "| field | type | default | unit | |", "|---|---|---|---|---|"]
    for f in group.fields:
        lines.append(f"| `{f.name}` | {_cell(f.kind)} | {_code(f.default)} | {f.unit} | {_cell(f.text)} |")
    return [*lines, ""]


def commands_page(command: Any) -> str:
    """Every verb with its arguments and options."""
    lines = ["# Commands", "", "`eosin VERB --help` prints the same.", ""]
    for path, verb in _verbs(command, ("eosin",)):
        lines += [f"## {' '.join(path)}", "", *_help_of(verb)]
        lines += ["| | type | default | |", "|---|---|---|---|"]
        for one in verb.params:
            if one.name not in ("help", "install_completion", "show_completion"):
                lines.append(_row(one))
        lines.append("")
    return "\n".join(lines)


def _verbs(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, one in inner.items():
        yield from _verbs(one, (*path, name))


def _help_of(verb: Any) -> list[str]:
    lines = []
    for block in inspect.cleandoc(verb.help or "").split("\n\n"):
        if block.startswith("Example: "):
            lines += ["```", block.removeprefix("Example: "), "```", ""]
        else:
            lines += [_plain(block), ""]
    return lines


def _row(one: Any) -> str:
    is_argument = one.param_type_name == "argument"
    names = one.name.upper() if is_argument else ", ".join([*one.opts, *one.secondary_opts])
    default = "required" if one.required else _value(one.default)
    return f"| {_code(names)} | {_code(_type(one))} | {_code(default)} | {_cell(_plain(one.help or ''))} |"


def _type(one: Any) -> str:
    """The type in words: newer releases of typer describe it themselves, older ones through click."""
    if getattr(one, "is_flag", False):
        return ""
    told = getattr(getattr(one, "type_descriptor", None), "annotation", None)
    if told is None:
        return str(getattr(getattr(one, "type", None), "name", ""))
    return str(getattr(told, "__name__", told)).replace("typing.", "").lower()


def _value(default: Any) -> str:
    if default is None or callable(default) or type(default).__name__.startswith("Sentinel") or default is False:
        return ""
    return str(default)


def python_page() -> str:
    """The names of `import eosin`, for mkdocstrings to fill in."""
    from eosin import _WHERE

    lines = ["# Python API", "", "What `import eosin` gives. The page [From Python](../python.md) has an example of "
             "each.", ""]  # fmt: skip
    for name, where in _WHERE.items():
        module, _, there = where.partition(":")
        lines += [f"## eosin.{name}", "", f"::: {module}.{there or name}", "    options:",
                  "      show_root_heading: false", "      heading_level: 3", ""]  # fmt: skip
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def _plain(text: str) -> str:
    return text.replace("\b", "").strip()
