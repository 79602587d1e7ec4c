"""What is known about an exam, on one page: where it is from, how many questions, how split, what is wrong with it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Frozen):
    """A figure of the literature. It was not measured here.

    Attributes:
        model: who was examined.
        value: in the unit of `metric`; accuracies in per cent.
        on: the part of the exam.
        n: number of questions, where it is told.
        source: where it stands.
    """

    model: str
    value: float
    on: str
    source: str
    metric: str = "accuracy %"
    n: int | None = None


class ExamCard(_Frozen):
    """An exam on one page.

    Attributes:
        name: name on the command line.
        kind: closed (options), open (free text), both, or sealed (its answers are not published).
        domain: what its pictures show.
        homepage, version, licence, citation: of the published set. "unknown" where it does not say.
        get: what a person does to have it, step by step. Nothing is downloaded by Eosin.
        layout: files, columns and encodings as they are published.
        layout_source: where that was learnt.
        counts: questions by subset and split: {"Atlas": {"test": 799}}. "" where the set has no subsets. Only what is
            told somewhere; `verify` compares with them.
        counts_source: where the counts are from.
        digests: SHA-256 of files, where known: {"file name": "digest"}.
        split_rule: how its splits were made. split_unit: what never stands in two of them.
        overlaps: material that it shares with training sets.
        faults: what is known to be wrong with it or with its official scoring.
        figures: figures of the literature.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    kind: Literal["closed", "open", "both", "sealed"]
    domain: str
    homepage: str = ""
    version: str = "unknown"
    licence: str = "unknown"
    citation: str = ""
    get: tuple[str, ...] = ()
    layout: str = ""
    layout_source: str = ""
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)
    counts_source: str = ""
    digests: dict[str, str] = Field(default_factory=dict)
    split_rule: str = ""
    split_unit: str = "image"
    overlaps: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
