"""The 60 templates: 5 subfields x 4 tasks x 3 difficulties, as files that a pathologist can edit.

After Patho-R1 (arXiv 2505.11404), whose templates were never published: these are Eosin's own. Steps and words of each
difficulty are defaults of ours; the paper gives none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError, model_validator

from eosin.core.errors import EosinError, disk_errors
from eosin.core.nouns.sample import Sample
from eosin.core.settings.base import Settings
from eosin.core.store.yaml_text import parse_yaml
from eosin.knowledge.linking.visibility import Sees

Subfield = Literal["he", "gross", "ihc", "cytology", "fish"]
Task = Literal["multiple-choice", "detailed-description", "complex-reasoning", "multi-turn-dialogue"]
Difficulty = Literal["short", "medium", "long"]
Kind = Literal["multiple_choice", "description", "reasoning", "dialogue"]
SUBFIELDS: tuple[Subfield, ...] = get_args(Subfield)
TASKS: tuple[Task, ...] = get_args(Task)
DIFFICULTIES: tuple[Difficulty, ...] = get_args(Difficulty)
OWN = Path(__file__).parent / "templates"
DRAFT = "Write every step as a draft of at most five words."
"""Chain of draft (arXiv 2502.18600), the variant that Patho-R1 also prompts for."""
DRAFT_WORDS = 5
_SIGNS: tuple[tuple[Subfield, re.Pattern[str]], ...] = (
    ("fish", re.compile(r"\bFISH\b|fluorescen\w* in situ|in situ hybridi[sz]ation|break-?apart", re.I)),
    ("cytology", re.compile(r"cytolog|\bsmear\b|fine[- ]needle|\bFNA\b|papanicolaou|liquid[- ]based", re.I)),
    ("ihc", re.compile(r"immunohisto|immunostain|\bIHC\b|immunoperoxidase|\bDAB\b", re.I)),
    ("gross", re.compile(r"\bgross\b|macroscop|cut surface|resection specimen|photograph of the specimen", re.I)),
    ("he", re.compile(r"h\s?&\s?e\b|ha?ematoxylin|histolog|photomicrograph|microscop", re.I)),
)


class Template(Settings):
    """One template.

    Attributes:
        kind: which form the answer has (`forms.py`).
        sees, allows: what the picture is, and kinds of statements (knowledge/tables/visibility.tsv) that it shows all
            the same.
        steps, words: least and most steps, and words of all steps together.
        system, ask: the prompt.
        version: digest of the file.
    """

    subfield: Subfield
    task: Task
    difficulty: Difficulty
    kind: Kind
    sees: Sees
    allows: list[str] = []
    steps: tuple[int, int]
    words: tuple[int, int]
    system: str
    ask: str
    version: str = ""

    @property
    def name(self) -> str:
        return f"{self.subfield}.{self.task}.{self.difficulty}"

    @model_validator(mode="after")
    def _in_order(self) -> Template:
        for low, high in (self.steps, self.words):
            if not 1 <= low <= high:
                raise ValueError("steps and words are [least, most], at least 1")
        return self


def load_templates(folder: Path | None = None) -> Mapping[str, Template]:
    """All 60 templates by name, from a folder of the user's own, or Eosin's.

    Raises:
        EosinError: one is missing, is none, or says in its text that it is another one.
    """
    root = folder or OWN
    found = {}
    for name in (f"{s}.{t}.{d}" for s in SUBFIELDS for t in TASKS for d in DIFFICULTIES):
        path = root / f"{name}.yaml"
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise EosinError("A template is missing or cannot be read.", expected=f"{name}.yaml", found=str(exc)[:120],
                             where=root, next_step="eosin reason-templates DIR   writes all 60") from None  # fmt: skip
        found[name] = _template(text, name, path)
    return found


def _template(text: str, name: str, path: Path) -> Template:
    raw = parse_yaml(text, path)
    try:
        made = Template.model_validate({**(raw if isinstance(raw, dict) else {}), "version": _digest(text)})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise EosinError(
            "A template cannot be used.", found=f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}",
            where=path, next_step="compare it with the one that `eosin reason-templates DIR` writes",
        ) from None  # fmt: skip
    if made.name != name:
        raise EosinError("A template is in the wrong file.", expected=name, found=made.name, where=path)
    return made


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def copy_templates(folder: Path) -> int:
    """Write Eosin's templates into a new folder, to be edited; returns how many.

    Raises:
        EosinError: something stands there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EosinError("There is something at this place already.", where=folder, next_step="choose another folder")
    files = sorted(OWN.glob("*.yaml"))
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
    return len(files)


def subfield_of(sample: Sample) -> Subfield | None:
    """The subfield by what the sample says of its stain and modality, then by its caption; None where neither says."""
    told = " ".join(filter(None, (sample.origin.modality, sample.origin.stain)))
    if told.strip().casefold() in SUBFIELDS:
        return next(s for s in SUBFIELDS if s == told.strip().casefold())
    for text in (told, sample.caption or ""):
        for subfield, sign in _SIGNS:
            if sign.search(text):
                return subfield
    return None
