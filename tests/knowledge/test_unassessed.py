"""What is said to be not assessable is neither present nor absent."""

from __future__ import annotations

import pytest

from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Entity, Origin, Sample, user_prompt
from eosin.knowledge.linking.linker import Linker
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample

CASES = [
    ("The presence of necrosis and mitoses is not assessable.", {"necrosis": "unassessed", "mitoses": "unassessed"}),
    ("Necrosis: not assessable.", {"Necrosis": "unassessed"}),
    ("Crowded glands are seen. Necrosis is not assessable.", {"Crowded glands": "patient", "Necrosis": "unassessed"}),
    ("Mitoses are not assessable, but there is necrosis.", {"Mitoses": "unassessed", "necrosis": "patient"}),
    ("There is no necrosis. Mitoses were not assessable.", {"necrosis": "patient", "Mitoses": "unassessed"}),
]


@pytest.mark.parametrize(("text", "scopes"), CASES)
def test_scopes_by_hand(text: str, scopes: dict[str, str]) -> None:
    found = {m.text: m for m in Linker.builtin().link(text)}
    assert {t: m.scope for t, m in found.items()} == scopes
    assert [m.polarity for m in found.values() if m.scope == "patient"] == (
        ["absent"] if "no necrosis" in text else ["present"] * sum(s == "patient" for s in scopes.values())
    )


def test_it_is_no_claim_in_the_entity_reward() -> None:
    """Gold: necrosis. To call the mitoses not assessable costs nothing; to claim them does, to hedge gold does."""
    sample = Sample(id="a", messages=user_prompt("What is seen?", 0), entities=(Entity(name="necrosis"),), answer="x",
                    origin=Origin(source="t"))  # fmt: skip
    reward = load_rewards([{"name": "entities"}], Grammar.of("think/answer"))

    def score(text: str) -> float | None:
        return reward.score(item_from_sample(sample, f"<think>{text}</think><answer>x</answer>")).total

    assert score("There is necrosis. Mitoses are not assessable.") == 1.0
    assert score("There is necrosis. Mitoses are seen.") == pytest.approx(1 / 2)  # min(2/3, 1/2)
    assert score("Necrosis is not assessable.") == 0.0
