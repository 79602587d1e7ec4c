"""What `eosin` alone says: what it does, and the command that comes next on this machine."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

__all__ = ["next_command", "story"]


def story(here: Path = Path(".")) -> str:
    """Ten lines: the path from material to a reading, and the next command."""
    return "\n".join([
        "Eosin: vision-language models that reason about tissue. Research use only, not for diagnosis.",
        "",
        "  1 material   eosin slides, eosin documents, eosin knowledge, eosin phantom",
        "  2 training   eosin run RECIPE      (eosin run --list shows the recipes, eosin reference what a field means)",
        "  3 exams      eosin evaluate CHECKPOINT EXAM      (eosin exams list, eosin report compare)",
        "  4 reading    eosin ask CHECKPOINT PICTURE QUESTION, eosin serve CHECKPOINT",
        "  5 your own   docs/tutorial.md: 15 minutes, from nothing to your own tiles",
        "",
        f"next: {next_command(here)}",
        "help: eosin --help, eosin VERB --help; this machine: eosin doctor; TAB: eosin --install-completion",
    ])  # fmt: skip


def next_command(here: Path = Path(".")) -> str:
    """The command that comes next: what is missing first, then the demo, then what was begun, then one's own data."""
    if any(importlib.util.find_spec(p) is None for p in ("torch", "transformers", "trl")):
        return "pip install 'eosin[train]'   (training is not installed; reading, scoring and slides work without)"
    runs = here / "runs"
    begun = sorted(p.parent for p in runs.glob("*/recipe.yaml")) if runs.is_dir() else []
    unfinished = [run for run in begun if not _is_complete(run)]
    if unfinished:
        return f"eosin run {unfinished[0] / 'recipe.yaml'} --out {unfinished[0]}   (it was stopped; it goes on)"
    if not begun:
        return "eosin demo   (phantom tissue, a small model through every stage, a report; no download)"
    return f"look at {begun[-1] / 'report' / 'index.html'}; then your own tiles: docs/tutorial.md, step 5"


def _is_complete(run: Path) -> bool:
    try:
        return bool(json.loads((run / "summary.json").read_text("utf-8")).get("state") == "complete")
    except (OSError, ValueError, AttributeError):
        return False
