"""Replies cut into coloured pieces, the gallery of held-out images, and groups of sampled rollouts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eosin.report.drawing.numbers import num
from eosin.report.records.load import ExamRun, StageRun

KNOWN_TAGS = ("info", "observe", "think", "answer")
MAX_REPLY_CHARS = 2400
MAX_GROUP_SHOWN = 8
_GROUPS_PER_STAGE = 6
_GROUPS_ON_PAGE = 18
_MIN_GROUPS = 2


@dataclass(frozen=True)
class Piece:
    """A stretch of a reply. `tag` is None outside of every block; `is_closed` is False where the block was cut off."""

    tag: str | None
    text: str
    is_closed: bool = True


def pieces(reply: object, tags: Sequence[str] = KNOWN_TAGS) -> list[Piece]:
    """Cut a reply into its blocks for display. Nothing of the text is lost; tags become labels.

    A closing tag without an opening one stays in the text, as does a tag inside another block.
    """
    text = clipped(reply)
    found: list[Piece] = []
    place = 0
    opening = re.compile("<(" + "|".join(map(re.escape, tags)) + ")>")
    while (start := opening.search(text, place)) is not None:
        _add(found, None, text[place : start.start()])
        close = f"</{start.group(1)}>"
        end = text.find(close, start.end())
        if end < 0:
            found.append(Piece(start.group(1), text[start.end() :].strip(), is_closed=False))
            return found
        found.append(Piece(start.group(1), text[start.end() : end].strip()))
        place = end + len(close)
    _add(found, None, text[place:])
    return found


def _add(found: list[Piece], tag: str | None, text: str) -> None:
    if text.strip():
        found.append(Piece(tag, text.strip()))


def clipped(text: object, limit: int = MAX_REPLY_CHARS) -> str:
    """Text of at most `limit` characters, with a note of what was cut."""
    whole = "" if text is None else str(text)
    if len(whole) <= limit:
        return whole
    return f"{whole[:limit]} \u2026 [{len(whole) - limit} more characters are in the file]"


def gallery_rows(exam: ExamRun, limit: int) -> list[dict[str, Any]]:
    """Rows to show: right and wrong in turn, classes in turn, a new case before a known one; the same each time.

    At least one of each outcome is shown where both exist and `limit` is 2 or more.
    """
    queues: dict[tuple[bool, str], list[dict[str, Any]]] = {}
    for row in _new_groups_first(exam.rows):
        queues.setdefault((bool(row.get("correct")), str(row.get("label"))), []).append(row)
    labels = sorted({label for _, label in queues})
    chosen: list[dict[str, Any]] = []
    while len(chosen) < limit and any(queues.values()):
        for label in labels:
            for outcome in (False, True):
                queue = queues.get((outcome, label))
                if queue and len(chosen) < limit:
                    shown = {r.get("group") for r in chosen}
                    new = next((i for i, r in enumerate(queue) if r.get("group") not in shown), 0)
                    chosen.append(queue.pop(new))
    if limit >= 2 and len({bool(r.get("correct")) for r in chosen}) == 1:
        rest = [q[0] for (ok, _), q in queues.items() if q and ok != bool(chosen[0].get("correct"))]
        chosen[-1:] = rest[:1] or chosen[-1:]
    return sorted(chosen, key=lambda r: (bool(r.get("correct")), str(r.get("label"))))


def _new_groups_first(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    ranked = []
    for i, row in enumerate(rows):
        group = str(row.get("group") or row.get("id"))
        seen[group] = seen.get(group, 0) + 1
        ranked.append((seen[group], i, row))
    return [row for _, _, row in sorted(ranked, key=lambda r: r[:2])]


@dataclass(frozen=True)
class Group:
    """Rollouts of one prompt at one step, shown together.

    Attributes:
        std: sample standard deviation, as in the advantage.
        fate: what became of the group where that was recorded: "kept", "no variance", ...
        answer: the gold answer.
        images: paths of small images, relative to the stage's folder.
    """

    stage: str
    step: int
    sample_id: str
    question: str
    rows: list[dict[str, Any]]
    num_rows: int
    mean: float | None
    std: float | None
    fate: str = ""
    answer: str = ""
    images: tuple[str, ...] = ()


def groups_a_stage(num_stages: int) -> int:
    """How many groups of each stage a page shows, so that a page of many stages stays small."""
    return max(_MIN_GROUPS, min(_GROUPS_PER_STAGE, _GROUPS_ON_PAGE // max(1, num_stages)))


def rollout_groups(stage: StageRun, limit: int = _GROUPS_PER_STAGE) -> list[Group]:
    """Groups spread over the steps of a stage; at each step the one whose rewards differ most.

    Where groups were replaced for want of variance, the last place shows one of them.
    """
    by_key: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for row in stage.rollouts:
        key = (int(num(row.get("step")) or 0), str(row.get("sample_id")), str(row.get("group")))
        by_key.setdefault(key, []).append(row)
    by_step: dict[int, list[Group]] = {}
    for (step, sample_id, _), rows in by_key.items():
        by_step.setdefault(step, []).append(_group(stage.name, step, sample_id, rows))
    steps = sorted(by_step)
    if not steps:
        return []
    replaced = [g for s in steps for g in by_step[s] if g.fate == "no variance"]
    if replaced and limit > _MIN_GROUPS:
        limit -= 1
    places = np.unique(np.linspace(0, len(steps) - 1, min(limit, len(steps))).round().astype(int))
    chosen = [max(by_step[steps[i]], key=lambda g: (g.std or 0.0, g.num_rows)) for i in places]
    extra = [g for g in replaced if g not in chosen]
    return chosen + extra[len(extra) // 2 :][:1]


def _group(stage: str, step: int, sample_id: str, rows: list[dict[str, Any]]) -> Group:
    rewards = [r for r in (num(row.get("reward")) for row in rows) if r is not None]
    images = rows[0].get("images")
    gold = [str(v) for v in (rows[0].get("answer"), rows[0].get("answer_text")) if v]
    return Group(
        stage,
        step,
        sample_id,
        str(rows[0].get("question") or ""),
        rows[:MAX_GROUP_SHOWN],
        len(rows),
        float(np.mean(rewards)) if rewards else None,
        float(np.std(rewards, ddof=1)) if len(rewards) > 1 else None,
        fate=str(rows[0].get("fate") or ""),
        answer=". ".join(dict.fromkeys(gold)),
        images=tuple(str(p) for p in images) if isinstance(images, list) else (),
    )


def term_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of all reward terms, in the order in which they first appear."""
    names: dict[str, None] = {}
    for row in rows:
        terms = row.get("terms")
        if isinstance(terms, Mapping):
            names.update(dict.fromkeys(map(str, terms)))
    return list(names)
