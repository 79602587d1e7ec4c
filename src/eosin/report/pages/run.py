"""Build the page of a run: one self-contained HTML file without scripts or outside resources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eosin.core.errors import disk_errors
from eosin.core.store.artifacts import write_text_atomic
from eosin.report import words
from eosin.report.drawing.curves import wants_curves
from eosin.report.drawing.pictures import Picture, load_pictures, load_thumbnails
from eosin.report.pages.changed import changed_ids, write_changed
from eosin.report.pages.frame import clean, stylesheet, tag_classes, tags_of, templates
from eosin.report.records.load import NO_EXAM, Run, load
from eosin.report.sections import overview as sections
from eosin.report.sections import stage_table
from eosin.report.sections.changed import change_warnings
from eosin.report.sections.clip import clip_sections
from eosin.report.sections.evidence import evidence_sections
from eosin.report.sections.exam_terms import term_sections
from eosin.report.sections.masking import mask_sections
from eosin.report.sections.replies import Group, gallery_rows, groups_a_stage, rollout_groups
from eosin.report.sections.rl import rl_sections

DEFAULT_GALLERY = 24
MAX_GALLERY = 96


def build(run_dir: Path, out: Path | None = None, *, summary: Mapping[str, Any] | None = None) -> Path:
    """Write the report of a run, whole or not at all, and beside it a page a stage of what it changed.

    Args:
        run_dir: folder of a run, complete or not.
        out: the file to write; by default report/index.html in the run.
        summary: what summary.json will say, where the page is written before it.

    Returns:
        The path of the page.

    Raises:
        EosinError: there is no run at `run_dir`, or the disk refuses.
    """
    run_dir = Path(run_dir)
    run = load(run_dir, summary)
    target = Path(out) if out is not None else run_dir / "report" / "index.html"
    if target.is_dir():
        target = target / "index.html"
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    pages = write_changed(run, target)
    write_text_atomic(target, clean(render(run, target.parent, pages)))
    return target


def shown_samples(run_dir: Path) -> list[str]:
    """Ids of the samples whose pictures the pages of a run show, for whoever writes previews of them."""
    run = load(Path(run_dir))
    return [*(str(r.get("id")) for r in _gallery(run)), *(g.sample_id for g in _groups(run)), *changed_ids(run)]


def _gallery(run: Run) -> list[dict[str, Any]]:
    return gallery_rows(run.result_exam, _gallery_size(run.recipe)) if run.result_exam else []


def _groups(run: Run) -> list[Group]:
    limit = groups_a_stage(sum(bool(s.rollouts) for s in run.stages))
    return [g for s in run.stages for g in rollout_groups(s, limit)]


def render(run: Run, page_dir: Path, changed: Mapping[str, str] | None = None) -> str:
    """The page as HTML.

    Args:
        page_dir: folder in which the page will stand; links to checkpoints are relative to it.
        changed: the page of what a stage changed, by stage; a file beside this page.
    """
    last = run.result_exam
    tags = tags_of(run.recipe)
    clip = clip_sections(run)
    if clip and NO_EXAM in run.notes:
        run.notes.remove(NO_EXAM)
    shown, groups = _gallery(run), _groups(run)
    thumbnails = [load_thumbnails(run.root / "stages" / g.stage, g.images) for g in groups]
    without = [g.sample_id for g, own in zip(groups, thumbnails, strict=True) if not own]
    pictures = load_pictures(run.root, [*(str(r.get("id")) for r in shown), *without], run.notes)
    shown_with = [own or [pictures[g.sample_id]] for g, own in zip(groups, thumbnails, strict=True)]
    root = Path(os.path.relpath(run.root.resolve(), page_dir.resolve()))
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            run=run,
            css=stylesheet(),
            date=str(run.record.get("created") or "date not recorded")[:10],
            description=str(run.recipe.get("description") or ""),
            result=_result(run, clip),
            warnings=[*change_warnings(run), *words.warnings(run)],
            changed={stage: sections.relative(Path(name)) for stage, name in (changed or {}).items()},
            headline=sections.headline(run),
            stages=stage_table.stage_rows(run),
            link=lambda path: sections.relative(root / path),
            exams=sections.exam_sections(run),
            curves=sections.curve_sections(run),
            has_curves=wants_curves(run.recipe),
            step_time=sections.step_time(run),
            gallery=[sections.gallery_item(r, pictures[str(r.get("id"))], tags) for r in shown],
            last=last,
            last_title=words.stage_title(last.stage) if last else "",
            evidence=evidence_sections(run),
            rl=rl_sections(run),
            terms=term_sections(run),
            masking=mask_sections(run),
            clip=clip,
            clip_only=bool(clip) and all(s.kind == "clip" for s in run.stages),  # no model that writes replies
            rollouts=_rollouts(groups, shown_with, tags),
            card=sections.data_card(run),
            record=sections.record_rows(run.record),
            tag_class=tag_classes(tags),
            provenance=sections.provenance_rows(run),
        )
    )


def _result(run: Run, clip: list[dict[str, Any]]) -> list[str]:
    """The short result; where only clip stages were examined, theirs."""
    if run.result_exam is not None or not clip:
        return words.result(run)
    told = [
        f"{s['stage']}: zero-shot balanced accuracy {s['zero_shot']['balanced']}. {s['zero_shot']['verdict']}".strip()
        for s in clip if s["zero_shot"]
    ]  # fmt: skip
    return [words.what_was_trained(run), *told]


def _rollouts(groups: list[Group], pictures: list[list[Picture]], tags: tuple[str, ...]) -> dict[str, list[Any]]:
    by_stage: dict[str, list[Any]] = {}
    for group, own in zip(groups, pictures, strict=True):
        item = sections.group_item(group, own, tags)
        by_stage.setdefault(group.stage, []).append(item)
    return by_stage


def _gallery_size(recipe: Mapping[str, Any]) -> int:
    settings = recipe.get("report")
    size = settings.get("gallery") if isinstance(settings, Mapping) else None
    return min(size, MAX_GALLERY) if isinstance(size, int) and size >= 0 else DEFAULT_GALLERY
