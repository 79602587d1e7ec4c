"""Questions as other harnesses take them: the whole prompt as text, pictures as files or bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import RegionReader, encode_png, load_image, read_bytes
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.prompt import option_lines
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample
from eosin.core.store.names import file_name

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"


@dataclass(frozen=True)
class ExportRow:
    """One question. `prompt` holds question, options and what is said of the reply; `images` are encoded pictures."""

    id: str
    question: str
    prompt: str
    choices: tuple[str, ...]
    answer: str
    answer_text: str
    subset: str
    group: str
    images: tuple[bytes, ...]

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(chr(ord("A") + i) for i in range(len(self.choices)))

    def facts(self) -> dict[str, Any]:
        """All of it but the pictures."""
        return {
            "id": self.id, "question": self.question, "prompt": self.prompt, "choices": list(self.choices),
            "answer": self.answer, "answer_text": self.answer_text, "subset": self.subset, "group": self.group,
        }  # fmt: skip


def export_rows(
    samples: Sequence[Sample], grammar: Grammar, read_region: RegionReader | None = None
) -> Iterator[ExportRow | Dropped]:
    """Rows of samples. What has no gold answer, or a picture that cannot be used, is Dropped with its reason.

    Raises:
        EosinError: no samples.
    """
    if not samples:
        raise EosinError("An exam without questions cannot be exported.")
    for sample in samples:
        if sample.answer is None:
            yield Dropped(sample.id, "gold answer sealed", "", "export")
            continue
        try:
            images = tuple(_encoded(ref, read_region) for ref in sample.images)
        except ImageError as exc:
            yield Dropped(sample.id, exc.message, exc.where or exc.found or "", "export")
            continue
        told = (sample.question, option_lines(sample, grammar.options), grammar.instruction())
        prompt = "\n".join(t for t in told if t)
        yield ExportRow(
            sample.id, sample.question, prompt, tuple(c.text for c in sample.choices), sample.answer,
            sample.answer_text or "", str(sample.extra.get("subset") or ""), sample.origin.group or "", images,
        )  # fmt: skip


def _encoded(ref: Any, read_region: RegionReader | None) -> bytes:
    """PNG or JPEG bytes: as stored where they are one of these, else as PNG."""
    if isinstance(ref, ImageBytes | ImageFile):
        data = read_bytes(ref)
        load_image(ref)  # so that a damaged picture is found here
        if data.startswith((_JPEG, _PNG)):
            return data
    return encode_png(load_image(ref, read_region))


def picture_name(row: ExportRow, index: int) -> str:
    """A file name for a picture of a row."""
    suffix = ".jpg" if row.images[index].startswith(_JPEG) else ".png"
    return file_name(f"{hashlib.sha256(row.images[index]).hexdigest()[:20]}{suffix}")


def task_name(exam: str) -> str:
    """A name that every harness takes: lower case, letters, digits and underscores."""
    return "eosin_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in exam.casefold())
