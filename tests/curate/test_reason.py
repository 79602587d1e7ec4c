"""Chains that a teacher writes: templates, rules, the second call, faults of a server, and nothing is paid twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.audited import SIGNS, changed, clean_samples
from tests.support.chat_server import ChatServer, by_reply, serving
from tests.support.scripted_teacher import chain, reply

from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_samples
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample, user_prompt
from eosin.core.settings.curation.writing import ReasonStep, TeacherServer
from eosin.curate.reason.prompts import Draw
from eosin.curate.reason.templates import TASKS
from eosin.curate.steps.base import Context
from eosin.curate.steps.reason import ReasonSamples
from eosin.engines.base import Request

Make = Callable[[Request], Any]


def captions(n: int = 8) -> list[Sample]:
    """Captions without questions, as documents give them."""
    return [
        changed(s, images=(), messages=user_prompt("Describe.", 0), choices=(), answer=None, reasoning=(),
                caption=f"H&E. {SIGNS[s.label or '']} This is {s.label}.", label=None)
        for s in clean_samples(2 * n)[::2]
    ]  # fmt: skip


def described(n: int) -> list[Sample]:
    """Closed questions with a caption."""
    return [changed(s, images=(), messages=user_prompt("Which diagnosis fits best?", 0), reasoning=(),
                    caption=SIGNS[s.label or ""]) for s in clean_samples(n)]  # fmt: skip


def step_of(server: ChatServer, folder: Path, **changes: Any) -> ReasonSamples:
    teacher = TeacherServer(url=server.url, model="tiny", retries=1, backoff_s=0, timeout_s=5, max_in_flight=4)
    settings = ReasonStep.model_validate({"teacher": teacher, "difficulties": {"medium": 0, "long": 0}} | changes)
    folder.mkdir(parents=True, exist_ok=True)
    return ReasonSamples(settings, Context(seed=3, report=lambda text: None), folder)


def written(samples: list[Sample], make: Make, folder: Path, **changes: Any) -> list[Kept[Sample] | Dropped]:
    open_only = {t: 0 for t in TASKS if t != "complex-reasoning"}
    with serving(by_reply(reply(make))) as server:
        server.fault = lambda n: {2: 429, 8: 500, 14: "garbage", 20: "no choice", 26: "hang up"}.get(n)
        outcomes = list(step_of(server, tmp_path, tasks=open_only).run(0, samples))
        assert len(outcomes) == len(samples)
        reasons = {s.caption.split("Mark ")[1][:-2]: o.reason if isinstance(o, Dropped) else "kept"
                   for s, o in zip(samples, outcomes, strict=True) if s.caption}  # fmt: skip
        assert reasons["fine"] == "kept" and Counter(isinstance(o, Kept) for o in outcomes)[True] >= 4
        for kind in ("halfjson", "refusal", "prose", "extra", "another"):
            assert reasons[kind].startswith("teacher: ")
        assert "teacher: the answer is to another question" in reasons.values()
        assert reasons["obeys"] in ("not about its source", "outside the length band", "wrong number of steps")
        num = len(server.bodies)
        again = list(step_of(server, tmp_path, tasks=open_only).run(0, samples))
        assert len(server.bodies) == num
        assert [type(o) for o in again] == [type(o) for o in outcomes]
        assert [o.value for o in again if isinstance(o, Kept)] == [o.value for o in outcomes if isinstance(o, Kept)]


def test_a_server_that_is_down_stops_the_step_and_answers_are_not_paid_twice(tmp_path: Path) -> None:
    samples = captions(12)
    with serving(by_reply(reply())) as server:
        server.fault = lambda n: 503 if n > 7 else None
        with pytest.raises(EosinError, match="cannot be asked any more"):
            list(step_of(server, tmp_path).run(0, samples))
        answered = len(server.answered)
        assert answered == 7
        server.fault = lambda n: None
        outcomes = list(step_of(server, tmp_path).run(0, samples))
        # Some samples were dropped by single refusals before the outage was told; none of the paid answers comes twice.
        assert len(set(server.answered)) == len(server.answered)
        assert len(outcomes) == 12


def test_a_budget_that_is_spent_stops_the_step(tmp_path: Path) -> None:
    with serving(by_reply(reply())) as server:
        teacher = TeacherServer(url=server.url, model="tiny", max_calls=3, retries=0)
        with pytest.raises(EosinError, match="cannot be asked any more"):
            list(step_of(server, tmp_path, teacher=teacher).run(0, captions(6)))
        assert len(server.bodies) == 3


def test_dry_run_writes_prompts_and_an_estimate_and_asks_nobody(tmp_path: Path) -> None:
    with serving(by_reply(reply())) as server:
        teacher = TeacherServer(url=server.url, model="tiny", prices={"input": 2.0, "output": 6.0})
        step = step_of(server, tmp_path / "state", teacher=teacher)
        lines = step.preview(captions(10), 1000, tmp_path / "look")
        assert server.bodies == [] and len(list((tmp_path / "look").glob("*.txt"))) == 10
    assert any("about 2,000 calls" in line for line in lines) and any(
        "currency of the prices" in line for line in lines
    )
    text = next((tmp_path / "look").glob("*.txt")).read_text("utf-8")
    assert '"facts"' in text and "never speak of a caption" in text


def test_drafts_have_at_most_five_words(tmp_path: Path) -> None:
    def draft(request: Request) -> Any:
        made = chain(request)
        if "steps" in made:
            made["steps"] = ["glands with nuclei", "long chain of words that is no draft", "conclusion reached"]
        return made

    outcomes = written(captions(2), draft, tmp_path, style="chain-of-draft")
    assert {o.reason for o in outcomes if isinstance(o, Dropped)} == {"a draft step is too long"}


def test_the_draw_follows_its_weights_and_its_seed() -> None:
    samples = captions(1) * 1
    draw = Draw({"multi-turn-dialogue": 0.0}, {"long": 0.0}, 0)
    names = [draw.template_name(changed(samples[0], id=f"s{i}"), "he") for i in range(300)]
    counts = Counter(names)
    assert len(counts) == 6 and all("long" not in n and "dialogue" not in n for n in counts)
    assert names == [draw.template_name(changed(samples[0], id=f"s{i}"), "he") for i in range(300)]


def test_the_written_samples_can_be_stored(tmp_path: Path) -> None:
    outcomes = written(captions(6), chain, tmp_path)
    made = [o.value for o in outcomes if isinstance(o, Kept)]
    write_samples(made, tmp_path / "made.parquet")
    assert list(read_samples(tmp_path / "made.parquet").kept) == made
