"""An audit from a path to a page: read, look at pictures, run all checks, write audit.json and index.html."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eosin.chain.audit.answers import answer_faults
from eosin.chain.audit.found import Found
from eosin.chain.audit.images import Picture, image_faults, look_at, near_pairs_of
from eosin.chain.audit.leaks import Part, against, split_leaks
from eosin.chain.audit.origins import origin_faults
from eosin.chain.audit.read import Read, read_any
from eosin.chain.audit.texts import text_faults
from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample
from eosin.core.store import artifacts as store
from eosin.knowledge.linking.visibility import Sees

KIND = "audit"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class AuditSettings:
    """How a data set is looked at.

    Attributes:
        sees: what its images are, for statements that they cannot show; None: as each sample says.
        licence: of samples that state none.
        crops: look for crops of pictures too. Without it whole pictures are compared, which is quicker.
        max_samples: of a larger data set a seeded subset of this size is looked at.
        num_shown: random samples on the page.
    """

    sees: Sees | None = None
    licence: str | None = None
    image_folders: tuple[str, ...] = ()
    crops: bool = True
    max_samples: int = 50_000
    num_shown: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Audit:
    """What was found, and the figures of the page."""

    read: Read
    found: tuple[Found, ...]
    figures: dict[str, Any]

    @property
    def faults(self) -> tuple[Found, ...]:
        return tuple(f for f in self.found if f.level == "fault")

    def as_json(self) -> dict[str, Any]:
        counts = {"faults": len(self.faults), "notes": len(self.found) - len(self.faults)}
        return {"schema_version": 1, "name": self.read.name, **counts, "found": [f.as_json() for f in self.found],
                "figures": self.figures, "source_notes": list(self.read.notes)}  # fmt: skip


def audit(
    path: Path,
    others: Sequence[str] = (),
    settings: AuditSettings = AuditSettings(),
    tell: Tell = lambda text: None,  # noqa: B008
) -> Audit:
    """Look at a data set. Faults come first, in the order of the checks.

    Args:
        others: exams by name, or paths of other data sets, whose samples must not stand in this one.
        tell: is given a line before each part of the work.

    Raises:
        EosinError: it cannot be read.
    """
    read = read_any(path, image_folders=settings.image_folders, licence=settings.licence)
    num = len(read.samples)
    read = replace(read, samples=tuple(subset(read.samples, settings.max_samples, settings.seed)))
    samples = read.samples
    tell(f"{num:,} samples, {len(samples):,} are looked at; their pictures")
    this = Part(read.name, samples, look_at(samples), range(len(samples)))
    compared = [this]
    for told in others:
        compared.append(_other(told, settings, sum(len(p.samples) for p in compared)))
    every = [p for part in compared for p in part.pictures]
    pairs = near_pairs_of([p.samples for p in compared], every, crops=settings.crops)
    found, figures = origin_faults(samples, read.dropped)
    found += _tag_sets(read)
    parts = ((image_faults, (samples, this.pictures, pairs)), (answer_faults, (samples, settings.seed)),
             (text_faults, (samples, settings.seed, settings.sees)))  # fmt: skip
    for name, (check, given) in zip(("images", "answers", "texts"), parts, strict=True):
        tell(f"checking {name}")
        more, figures[name] = check(*given)  # type: ignore[operator]
        found += more
    tell("looking for what stands in two places")
    found += split_leaks(samples, this.pictures, pairs)
    for other in compared[1:]:
        found += against(this, other, pairs)
    figures |= _counts(read) | {"all_samples": num}
    figures["against"] = list(others)
    order = {"fault": 0, "note": 1}
    return Audit(read, tuple(sorted(found, key=lambda f: order[f.level])), figures)


def _counts(read: Read) -> dict[str, Any]:
    samples = read.samples
    return {
        "samples": len(samples), "set_aside": len(read.dropped),
        "splits": dict(Counter(s.split or "none" for s in samples)),
        "groups": len({s.origin.group for s in samples if s.origin.group}),
        "kinds": {
            "closed questions": sum(len(s.choices) > 1 for s in samples),
            "open questions": sum(not s.choices and bool(s.answer) for s in samples),
            "captions": sum(bool(s.caption) for s in samples),
            "with reasoning": sum(bool(s.reasoning) for s in samples),
            "with entities": sum(bool(s.entities) for s in samples),
            "dialogues of several turns": sum(len(s.messages) > 2 for s in samples),
        },
        "tags": dict(read.tags),
    }  # fmt: skip


def _tag_sets(read: Read) -> list[Found]:
    """The data of PathReasoner-R1 writes <info>, and its reward reads <observe>: two names for one block."""
    both = {t: read.tags.get(t, 0) for t in ("info", "observe")}
    if not all(both.values()):
        return []
    said = f"Replies name their findings in two ways: <info> {both['info']} times, <observe> {both['observe']} times."
    return [Found("two tag sets", "fault", said, min(both.values()), sum(both.values()))]


def _other(told: str, settings: AuditSettings, start: int) -> Part:
    """Another data set by its path, or an exam by its name; its samples are numbered from `start`."""
    path = Path(told)
    if path.exists():
        read = read_any(path, image_folders=settings.image_folders)
        name, samples = read.name, read.samples
    else:
        name, samples = told, tuple(_exam_samples(told))
    return Part(name, samples, look_at(samples), range(start, start + len(samples)))


def _exam_samples(told: str) -> Sequence[Sample]:
    """The questions of a listed exam: NAME, NAME/SPLIT or NAME/SUBSET/SPLIT, and "=DIR" where it has a folder."""
    from eosin.evaluate.exams.exam import Asked
    from eosin.evaluate.exams.registry import split_name

    name, _, root = told.partition("=")
    exam, subset, split = split_name(name)
    return exam.samples(Asked(Path(root) if root else None, subset, split)).kept


def write_audit(made: Audit, out: Path, settings: AuditSettings) -> Path:
    """Write `out`/audit.json and `out`/index.html, whole or not at all.

    Raises:
        EosinError: something stands at `out`.
    """
    from eosin.report.pages.audit import write_audit_page

    if out.exists():
        raise EosinError("There is something at this place already.", where=out, next_step="choose another --out")
    shown = subset(made.read.samples, settings.num_shown, settings.seed)
    with store.writing(out, KIND, record={"seed": settings.seed, "data": made.read.name}) as writer:
        store.write_json(writer.dir / "audit.json", made.as_json())
        write_audit_page(writer.dir / "index.html", made.as_json(), shown)
        writer.counts |= {"samples": len(made.read.samples), "faults": len(made.faults)}
    return out / "index.html"


__all__ = ["Audit", "AuditSettings", "Picture", "audit", "write_audit"]
