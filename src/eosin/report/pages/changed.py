"""A page a stage of what it changed, beside the page of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eosin.core.store.artifacts import write_text_atomic
from eosin.core.store.names import file_name
from eosin.report import words
from eosin.report.drawing.pictures import Picture, load_pictures
from eosin.report.pages.frame import clean, stylesheet, tag_classes, tags_of, templates
from eosin.report.records.load import ExamRun, Run, StageRun
from eosin.report.sections import changed as sections
from eosin.report.sections.overview import gallery_item, relative

SAID = {"rl": "RL"}


def changed_ids(run: Run) -> list[str]:
    """Ids of the samples whose pictures these pages show."""
    shown = [
        rows
        for s in sections.changed_stages(run)
        for pair in sections.comparisons(run, s.name)
        for rows in sections.shown_turned(*pair)
    ]
    return [str(r.get("id")) for rows in shown for r in rows]


def write_changed(run: Run, home: Path) -> dict[str, str]:
    """Write the pages beside the page of the run, each whole or not at all.

    Args:
        home: the page of the run. Where it is not called index.html, its name stands in theirs.

    Returns:
        The name of the file, by stage.
    """
    names = {}
    prefix = "" if home.name == "index.html" else f"{home.stem}-"
    for stage in sections.changed_stages(run):
        names[stage.name] = f"{prefix}changed-{file_name(stage.name)}.html"
        write_text_atomic(home.parent / names[stage.name], clean(render_changed(run, stage, relative(Path(home.name)))))
    return names


def render_changed(run: Run, stage: StageRun, home: str = "index.html") -> str:
    """The page of one stage as HTML.

    Args:
        home: link to the page of the run.
    """
    pairs = sections.comparisons(run, stage.name)
    tags = tags_of(run.recipe)
    notes: list[str] = []
    wanted = [str(r.get("id")) for pair in pairs for rows in sections.shown_turned(*pair) for r in rows]
    pictures = load_pictures(run.root, wanted, notes)
    exams = [sections.exam_change(*pair) | _items(*pair, pictures, tags) for pair in pairs]
    return (
        templates()
        .get_template("changed.html.j2")
        .render(
            run=run,
            css=stylesheet(),
            stage=stage.name,
            home=home,
            title=f"What {SAID.get(stage.kind, stage.name)} changed",
            what=str(stage.info.get("algorithm") or words.KINDS.get(stage.kind, stage.kind)),
            start=run.start_of(stage.name),
            warnings=[w for e in exams for w in e["warnings"]],
            kept=sections.kept_record(stage),
            terms=sections.terms_moved(stage),
            exams=exams,
            notes=notes,
            tag_class=tag_classes(tags),
        )
    )


def _items(before: ExamRun, after: ExamRun, pictures: Mapping[str, Picture], tags: tuple[str, ...]) -> dict[str, Any]:
    wrong, right = sections.shown_turned(before, after)
    return {
        name: [
            {"before": gallery_item(one, pictures[str(two.get("id"))], tags),
             "after": gallery_item(two, pictures[str(two.get("id"))], tags)}
            for one, two in sections.item_pairs(before, rows)
        ]
        for name, rows in (("wrong", wrong), ("right", right))
    }  # fmt: skip
