"""Steps that write: chains of reasoning, questions, grounded reasoning; and the sets that RL draws."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from eosin.core.settings.curation.sifting import Share
from eosin.core.settings.curation.step import StepSettings
from eosin.core.settings.scoring import JudgeServer

TaskName = Literal["multiple-choice", "detailed-description", "complex-reasoning", "multi-turn-dialogue"]
DifficultyName = Literal["short", "medium", "long"]


class TeacherServer(JudgeServer):
    """A model that writes, behind an OpenAI-compatible server; its fields are those of a judge (docs/scoring.md)."""

    api_key_env: str = "EOSIN_TEACHER_API_KEY"
    max_tokens: int = Field(default=2048, ge=1)
    timeout_s: float = Field(default=180.0, gt=0)


class ReasonStep(StepSettings):
    """Chains of reasoning that a teacher writes from captions and labels, sifted by rules and a second call.

    Attributes:
        teacher: writes; null takes the recipe's.
        checker: asked whether the answer follows from the chain without its conclusion; null: the teacher.
        check: whether to ask that at all.
        templates: a folder of the user's own templates; null takes Eosin's 60.
        tasks, difficulties: weights of the draw, 1 by default. A question with options stays multiple choice.
        splits: only samples of these are written for (one without a split counts as train); others pass as they are.
            So an exam's questions stay, and nobody pays for them.
        style: chain-of-thought, or chain-of-draft with steps of at most five words.
        images: send the first picture to the teacher too.
        language: of the chains.
        any_source: also write from sources in another language.
        temperature: of writing.
    """

    step: Literal["reason"] = "reason"
    teacher: TeacherServer | None = None
    checker: TeacherServer | None = None
    check: bool = True
    templates: str | None = None
    tasks: dict[TaskName, float] = Field(default_factory=dict)
    difficulties: dict[DifficultyName, float] = Field(default_factory=dict)
    splits: list[Literal["train", "valid", "test"]] = Field(default=["train", "valid", "test"], min_length=1)
    style: Literal["chain-of-thought", "chain-of-draft"] = "chain-of-thought"
    images: bool = False
    language: str = "en"
    any_source: bool = False
    temperature: float = Field(default=0.7, ge=0, le=2)


class QuestionsStep(StepSettings):
    """Closed questions from captions, labels, entities and reports.

    Attributes:
        kinds: diagnosis and finding take their distractors from the knowledge graph, label from the labels of the data
            set, yes-no asks whether one concept is there.
        options: of a question.
        yes_no_most: of each side of a concept. Yes and no of every concept are equally many in each split.
        knowledge: a graph folder; null takes Eosin's own tables.
        keep: also let the sample itself pass on.
    """

    step: Literal["questions"] = "questions"
    kinds: list[Literal["diagnosis", "finding", "label", "yes-no"]] = Field(
        default=["diagnosis", "finding", "yes-no"], min_length=1
    )
    options: int = Field(default=4, ge=2, le=8)
    yes_no_most: int | None = Field(default=None, ge=1)
    knowledge: str | None = None
    keep: bool = False


class RlSetStep(StepSettings):
    """A set for reinforcement learning: closed questions, drawn by weight within organs and kinds.

    Attributes:
        size: questions to draw.
        by: what makes a stratum.
        weights: by the stratum's name ("colon/diagnosis") or one part of it ("colon"); those not named weigh 1.
        temperature: 1 keeps the natural shares; larger ones make the strata more equal.
        splits: only samples of these are drawn; others pass as they are.
    """

    step: Literal["rl-set"] = "rl-set"
    size: int = Field(ge=1)
    by: list[Literal["organ", "kind", "source", "label"]] = Field(default=["organ", "kind"], min_length=1)
    weights: dict[str, float] = Field(default_factory=dict)
    temperature: float = Field(default=2.0, ge=1)
    splits: list[Literal["train", "valid", "test"]] = Field(default=["train"])


class GroundStep(StepSettings):
    """Grounded reasoning from reports: findings and diagnosis, paths of a graph, a writer held to them, three filters.

    Attributes:
        teacher: extracts or writes, where `extractor` or `writer` is model; null takes the recipe's.
        extractor: linker reads reports with the names of the graph; model asks `teacher` for findings with the words of
            the report that say so, which are looked up there.
        writer: templates, or model: `teacher` rewrites the steps, and every statement is checked again.
        options: of the question; distractors come from the graph and from the diagnoses of the other reports.
        sees: what the picture is.
        text_only: probe drops what a classifier of the questions' texts answers (cross-fitted, PathReasoner-R1's visual
            dependency); none leaves the filter out.
        knowledge: a graph folder; null takes Eosin's own tables.
        language: of reports that the linker can read.
        max_steps: of a chain.
        most_lost: share of a report's findings that may stay unlinked.
    """

    step: Literal["ground"] = "ground"
    teacher: TeacherServer | None = None
    extractor: Literal["linker", "model"] = "linker"
    writer: Literal["templates", "model"] = "templates"
    options: int = Field(default=4, ge=2, le=8)
    sees: Literal["he_tile", "he_slide", "ihc"] = "he_slide"
    text_only: Literal["probe", "none"] = "probe"
    knowledge: str | None = None
    language: str = "en"
    max_steps: int = Field(default=6, ge=3)
    most_lost: Share = 1.0
