"""The laws of the house: who may import whom, how large things may grow, what the light install may load."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "eosin"

MAY_IMPORT = {
    "core": set(),
    "phantom": {"core", "slides"},
    "slides": {"core"},
    "knowledge": {"core"},
    "models": {"core"},
    "sources": {"core", "slides", "phantom"},
    "clients": {"core"},
    "documents": {"core", "knowledge", "clients"},
    "scoring": {"core", "knowledge", "clients"},
    "engines": {"core", "models", "clients"},
    "curate": {"core", "slides", "sources", "knowledge", "scoring", "clients", "documents", "evaluate.baselines"},
    "train": {"core", "scoring", "models", "engines", "curate.mixture"},
    "evaluate": {"core", "slides", "sources", "knowledge", "scoring", "models", "engines"},
    "report": {"core", "evaluate.statistics"},
    "serve": {"core", "slides", "knowledge", "models", "engines", "scoring", "evaluate.statistics"},
}
EVERYTHING = {"chain", "cli"}
NO_TORCH = {
    "core", "clients", "documents", "phantom", "sources", "scoring", "curate", "knowledge", "report", "evaluate",
    "slides",
}  # fmt: skip
HEAVY = {"torch", "torchvision", "transformers", "trl", "peft", "accelerate"}

# Functions that may be longer than 60 lines, each with its reason.
LONG_FUNCTIONS: dict[str, str] = {}
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 450
MAX_FILES_IN_A_ROOM = 14


def _files() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def _room(path: Path) -> str:
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else ""


@dataclass(frozen=True)
class Facts:
    """What the laws ask of a file: modules that it imports, without and with those for type checking; the lengths of
    its functions, by name; whether it says what it is."""

    imports: tuple[str, ...]
    all_imports: tuple[str, ...]
    functions: tuple[tuple[str, int], ...]
    num_lines: int
    is_documented: bool


@functools.cache
def facts_of(path: Path) -> Facts:
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    functions = tuple(
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
    everything = tuple(_imports(tree, for_types=True))
    imports = tuple(_imports(tree)) if "TYPE_CHECKING" in text else everything
    return Facts(imports, everything, functions, len(text.splitlines()), bool(ast.get_docstring(tree)))


def _imports(tree: ast.AST, *, for_types: bool = False) -> list[str]:
    """Every module imported anywhere in a file, also inside functions; those for type checking only when asked."""
    skipped = (
        set()
        if for_types
        else {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
            for node in ast.walk(branch)
        }
    )
    names: list[str] = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names.append("relative import")
    return names


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(SRC)))
def test_import_direction(path: Path) -> None:
    room = _room(path)
    imports = facts_of(path).imports
    assert "relative import" not in imports
    if room in EVERYTHING or room == "":
        return
    allowed = MAY_IMPORT[room] | {room}
    for name in imports:
        parts = name.split(".")
        if parts[0] != "eosin" or len(parts) == 1:
            continue
        target = parts[1]
        if target[0].isupper() or target.startswith("__"):
            continue
        short = ".".join(parts[1:3])
        assert target in allowed or short in allowed, f"{path.name} in {room} imports {name}"


@pytest.mark.parametrize("path", _files(), ids=lambda p: str(p.relative_to(SRC)))
def test_sizes(path: Path) -> None:
    facts = facts_of(path)
    assert facts.num_lines <= MAX_FILE_LINES
    for function, length in facts.functions:
        name = f"{path.relative_to(SRC)}:{function}"
        assert length <= MAX_FUNCTION_LINES or name in LONG_FUNCTIONS, f"{name} has {length} lines"


def test_no_room_holds_more_files_than_a_reader_can_take_in() -> None:
    """At most 14 files side by side: sub-rooms tell the story."""
    beside = Counter(p.parent.relative_to(SRC) for p in _files())
    assert {str(room): n for room, n in beside.items() if n > MAX_FILES_IN_A_ROOM} == {}


def test_every_room_says_what_lies_in_it() -> None:
    for folder in {p.parent for p in _files()}:
        assert facts_of(folder / "__init__.py").is_documented, folder.relative_to(SRC)


def test_no_circle_of_imports_between_files() -> None:
    """Counting imports inside functions, and those for type checking, too."""
    modules = {_module(p): p for p in _files()}
    imports = {}
    for name, path in modules.items():
        found = facts_of(path).all_imports
        imports[name] = {f for f in found if f in modules} - {name, *_packages_above(name)}
    circles = [circle for name in imports if (circle := _circle_from(name, imports))]
    assert not circles, " -> ".join(min(circles, key=len))


def _module(path: Path) -> str:
    return ".".join(("eosin", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")


def _packages_above(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:n]) for n in range(1, len(parts))}


def _circle_from(start: str, imports: dict[str, set[str]]) -> list[str] | None:
    """A shortest way from a file back to itself, or None."""
    ways = deque([[start]])
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        for target in sorted(imports[way[-1]]):
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return None


def test_every_room_has_a_law() -> None:
    rooms = {_room(p) for p in _files()} - {""}
    assert rooms <= set(MAY_IMPORT) | EVERYTHING


def test_light_rooms_load_no_torch() -> None:
    """In a fresh interpreter, importing every module of the light rooms loads none of the heavy packages."""
    modules = [
        ".".join(("eosin", *p.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")
        for p in _files()
        if _room(p) in NO_TORCH
    ]
    code = (
        f"import sys, importlib\nfor m in {['eosin', *modules]!r}: importlib.import_module(m)\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_train_and_evaluate_do_not_know_each_other() -> None:
    for room, other in (("train", "evaluate"), ("evaluate", "train")):
        for path in (SRC / room).rglob("*.py"):
            assert not [n for n in facts_of(path).imports if n.startswith(f"eosin.{other}")]


def test_no_pickle_of_data() -> None:
    for path in _files():
        imports = facts_of(path).imports
        assert not {"pickle", "dill", "joblib", "cloudpickle"} & {n.split(".")[0] for n in imports}, path
