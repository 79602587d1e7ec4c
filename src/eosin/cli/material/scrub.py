"""`eosin slides audit --scrub`: clean copies, and the table that says which copy is of which slide."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape


def scrub_all(paths: list[Path], scrub: Path, out: Path | None) -> None:
    """Write a clean copy of every slide; who is who is written beside the audit, never beside the copies."""
    from eosin.core.nouns.outcome import Dropped
    from eosin.core.store.artifacts import write_text_atomic
    from eosin.slides.batch.folder import table_text
    from eosin.slides.open.find import find_slides
    from eosin.slides.privacy.scrub import scrub as clean_copy

    console = Console(highlight=False, soft_wrap=True, stderr=True)
    found, _ = find_slides(paths)
    rows: list[list[object]] = []
    for one in found:
        done = clean_copy(one.path, scrub)
        if isinstance(done, Dropped):
            console.print(
                f"[yellow]not copied:[/yellow] {escape(one.path.name)}: {done.reason} ({escape(done.detail)})"
            )
        else:
            rows.append([str(one.path), done.value.name])
    console.print(f"{len(found)} slides = {len(rows)} clean copies in {scrub} + {len(found) - len(rows)} not copied")
    if out is not None and rows:
        write_text_atomic(out / "who-is-who.csv", table_text(["slide", "copy"], rows))
        console.print(f"which copy is of which slide: {out / 'who-is-who.csv'}. Keep it away from the copies.")
