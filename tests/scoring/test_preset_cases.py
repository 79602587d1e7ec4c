"""Every line of preset_cases.yaml: the papers' sets and Eosin's on cases worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.sample import Entity
from eosin.scoring import ScoreItem, load_rewards, set_names
from eosin.scoring.judge.checklist import ChecklistVerdict, EventVerdict, GradeVerdict
from eosin.scoring.judge.model import JudgeRequest

TABLE: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("preset_cases.yaml").read_text("utf-8"))
ITEMS = TABLE.pop("items")
CASES = [(name, i, case) for name, cases in TABLE.items() for i, case in enumerate(cases, 1)]


class ScriptedJudge:
    """Gives the verdict of the case, or fails."""

    model = "scripted"

    def __init__(self, script: Any) -> None:
        self.script = script

    async def ask(self, request: JudgeRequest) -> Parsed[BaseModel] | Unparsed:
        if self.script == "fails":
            return Unparsed("server down")
        if isinstance(self.script, dict):
            return Parsed(GradeVerdict(grade=float(self.script["grade"]), evidence="as scripted"))
        happened = {n: EventVerdict(happened=n in self.script, evidence="") for n in ChecklistVerdict.model_fields}
        return Parsed(ChecklistVerdict(**happened))

    def described(self) -> dict[str, Any]:
        return {"judge": self.model}


def encoder(pairs: dict[str, float]) -> Any:
    """Vectors of names with these cosines, 0 between all others."""

    def encode(names: Sequence[str]) -> np.ndarray:
        def cosine(a: str, b: str) -> float:
            return 1.0 if a == b else float(pairs.get(" | ".join(sorted((a, b))), 0.0))

        return np.linalg.cholesky(np.array([[cosine(a, b) for b in names] for a in names]))

    return encode


def item_of(case: dict[str, Any]) -> tuple[ScoreItem, str]:
    known = dict(ITEMS[case["item"]])
    grammar = known.pop("grammar", "think/answer")
    if "entities" in known:
        known["entities"] = tuple(Entity(name=n) for n in known["entities"])
    size = {"num_tokens": case.get("tokens"), "truncated": case.get("cut", False)}
    return ScoreItem(id="1", reply=case["reply"], **known, **size), grammar


@pytest.mark.parametrize(("name", "number", "case"), CASES, ids=[f"{n}-{i}" for n, i, _ in CASES])
def test_preset_case(name: str, number: int, case: dict[str, Any]) -> None:
    injected: dict[str, Any] = {}
    if "judge" in case:
        injected["judge"] = ScriptedJudge(case["judge"])
    if name == "pathreasoner-r1":
        injected |= {"encode": encoder(case.get("similar", {})), "encode_name": "scripted"}
    if name == "patho-r1-dapo":
        injected["max_tokens"] = 100
    spec = case.get("set", name)
    assert name == (spec if isinstance(spec, str) else spec["name"])
    item, grammar = item_of(case)
    outcome = load_rewards(spec, grammar, **injected).score(item)
    for term, expected in case.get("terms", {}).items():
        assert outcome.terms[term] == (expected if expected is None else pytest.approx(expected, abs=1e-6)), term
    assert outcome.total == (None if case["total"] is None else pytest.approx(case["total"], abs=1e-6)), outcome


def test_the_table_covers_the_sets_and_malformed_replies() -> None:
    assert set(TABLE) == set(set_names()) and len(CASES) >= 60
    assert all(len(cases) >= 10 for cases in TABLE.values())
    text = Path(__file__).with_name("preset_cases.yaml").read_text("utf-8")
    assert text.count("# malformed") >= 15
    page = Path(__file__).resolve().parents[2] / "docs" / "papers.md"
    assert f"are held by {len(CASES)} cases worked out by hand" in page.read_text("utf-8")
