from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Scored, Unscored
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, make_choices, user_prompt
from eosin.scoring import ScoreItem, item_from_row, item_from_sample, load_rewards
from eosin.scoring.adapters.trl import TrlReward, completion_text
from eosin.scoring.adapters.verl import compute_score

CHOICES = {"A": "necrosis", "B": "mucin", "C": "stroma"}
GOOD = "<think>Pools of mucin.</think>\n<answer>B. mucin</answer>"
WRONG = "<think>Pools of mucin.</think>\n<answer>C. stroma</answer>"


def item(reply: str, **more: Any) -> ScoreItem:
    return ScoreItem(id="1", reply=reply, question="What is this?", choices=CHOICES, **({"answer": "B"} | more))


def broken(item: ScoreItem, grammar: Grammar) -> float:
    raise RuntimeError("no such column")


def half(item: ScoreItem, grammar: Grammar, *, value: float = 0.5) -> Scored | Unscored:
    return Scored(value) if item.reply else Unscored("nothing to read")


def test_weighted_sum_by_hand() -> None:
    rewards = load_rewards([{"name": "accuracy", "weight": 0.9}, {"name": "format", "weight": 0.1}])
    assert rewards.score(item(GOOD)).total == pytest.approx(1.0)
    assert rewards.score(item(WRONG)).total == pytest.approx(0.1)
    assert rewards.score(item("B")).total == pytest.approx(0.0)
    assert (rewards.minimum, rewards.maximum) == (0.0, 1.0)


def test_accuracy_is_never_read_outside_the_answer_block() -> None:
    rewards = load_rewards(["accuracy"])
    for reply in ("B", "<think>B. mucin</think>", "<think><answer>B</answer></think>", GOOD + " B"):
        assert rewards.score(item(reply)).terms == {"accuracy": 0.0}


def test_one_answer_block_keeps_format_and_accuracy_apart() -> None:
    strict, one = (load_rewards([{"name": "accuracy", "block": how}]) for how in ("strict", "one"))
    reply = "no think block <answer>B</answer>"
    assert strict.score(item(reply)).total == 0.0
    assert one.score(item(reply)).total == 1.0
    assert one.score(item("<answer>B</answer><answer>B</answer>")).total == 0.0
    assert one.score(item("<think><answer>B</answer></think>")).total == 0.0


@pytest.mark.parametrize(
    ("reply", "accuracy"),
    [
        ("<think>pus</think><answer>B</think>", 1.0),  # closed with the wrong tag
        ("<think>pus<answer>B</answer>", 1.0),  # think not closed
        ("<think>pus</think><answer>B", 1.0),  # not closed
        ("<think>pus</think><answer>A</think>", 0.0),
        ("<think>pus</think><answer>A</think><answer>B</answer>", 0.0),
        ("<think>pus</think><answer>A</think>B</answer>", 0.0),
        ("<think><answer>B</answer></think>", 0.0),
        ("<answer>B</answer><think>pus</think>", 0.0),
    ],
)
def test_a_slip_of_form_costs_the_format_term_alone(reply: str, accuracy: float) -> None:
    outcome = load_rewards(["format", "accuracy"]).score(item(reply))
    assert outcome.terms == {"format": 0.0, "accuracy": accuracy}


def test_a_right_reply_with_a_slip_is_worth_more_than_a_wrong_one_in_good_form() -> None:
    for name in ("eosin", [{"name": "format", "weight": 0.3}, {"name": "semantic"}]):
        rewards = load_rewards(name)  # type: ignore[arg-type]
        right = rewards.score(item("<think>There is pus.</think><answer>B.</think>"))
        wrong = rewards.score(item("<think>There is pus.</think><answer>A</answer>"))
        assert right.total is not None and wrong.total is not None and right.total > wrong.total


def test_a_missing_term_is_not_summed_as_zero() -> None:
    rewards = load_rewards([{"name": "accuracy"}, {"name": f"{__name__}:broken"}])
    outcome = rewards.score(item(GOOD))
    assert outcome.total is None
    assert outcome.terms["accuracy"] == 1.0
    assert "no such column" in outcome.unscored[f"{__name__}:broken"]


def test_a_weightless_term_is_logged_and_does_not_mask() -> None:
    rewards = load_rewards([{"name": "accuracy"}, {"name": f"{__name__}:broken", "weight": 0, "label": "mine"}])
    outcome = rewards.score(item(GOOD))
    assert outcome.total == 1.0
    assert "mine" in outcome.unscored


def test_no_gold_masks_or_drops() -> None:
    spec = [{"name": "accuracy", "weight": 3}, {"name": "entities", "weight": 1}]
    assert load_rewards(spec).score(item(GOOD)).total is None
    # the weight of the entities goes to the accuracy: 3 * 1 * (4 / 3)
    assert load_rewards(spec, missing_gold="drop").score(item(GOOD)).total == pytest.approx(4.0)
    assert load_rewards(spec, missing_gold="drop").score(item(WRONG)).total == 0.0
    # the answer itself is never dropped
    assert load_rewards(spec, missing_gold="drop").score(item(GOOD, answer=None)).total is None


def test_gates() -> None:
    terms = [{"name": "accuracy", "weight": 0.9}, {"name": "format", "weight": 0.1}]
    assert load_rewards(terms, gate="both").score(item(WRONG)).total == 0.0
    assert load_rewards(terms, gate="both_or_minus_one").score(item(WRONG)).total == -1.0
    assert load_rewards(terms, gate="both").score(item(GOOD)).total == pytest.approx(1.0)
    assert load_rewards({"name": "patho-r1-grpo", "gate": "both"}).label == "patho-r1-grpo+{gate=both}"
    with pytest.raises(EosinError, match="gate"):
        load_rewards(["accuracy"], gate="both")


def test_options_of_a_users_function() -> None:
    assert load_rewards([{"name": f"{__name__}:half", "value": 0.25}]).score(item(GOOD)).total == 0.25
    assert load_rewards([f"{__name__}:half"]).score(item("")).unscored == {f"{__name__}:half": "nothing to read"}
    with pytest.raises(EosinError, match="options"):
        load_rewards([{"name": f"{__name__}:half", "valeu": 0.25}])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([], "at least one"),
        ("acuracy", "no reward named"),
        ([{"weight": 1}], "needs a name"),
        ([{"name": "accuracy", "weight": "big"}], "must be a number"),
        ([{"name": "accuracy", "blok": "one"}], "unknown option"),
        (["accuracy", "accuracy"], "stands twice"),
        (["patho-r1-grpo", "format"], "cannot be mixed"),
        ({"name": "patho-r1-grpo", "gate": "maybe"}, "cannot be this"),
        ({"name": "patho-r1-grpo", "gaet": "both"}, "no option"),
        ("no/such/file.py:reward", "cannot be loaded"),
    ],
)
def test_wrong_specs_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(EosinError, match=message):
        load_rewards(spec)


def test_nearest_name_is_suggested() -> None:
    with pytest.raises(EosinError) as caught:
        load_rewards("acuracy")
    assert "accuracy" in str(caught.value.next_step)


def sample(id: str = "s1") -> Sample:
    return Sample(
        id=id, messages=user_prompt("What is this?", 0), choices=make_choices(("necrosis", "mucin", "stroma")),
        answer="B", origin=Origin(source="test"),
    )  # fmt: skip


def test_item_from_sample() -> None:
    made = item_from_sample(sample(), GOOD, 12, False)
    assert made.choices == CHOICES
    assert (made.answer, made.answer_text, made.reference.answer) == ("B", "mucin", "B. mucin")
    assert made.entities is None


@pytest.mark.parametrize(
    "row",
    [
        None, 3, [], {}, {"id": "1"}, {"id": "1", "reply": 3}, {"id": None, "reply": ""},
        {"id": "1", "reply": "", "choices": []},
        {"id": "1", "reply": "", "choices": {"a": "x"}}, {"id": "1", "reply": "", "choices": {"A": 3}},
        {"id": "1", "reply": "", "answer": 3}, {"id": "1", "reply": "", "num_tokens": "many"},
        {"id": "1", "reply": "", "num_tokens": True}, {"id": "1", "reply": "", "truncated": "no"},
        {"id": "1", "reply": "", "entities": "necrosis"}, {"id": "1", "reply": "", "entities": [{}]},
        {"id": "1", "reply": "", "reference": "B"}, {"id": "1", "reply": "", "reference": {"think": 3}},
    ],
)  # fmt: skip
def test_rows_that_are_no_items_have_a_reason(row: object) -> None:
    outcome = item_from_row(row)
    assert not hasattr(outcome, "value")
    assert outcome.reason  # type: ignore[union-attr]


def test_trl_adapter_gives_totals_and_logs_terms() -> None:
    extra: dict[str, list[Any]] = {}
    metric: dict[str, float] = {}
    seen: list[int] = []
    reward = TrlReward(
        load_rewards([{"name": "accuracy", "weight": 0.9}, {"name": "format", "weight": 0.1}]),
        {"s1": sample()}, max_tokens=4, eos_token_ids=[0],
        on_batch=lambda items, _: seen.extend(i.num_tokens for i in items),
    )  # fmt: skip
    totals = reward(
        prompts=["", "", ""],
        completions=[GOOD, [{"role": "assistant", "content": WRONG}], ""],
        completion_ids=[[1, 2, 0], [1, 2, 3, 4], [1, 2, 3, 0]],
        id=["s1", "s1", "s1"],
        log_extra=extra.__setitem__,
        log_metric=metric.__setitem__,
        trainer_state=None,
    )
    assert totals == pytest.approx([1.0, 0.1, 0.0])
    assert extra["accuracy"] == [1.0, 0.0, 0.0]
    assert metric["reward/format"] == pytest.approx(2 / 3)
    assert metric["reward/format/unscored"] == 0.0
    assert seen == [3, 4, 4]
    assert [i.truncated for i in reward.items(["", "", ""], [[1], [1, 2, 3, 4], [1, 2, 3, 0]], ["s1"] * 3)] == [
        False, True, False,
    ]  # fmt: skip


def test_trl_row_with_an_unscored_term_is_none() -> None:
    reward = TrlReward(load_rewards(["accuracy", f"{__name__}:broken"]), {"s1": sample()})
    assert reward(prompts=[""], completions=[GOOD], id=["s1"]) == [None]


def test_trl_adapter_logs_base_rates_and_keeps_a_summary() -> None:
    metric: dict[str, float] = {}
    reward = TrlReward(load_rewards("checklist"), {"s1": sample()})
    reward(prompts=[""] * 2, completions=[GOOD, WRONG], id=["s1"] * 2, log_metric=metric.__setitem__)
    assert metric["reward/checklist.outdated"] == 0.0
    assert reward.summary()["n"] == 2
    assert "checklist.outdated" in reward.summary()["near_constant"]


def test_completion_text() -> None:
    assert (
        completion_text([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]) == "a"
    )
    assert completion_text(None) == ""


def test_verl_adapter() -> None:
    info = {"id": "1", "choices": CHOICES}
    assert compute_score("d", GOOD, "B", info)["score"] == pytest.approx(1.0)
    assert compute_score("d", WRONG, "B", info) == {
        "score": pytest.approx(0.1),
        "acc": 0.0,
        "term/format": 1.0,
        "term/accuracy": 0.0,
    }
    assert compute_score("d", GOOD, "B", info, rewards=[{"name": "format", "weight": 2}])["score"] == 2.0
    with pytest.raises(EosinError, match="cannot mask"):
        compute_score("d", GOOD, "Z", info)
    assert compute_score("d", GOOD, "Z", info, unscored=-0.5) == {"score": -0.5}


def test_batch_inside_a_running_loop() -> None:
    async def inside() -> float | None:
        return load_rewards("accuracy").score(item(GOOD)).total

    assert asyncio.run(inside()) == 1.0


def test_outcome_is_json() -> None:
    row = load_rewards("patho-r1-grpo").score(item(WRONG)).as_row("1")
    assert json.loads(json.dumps(row)) == row
