"""All listed exams by name."""

from __future__ import annotations

from eosin.core.errors import EosinError
from eosin.core.plugins import plugin, plugin_names
from eosin.evaluate.exams.clipsets import arch, class_folders, class_tables, named_files, pcam
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.own import local, phantoms
from eosin.evaluate.exams.reading.names import nearest_name
from eosin.evaluate.exams.slides import multipathqa, pathreasoner, reg2, slidebench
from eosin.evaluate.exams.tiles import dalphin, medxpertqa, omnimedvqa, pathmmu, pathvlm_r1, pathvqa, quiltvqa

EXAMS: dict[str, Exam] = {
    exam.name: exam
    for exam in (
        pathmmu.EXAM, pathvlm_r1.EXAM, pathvqa.YES_NO_EXAM, pathvqa.OPEN_EXAM, quiltvqa.YES_NO_EXAM, quiltvqa.OPEN_EXAM,
        medxpertqa.EXAM, omnimedvqa.EXAM, dalphin.EXAM, slidebench.EXAM, slidebench.CAPTION_EXAM, multipathqa.EXAM,
        pathreasoner.EXAM, reg2.EXAM, phantoms.TILES_EXAM, phantoms.SLIDES_EXAM, *phantoms.DOMAIN_EXAMS,
        local.COLORECTAL_EXAM, local.QUESTIONS_EXAM, class_folders.LC_LUNG_EXAM, class_folders.LC_COLON_EXAM,
        class_folders.CRC_EXAM, named_files.WSSS4LUAD_EXAM, class_tables.SICAP_EXAM, named_files.BMT_EXAM, pcam.EXAM,
        class_tables.SKIN_EXAM, arch.EXAM,
    )
}  # fmt: skip


def exam_named(name: str) -> Exam:
    """The exam of a name.

    Raises:
        EosinError: there is none; the nearest one is named.
    """
    exam = EXAMS.get(plain := name.strip().casefold().replace("_", "-")) or _added(plain)
    if exam is None:
        names = [*EXAMS, *plugin_names("eosin.exams")]
        near = nearest_name(name, names)
        raise EosinError(
            "There is no exam of this name.", expected=", ".join(names), found=name,
            next_step=f"did you mean {near}?" if near else "eosin exams list",
        )  # fmt: skip
    return exam


def all_exams() -> list[Exam]:
    """The exams that come with Eosin, and those of installed packages."""
    return [*EXAMS.values(), *(exam_named(n) for n in plugin_names("eosin.exams") if n not in EXAMS)]


def _added(name: str) -> Exam | None:
    exam = plugin("eosin.exams", name)
    if exam is not None and not (isinstance(exam, Exam) and exam.name == name):
        raise EosinError(
            f"The plug-in exam {name!r} is not an exam of this name.",
            expected=f'an Exam whose card says name="{name}"',
            found=str(exam)[:200], next_step="see docs/add-an-exam.md",
        )  # fmt: skip
    return exam


def split_name(told: str) -> tuple[Exam, str, str]:
    """An exam, a subset and a split of "NAME", "NAME/SUBSET", "NAME/SPLIT" or "NAME/SUBSET/SPLIT".

    Raises:
        EosinError: no such exam, subset or split.
    """
    name, *parts = [p for p in told.strip().split("/") if p]
    exam = exam_named(name)
    subset, split = ALL, ""
    for part in parts:
        folded = _plain(part)
        if folded in {_plain(s) for s in exam.splits} and not split:
            split = part
        elif folded in {_plain(s) for s in exam.subsets} and subset == ALL:
            subset = part
        else:
            near = nearest_name(part, (*exam.subsets, *exam.splits))
            raise EosinError(
                f"{exam.name} has no such part.", found=part,
                expected=f"subsets: {', '.join(exam.subsets) or 'none'}; splits: {', '.join(exam.splits)}",
                next_step=f"did you mean {exam.name}/{near}?" if near else None,
            )  # fmt: skip
    asked = exam_parts(exam, subset, split)
    return exam, asked.subset, asked.split


def exam_parts(exam: Exam, subset: str, split: str) -> Asked:
    """Subset and split as the exam writes them, without a look at any folder."""
    named = {_plain(s): s for s in (*exam.subsets, *exam.splits)}
    return Asked(None, named.get(_plain(subset), subset), named.get(_plain(split), split) if split else exam.splits[0])


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")
