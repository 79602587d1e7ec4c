"""The model that writes: one server, its answers on disk, what it cost, and an estimate before it is asked."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.settings.curation.writing import TeacherServer
from eosin.core.store import artifacts as store
from eosin.curate.reason.templates import Template
from eosin.scoring.judge.model import Judge, JudgeRequest, OpenAIJudge
from eosin.scoring.resources.build import judge_settings

CHARS_PER_TOKEN = 4
TOKENS_PER_WORD = 1.5
_USAGE = "usage.json"


class Teachers:
    """Servers of one step, made when they are first needed; a server that two roles name is one.

    Args:
        state: a folder for answers and counts, kept until the curation is whole.
        tools: models that the caller injects, by role.
    """

    def __init__(self, state: Path, tools: Mapping[str, Any]) -> None:
        self._state, self._tools = state, tools
        self._made: dict[TeacherServer, OpenAIJudge] = {}

    def get(self, role: str, server: TeacherServer | None) -> Judge:
        """The model of a role.

        Raises:
            EosinError: no server is named, and none is injected.
        """
        injected = self._tools.get(role) or (self._tools.get("teacher") if server is None else None)
        if injected is not None:
            return injected  # type: ignore[no-any-return]
        if server is None:
            raise EosinError("This step needs a teacher.", expected="teacher: {url: ..., model: ...}, in the recipe or "
                             "in the step", found="none")  # fmt: skip
        known = next((m for s, m in self._made.items() if s == server), None)
        if known is None:
            known = OpenAIJudge(judge_settings(server, self._state / "answers"))
            told = self._usage().get(_name(server))
            if told:
                known.usage.restore(told)
            self._made[server] = known
        return known

    def save(self) -> None:
        """Keep the counts, so that a run that goes on tells the cost of all of it."""
        told = self._usage() | {_name(s): m.usage.as_dict() for s, m in self._made.items()}
        if told:
            store.write_json(self._state / _USAGE, told)

    def facts(self) -> dict[str, Any]:
        """Calls, tokens and cost by model."""
        return {"teachers": self._usage()}

    def _usage(self) -> dict[str, Any]:
        file = self._state / _USAGE
        return store.read_object(file) if file.is_file() else {}


def _name(server: TeacherServer) -> str:
    return server.model


def estimate(
    requests: Sequence[tuple[Template, JudgeRequest]], num_samples: int, server: TeacherServer | None, *, check: bool
) -> list[str]:
    """What writing will take, from the prompts of some samples: calls, tokens, cost, in words.

    A token is taken as four characters and a word as one and a half tokens; the second call as half of the first.
    """
    if not requests:
        return ["no sample of these would be asked about"]
    read = statistics.mean((len(r.system) + len(r.text)) / CHARS_PER_TOKEN for _, r in requests)
    if server is None:
        return ["no teacher is named: the cost cannot be told"]
    pictures = server.image_tokens if any(r.image for _, r in requests) else 0
    written = statistics.mean(sum(t.words) / 2 * TOKENS_PER_WORD * 1.6 for t, _ in requests)
    factor = 1.5 if check else 1.0
    n = num_samples or len(requests)
    tokens_in, tokens_out = n * (read * factor + pictures), n * written * (1.05 if check else 1.0)
    lines = [f"about {n * (2 if check else 1):,} calls, {tokens_in:,.0f} tokens read and {tokens_out:,.0f} written, "
             f"for {n:,} samples"]  # fmt: skip
    price = judge_settings(server)
    if price.price_in or price.price_out:
        cost = (tokens_in * price.price_in + tokens_out * price.price_out) / 1e6
        lines.append(f"about {cost:,.2f} in the currency of the prices; max_cost is {server.max_cost or 'not set'}")
    else:
        lines.append("no prices are set (teacher.prices), so the cost cannot be told")
    return lines
