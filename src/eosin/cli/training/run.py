"""`eosin run`: a recipe from data to report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console


def run(
    recipe: Annotated[str | None, typer.Argument(help="A recipe file, or the name of a shipped one.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value changes, e.g. data.root=tiles")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run. Default: runs/NAME.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Refuse to start anew: only go on.")] = False,
    launch: Annotated[
        str | None, typer.Option(help="How processes are started: processes:4, fsdp:8, zero3-7b, slurm, ray.")
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Only show the script or command of --launch.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the recipes that come with Eosin.")] = False,
) -> None:
    """Run a recipe: data, training stages, exams, report.

    A run that was stopped goes on where it stopped when the same command is given again; a finished run is left as
    it is. Nothing is overwritten.

    Example: eosin run recipes/colorectal.yaml data.root=tiles --out runs/crc
    """
    from eosin.chain.recipe.run import shipped_recipes
    from eosin.core.errors import EosinError

    if show:
        for name, path in shipped_recipes().items():
            print(f"{name:<20} {_first_comment(path)}")
        return
    if recipe is None:
        raise EosinError("Which recipe?", next_step="eosin run --list   shows those that come with Eosin")
    changes = [*(overrides or []), *([f"launch={launch}"] if launch else [])]
    run_file(find_recipe(recipe), changes, out, dry_run=dry_run, resume=resume, print_only=print_only)


def find_recipe(name: str) -> Path:
    """A recipe file by path, or a shipped one by name."""
    from eosin.chain.recipe.run import shipped_recipes

    path = Path(name)
    if path.is_file():
        return path
    return shipped_recipes().get(path.stem if path.parent.name in ("", "recipes") else name, path)


def run_file(
    path: Path, overrides: list[str], out: Path | None, *, dry_run: bool = False, resume: bool = False,
    print_only: bool = False,
) -> None:  # fmt: skip
    """Load, check and run a recipe file; print the results."""
    from eosin.chain.curation.inside import plan_inside
    from eosin.chain.recipe.checks import check_recipe
    from eosin.core.settings.recipe import load_recipe

    resolved = load_recipe(path, overrides)
    notes = check_recipe(resolved.recipe, path, load_code=not dry_run)
    place = out or Path("runs") / resolved.recipe.name
    if print_only:
        from eosin.chain.launch.start import shown

        print(shown(resolved.recipe, path, overrides, place), end="")
        return
    if dry_run:
        print(resolved.to_yaml(), end="")
        changed = [r for r in resolved.provenance if r["from"] not in ("default", "paper")]
        for name, stage in resolved.recipe.stages.items():
            if stage.kind == "rl":
                print(f"# {name} trains with {stage.algorithm.true_name}")
        for line in plan_inside(resolved.recipe):
            print(f"# before the first stage, curate {line}")
        for note in notes:
            print(f"# note: {note}")
        print("# not from the defaults:")
        for row in changed:
            print(f"#   {row['field']} = {row['value']}   ({row['from']})")
        return
    for note in notes:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(f"note: {note}")
    need("torch", "trl", "datasets")
    from eosin.chain.launch.check import check_vllm
    from eosin.chain.launch.start import is_elsewhere, start

    if is_elsewhere(resolved.recipe):
        start(resolved.recipe, path, overrides, place)
        return
    check_vllm(resolved.recipe)
    from eosin.chain.recipe.run import run_recipe
    from eosin.models.load import quiet

    quiet()
    summary = run_recipe(resolved, place, must_resume=resume)
    show_summary(summary, place)


def show_summary(summary: dict[str, Any], place: Path) -> None:
    """The table of results and where the report is."""
    from eosin.report.tables import summary_table

    console = Console()
    if any(s.get("exams") for s in summary.get("stages") or ()):
        console.print(summary_table(summary))
    console.print(f"report: {(place / 'report' / 'index.html').resolve()}", soft_wrap=True)


def need(*packages: str) -> None:
    """Refuse early, and with the command that mends it, where packages of [train] are missing."""
    import importlib.util

    from eosin.core.errors import MissingExtraError

    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")


def _first_comment(path: Path) -> str:
    first = path.read_text("utf-8").splitlines()[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
