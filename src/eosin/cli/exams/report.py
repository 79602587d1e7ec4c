"""`eosin report`: the page of a run, built again from what is on disk; `eosin report compare`: several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core


class _PageByDefault(typer.core.TyperGroup):
    """`eosin report RUN` is `eosin report page RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["page", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_PageByDefault,
    no_args_is_help=True,
    help="The page of a run, or a comparison of several. Research use only, not for diagnosis.\n\n"
    "Example: eosin report runs/demo",
)


@app.command("page")
def page(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run, complete or not.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write. Default: report/index.html in the run.")
    ] = None,
) -> None:
    """Write the report of a run: one HTML page that needs nothing else. Research use only, not for diagnosis.

    Example: eosin report runs/demo
    """
    from eosin.report import build

    print(f"report: {build(run_dir, out).resolve()}")


@app.command("compare")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or of exams (eosin evaluate --out).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html, table.md and table.json.")],
) -> None:
    """Compare several runs (stages over seeds), or several exams (models x exams, paired, with corrected p values).

    Example: eosin report compare runs/seed0 runs/seed1 runs/seed2 --out runs/compared
    """
    from eosin.report import compare as write

    made = write(runs, out)
    print((out / "table.md").read_text("utf-8"))
    print(f"report: {made.resolve()}")
