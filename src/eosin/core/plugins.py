"""What installed packages add to Eosin, by entry points: data sources, rewards, encoders, exams.

A package names what it adds in its pyproject.toml (docs/add-a-data-set.md and its neighbours). Nothing of it is
imported before its name is asked for.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Literal

from eosin.core.errors import EosinError

__all__ = ["Group", "plugin", "plugin_names"]

Group = Literal["eosin.sources", "eosin.rewards", "eosin.encoders", "eosin.exams"]


def plugin_names(group: Group) -> list[str]:
    """Names that installed packages give to things of this kind."""
    return sorted({e.name for e in entry_points(group=group)})


def plugin(group: Group, name: str) -> Any | None:
    """What an installed package offers under this name; None where none does.

    Raises:
        EosinError: a package offers it and it cannot be imported, or two packages do.
    """
    found = {e.value: e for e in entry_points(group=group) if e.name == name}
    if len(found) > 1:
        raise EosinError(
            f"Two installed packages offer {name!r} as {group}.", found=", ".join(sorted(found)),
            next_step="uninstall one of them",
        )  # fmt: skip
    for entry in found.values():
        try:
            return entry.load()
        except Exception as exc:
            raise EosinError(
                f"The plug-in {name!r} cannot be loaded.", found=f"{type(exc).__name__}: {exc}",
                where=f"{entry.value} ({entry.dist.name if entry.dist else group})",
                next_step="mend or uninstall that package",
            ) from exc  # fmt: skip
    return None
