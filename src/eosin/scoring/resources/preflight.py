"""What is tried before the first step: the judge is asked once, encoder and CLIP are loaded and used once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import encode_png
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.settings.scoring import JudgeServer, ScoringSettings
from eosin.scoring.judge.checklist import checklist_request, grade_request
from eosin.scoring.judge.model import ANOTHER_MODEL, JudgeRequest, OpenAIJudge
from eosin.scoring.judge.rubric import rubric_request
from eosin.scoring.sets.by_source import Rewards, SourceRewards
from eosin.scoring.sets.compose import RewardSet
from eosin.scoring.terms.base import Resources, Term
from eosin.scoring.terms.process import ChecklistTerm, ClipTerm
from eosin.scoring.terms.rubric import RubricTerm
from eosin.scoring.terms.semantic import SemanticTerm

_REPLY = (
    "The image shows glands with a regular outline. Necrosis is ruled out, because the nuclei are kept. "
    "This is consistent with normal mucosa."
)
_ASKED = {"question": "What does the image show?", "options": {"A": "normal mucosa", "B": "necrosis"}}


def sets_of(rewards: Rewards) -> tuple[RewardSet, ...]:
    """All reward sets: one, or one a source."""
    return tuple(rewards.sets.values()) if isinstance(rewards, SourceRewards) else (rewards,)


def terms_of(rewards: Rewards) -> Iterator[tuple[Term, Resources]]:
    """Every term with the tools that it is given."""
    for one in sets_of(rewards):
        for part in one.all_parts:
            yield part.term, one.resources


def try_tools(rewards: Rewards, settings: ScoringSettings, where: str, image: bytes | None = None) -> list[str]:
    """Try all that these rewards will use.

    Args:
        where: the stage or exam, for messages.
        image: an encoded image of the data, which the judge is shown; None shows it a small plain one.

    Returns:
        Lines to print: what was found.

    Raises:
        EosinError: the judge is down, answers in another form or as another model; an encoder or CLIP cannot be loaded.
    """
    notes: list[str] = []
    terms = list(terms_of(rewards))
    if settings.judge is not None and any(t.uses_server(resources) for t, resources in terms):
        notes += _ask_judge(rewards, settings.judge, where, image)
    if settings.encoder is not None and any(t.uses_encoder(resources) for t, resources in terms):
        notes.append(try_encoder(terms[0][1], f"{where}.scoring"))
    if settings.clip is not None and any(isinstance(t, ClipTerm) for t, _ in terms):
        notes.append(_try_clip(terms[0][1], where))
    return notes


def _ask_judge(rewards: Rewards, server: JudgeServer, where: str, image: bytes | None) -> list[str]:
    judge = next((one.resources.judge for one in sets_of(rewards) if one.resources.judge is not None), None)
    if not isinstance(judge, OpenAIJudge) or not server.ask_first:
        return []
    asked = [t for t, resources in terms_of(rewards) if t.uses_server(resources)]
    grades = any(isinstance(t, SemanticTerm) for t in asked)
    rubric = any(isinstance(t, RubricTerm) for t in asked)
    others = any(not isinstance(t, SemanticTerm | RubricTerm) for t in asked)
    shown = image if image is not None else encode_png(Image.new("RGB", (64, 64), (230, 190, 210)))
    requests: list[JudgeRequest] = []
    if others:
        sees_gold = any(isinstance(t, ChecklistTerm) and t.sees_gold for t in asked)
        payload: dict[str, Any] = dict(_ASKED) | ({"standard_answer": "normal mucosa"} if sees_gold else {})
        requests.append(checklist_request(payload, _REPLY, shown))
    if rubric:
        requests.append(rubric_request(str(_ASKED["question"]), "normal mucosa", _REPLY))
    if grades:
        requests.append(grade_request(_ASKED["question"], "normal mucosa", "normal mucosa"))  # type: ignore[arg-type]
    for request in requests:
        answer = judge.ask_server_now(request)
        if isinstance(answer, Unparsed):
            raise _refusal(server, answer.reason, where)
        assert isinstance(answer, Parsed)
    names = list(judge.usage.answered_by)
    told = "the server does not say which model answers" if names == ["no name"] else "asked once, answers as named"
    return [f"judge {judge.model}: {told}"]


def _refusal(server: JudgeServer, reason: str, where: str) -> EosinError:
    """What a judge that failed its try is refused with. The address is the user's own, from the recipe."""
    if reason.startswith(ANOTHER_MODEL):
        other = reason.removeprefix(ANOTHER_MODEL).strip().strip("'")
        return EosinError(
            "Another model than the named one answers as the judge.",
            expected=server.answers_as or server.model,
            found=other,
            where=f"{where}.scoring.judge, {server.url}",
            next_step=f"mend judge.model, or write answers_as: {other} beside it if that is the same model",
        )
    if "does not fit its schema" in reason or "not in the reply" in reason or "chat completion" in reason:
        return EosinError(
            "The judge answers, but not in the form that is asked of it.",
            expected="JSON of the schema, with words of the reply as evidence",
            found=reason,
            where=f"{where}.scoring.judge, {server.url}",
            next_step="take a model that follows a JSON schema, or try judge.structured: prompt",
        )
    if reason.startswith("budget spent"):
        return EosinError(
            "The judge's budget does not allow one question.",
            found=reason,
            where=f"{where}.scoring.judge",
            next_step="raise judge.max_calls or judge.max_cost",
        )
    return EosinError(
        "The judge does not answer.",
        expected=f"model {server.model!r} behind {server.url}",
        found=reason,
        where=f"{where}.scoring.judge",
        next_step=f"start the server, or mend judge.url, judge.model and the key in {server.api_key_env}; then "
        "give the same command again",
    )


def try_encoder(resources: Resources, where: str) -> str:
    """Load the sentence encoder and use it once; the line to print.

    Raises:
        EosinError: it cannot be loaded, or gives no usable numbers.
    """
    assert resources.encode is not None
    with _named(f"{where}.encoder"):
        found = np.asarray(resources.encode(["normal mucosa", "necrosis"]), dtype=np.float64)
    if found.ndim != 2 or len(found) != 2 or not np.isfinite(found).all() or not np.abs(found).sum(1).all():
        raise EosinError("The sentence encoder gives no usable numbers.", expected="an array (2, D) of finite numbers",
                         found=str(found.shape), where=f"{where}.encoder")  # fmt: skip
    return f"sentence encoder {resources.encode_name}: loaded, {found.shape[1]} numbers a text"


def _try_clip(resources: Resources, where: str) -> str:
    assert resources.clip is not None
    with _named(f"{where}.scoring.clip"):
        found = [
            float(c) for c in resources.clip(Image.new("RGB", (64, 64), (230, 190, 210)), ["normal mucosa", "glands"])
        ]
    if len(found) != 2 or not np.isfinite(found).all():
        raise EosinError("CLIP gives no usable numbers.", expected="a cosine a sentence", found=str(found),
                         where=f"{where}.scoring.clip")  # fmt: skip
    return f"CLIP {resources.clip_name}: loaded"


class _named:  # noqa: N801  (reads as a statement: `with _named(...)`)
    """Adds the place in the recipe to the error of a model that cannot be used."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        if isinstance(exc, EosinError):
            exc.where = self._where if exc.where is None or exc.where.startswith("scoring.") else exc.where
