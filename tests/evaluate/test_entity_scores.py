"""Entity F1 of an exam, by hand."""

from __future__ import annotations

import pytest

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Entity, Origin, Sample, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.statistics.entity_scores import entity_figures, entity_row
from eosin.evaluate.statistics.mean_intervals import mean_interval

GRAMMAR = Grammar.of("info/think/answer")
SAMPLE = Sample(
    id="s", messages=user_prompt("What is the diagnosis?", 0),
    choices=make_choices(["tubular adenoma", "adenocarcinoma"]), answer="B", origin=Origin(source="t", case="c1"),
    entities=(Entity(name="necrosis"), Entity(name="mitoses"), Entity(name="goblet cells", polarity="absent"),
              Entity(name="adenocarcinoma", kind="diagnosis")),
)  # fmt: skip


def _reply(info: str, think: str = "This fits.") -> str:
    return f"<info>{info}</info>\n<think>{think}</think>\n<answer>adenocarcinoma</answer>"


@pytest.mark.parametrize(
    ("info", "f1"),
    [
        ("Necrosis and mitoses are seen. Goblet cells are absent.", 1.0),
        ("Necrosis is seen.", 2 * 1 / (1 + 3)),
        ("Necrosis is seen. Goblet cells are seen.", 2 * 1 / (2 + 3)),  # the wrong polarity
        ("Necrosis is seen. A granuloma is seen.", 2 * 1 / (2 + 3)),
        ("Nothing is seen.", 0.0),
        ("Adenocarcinoma.", 0.0),  # an option is no finding
    ],
)
def test_f1_by_hand(info: str, f1: float) -> None:
    assert entity_row(_reply(info), SAMPLE, GRAMMAR)["entity_f1"] == pytest.approx(f1)


def test_a_reply_that_breaks_the_grammar_scores_nothing() -> None:
    row = entity_row("Necrosis and mitoses.", SAMPLE, GRAMMAR)
    assert row["entity_f1"] == 0.0


def test_samples_without_findings_are_left_out() -> None:
    bare = SAMPLE.model_copy(update={"entities": ()})
    assert entity_row(_reply("Necrosis."), bare, GRAMMAR) == {}
    assert entity_figures([{"group": "a"}], ExamSettings()) is None


def test_precision_and_recall_count_every_item_as_f1_does() -> None:
    """One perfect and one unparsed reply: 0.5 in all three. One that names nothing counts too."""
    perfect = entity_row(_reply("Necrosis and mitoses are seen. Goblet cells are absent."), SAMPLE, GRAMMAR)
    unparsed = entity_row("<info>Necrosis and mitoses are seen.", SAMPLE, GRAMMAR)
    silent = entity_row(_reply("Nothing is seen."), SAMPLE, GRAMMAR)
    for other in (unparsed, silent):
        found = entity_figures([{"group": "a", **perfect}, {"group": "b", **other}], ExamSettings())
        assert found is not None
        assert (found["f1"], found["precision"], found["recall"], found["n"]) == (0.5, 0.5, 0.5, 2)


def test_figures_are_means_over_items() -> None:
    rows = [
        {"group": "a", "entity_f1": 1.0, "entity_matched": 3, "entity_predicted": 3, "entity_gold": 3},
        {"group": "b", "entity_f1": 0.5, "entity_matched": 1, "entity_predicted": 1, "entity_gold": 3},
        {"group": "b"},
    ]
    found = entity_figures(rows, ExamSettings())
    assert found is not None
    assert (found["f1"], found["precision"], found["recall"], found["n"]) == (0.75, 1.0, pytest.approx(2 / 3), 2)
    assert found["ci95"][0] == 0.5 and found["ci95"][1] == 1.0


def test_the_interval_draws_whole_clusters() -> None:
    # Two clusters of very different size: a resample is all of a, all of b, or both; the limits are the two means.
    mean, interval = mean_interval([1.0] * 9 + [0.0], ["a"] * 9 + ["b"])
    assert mean == 0.9 and interval.pair == [0.0, 1.0] and interval.warning
    _, one = mean_interval([1.0, 0.0], ["a", "a"])
    assert one.pair is None and one.reason
    with pytest.raises(EosinError):
        mean_interval([], [])
