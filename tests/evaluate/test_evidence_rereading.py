"""Reading again without the patches that matter, on an engine whose answer one patch decides."""

from __future__ import annotations

import numpy as np

from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.engines.base import Decoding, MockEngine, Request
from eosin.evaluate.evidence.rereading import reread, rereading_summary
from eosin.evaluate.evidence.tests import AttributionTarget

GRAMMAR = Grammar.of("think/answer")
FRACTIONS = (0.1, 0.3)
SAMPLE = Sample(
    id="s", images=(SlideBag(path="none.h5"),), messages=user_prompt("Which?"),
    choices=make_choices(["lesion", "normal"]), answer="A", origin=Origin(source="t", case="c"),
)  # fmt: skip


def _bag(num: int = 20, needle: int = 7) -> PatchBag:
    features = np.zeros((num, 2), np.float32)
    features[needle, 0] = 1.0
    return PatchBag("s", features, np.stack([np.arange(num), np.arange(num)], 1) * 100.0, 100.0, 1.0)


def _reply(request: Request) -> str:
    bag = request.images[0]
    assert isinstance(bag, PatchBag)
    return f"<think>I looked.</think>\n<answer>{'lesion' if bag.features[:, 0].any() else 'normal'}</answer>"


def _found(scores: np.ndarray, num: int = 20) -> dict[str, object]:
    bag = _bag(num, needle=min(7, num - 1))
    request = Request("s", SAMPLE.messages, (bag,))
    reply = _reply(request)
    asked = AttributionTarget(request, reply, (0, len(reply)))
    return reread(asked, scores, SAMPLE, GRAMMAR, MockEngine(_reply), Decoding(), FRACTIONS, seed=0)


def test_scores_that_name_the_deciding_patch_change_the_answer() -> None:
    scores = np.zeros(20)
    scores[7] = 1.0
    assert _found(scores)["best"] == [0, 0]
    assert _found(-scores)["best"] == [1, 1]  # the deciding patch is scored last, and stays


def test_a_bag_of_one_patch_and_a_broken_reply_say_why() -> None:
    assert "reason" in _found(np.zeros(1), num=1)
    broken = AttributionTarget(Request("s", SAMPLE.messages, (_bag(),)), "no form", (0, 7))
    assert "reason" in reread(broken, np.zeros(20), SAMPLE, GRAMMAR, MockEngine(_reply), Decoding(), FRACTIONS, 0)


def test_figures_by_hand() -> None:
    rows = [
        {"group": "a", "reread": {"best": [0, 0], "random": [1, 1]}},
        {"group": "b", "reread": {"best": [1, 0], "random": [1, 0]}},
        {"group": "c", "reread": {"reason": "a bag of one patch"}},
        {"group": "d"},
    ]
    found = rereading_summary(rows, FRACTIONS, 200, 0)
    assert found is not None and found["n"] == 2
    assert [x["value"] for x in found["changed_best"]] == [0.5, 1.0]
    assert [x["value"] for x in found["changed_random"]] == [0.0, 0.5]
    assert [x["value"] for x in found["difference"]] == [0.5, 0.5]
    assert found["mean_difference"] == {"value": 0.5, "ci95": [0.0, 1.0]}
    assert rereading_summary(rows[2:], FRACTIONS, 200, 0) is None
