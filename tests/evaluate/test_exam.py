from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.core.nouns.classes import Classes
from eosin.core.nouns.prompt import AnswerForm, gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Choice, ImageBytes, ImageFile, Origin, Sample, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings, InputPolicy
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Generation, MockEngine, Request
from eosin.evaluate.exam.entry import evaluate_samples
from eosin.evaluate.exam.exam import _new_at_default, run_exam
from eosin.evaluate.exam.grading import read_answer
from eosin.evaluate.exam.items import choose_balanced, group_of
from eosin.evaluate.exam.scores import sampled_figures
from eosin.evaluate.exam.work import Work, work_root

PLAIN = ExamSettings(probes=[])


class Counting:
    """Wraps an engine: counts what is asked, and may fail at a given request or answer in wrong order."""

    name = "counting"

    def __init__(self, reply, *, fail_at: int | None = None) -> None:
        self.asked: Counter[str] = Counter()
        self.decodings: list[Decoding] = []
        self._mock, self._fail_at = MockEngine(reply), fail_at

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Generation]:
        self.decodings.append(decoding)
        for request in requests:
            if self._fail_at is not None and sum(self.asked.values()) >= self._fail_at:
                raise KeyboardInterrupt
            self.asked[request.id] += 1
            yield from self._mock.generate([request], decoding)


@pytest.mark.parametrize("name", ["think/answer", "info/think/answer", "observe/think/answer"])
@pytest.mark.parametrize("numbered", [False, True])
def test_exam_parses_what_its_own_grammar_renders(samples, name, numbered, tmp_path: Path) -> None:
    """Fault of a released evaluation: it could not parse its own answers."""
    grammar = Grammar.of(name, numbered_steps=numbered)
    replies = {s.id: gold_reply(s, grammar) for s in samples}
    summary = run_exam(MockEngine(lambda r: replies[r.id]), samples, grammar, PLAIN, tmp_path / "e")
    assert summary["accuracy"] == summary["balanced_accuracy"] == summary["tolerant_accuracy"] == 1.0
    assert summary["unparsed_rate"] == 0.0 and summary["unparsed_reasons"] == {}


@pytest.mark.parametrize(
    "texts",
    [
        ["yes", "no"],
        ["A", "B", "AB", "O"],
        ["grade 1", "grade 2", "grade 12"],
        ["H. pylori", "1. none", "C. difficile"],
        ["adenoma, tubular", "adenoma (villous)", "no adenoma"],
        ["p < 0.05", "necrosis.", "5-10 %"],
        [f"class {i}" for i in range(26)],
    ],
)
@pytest.mark.parametrize("form", ["letter_and_text", "text_and_letter", "text", "letter"])
def test_every_gold_answer_parses_as_itself(form: AnswerForm, texts: list[str], grammar: Grammar) -> None:
    for choice in make_choices(texts):
        sample = Sample(
            id="s",
            messages=user_prompt("?", 0),
            choices=make_choices(texts),
            answer=choice.letter,
            origin=Origin(source="t"),
        )
        reply = gold_reply(sample, grammar, form)
        read = getattr(read_answer(reply, sample, grammar), "value", None)
        # A letter alone, or a text alone, may also be another option's: then nothing is read, and never another option.
        assert read == choice.letter or (read is None and form in ("text", "letter")), reply


def test_gold_exam_on_disk(samples, gold, grammar, tmp_path: Path) -> None:
    out = tmp_path / "evals" / "e"
    summary = run_exam(MockEngine(gold), samples, grammar, PLAIN, out, record={"stage": "sft"})
    assert summary == store.read_json(out / "summary.json")
    assert summary["n"] == 24 and summary["num_clusters"] == 12 and summary["cluster"] == "case"
    assert summary["labels"] == ["adenoma", "cancer", "normal"]
    assert summary["confusion"] == [[8, 0, 0, 0], [0, 8, 0, 0], [0, 0, 8, 0]]
    assert summary["recall"] == {"adenoma": 1.0, "cancer": 1.0, "normal": 1.0}
    assert summary["ci95"][0] < 1.0 and summary["match"] == "option" and summary["chance"] == pytest.approx(1 / 3)
    artifact = store.open_artifact(out, "eval", verify=True)
    assert artifact.manifest["counts"] == {"scored": 24, "set_aside": 0}
    assert artifact.manifest["record"]["stage"] == "sft" and artifact.manifest["record"]["seed"] == 0
    row = store.read_jsonl(out / "predictions.jsonl")[1]
    first = samples[1]
    assert row["id"] == first.id and row["answer"] == row["parsed"] == row["tolerant"] == first.answer
    assert row["group"] == "case:test0" and row["label"] == row["predicted_label"] == "normal"
    assert row["choices"] == {c.letter: c.text for c in first.choices} and row["correct"] is True
    assert row["num_tokens"] > 0 and row["truncated"] is False and row["unparsed_reason"] is None
    assert not work_root(out).exists()


def test_empty_replies(samples, grammar, tmp_path: Path) -> None:
    summary = run_exam(MockEngine(lambda r: ""), samples, grammar, PLAIN, tmp_path / "e")
    assert summary["accuracy"] == summary["balanced_accuracy"] == 0.0
    assert summary["unparsed_rate"] == 1.0 and summary["unparsed_reasons"] == {"no <think>": 24}
    assert [row[-1] for row in summary["confusion"]] == [8, 8, 8]


def test_tolerant_stands_beside_strict(samples, grammar, tmp_path: Path) -> None:
    answers = {s.id: s.answer for s in samples}
    engine = MockEngine(lambda r: f"I think so. <answer>The answer is {answers[r.id]}")
    summary = run_exam(engine, samples, grammar, PLAIN, tmp_path / "e")
    assert summary["accuracy"] == 0.0 and summary["unparsed_rate"] == 1.0
    assert summary["tolerant_accuracy"] == 1.0


def test_listing_all_options_is_wrong(samples, grammar, tmp_path: Path) -> None:
    engine = MockEngine(lambda r: "<think>x</think><answer>A, B, C</answer>")
    summary = run_exam(engine, samples, grammar, PLAIN, tmp_path / "e")
    assert summary["accuracy"] == 0.0 and summary["tolerant_accuracy"] == 0.0


def test_truncation_is_counted(samples, gold, grammar, tmp_path: Path) -> None:
    cut = PLAIN.model_copy(update={"max_new_tokens": 2})
    summary = run_exam(MockEngine(gold), samples, grammar, cut, tmp_path / "e")
    assert summary["truncated_rate"] == 1.0 and summary["accuracy"] == 0.0
    assert summary["decoding"]["max_new_tokens"] == 2 and summary["decoding"]["temperature"] == 0.0


def test_killed_exam_goes_on(samples, gold, grammar, tmp_path: Path) -> None:
    settings = ExamSettings(batch_size=4, probes=["blank"], num_sampled=2)
    whole = run_exam(MockEngine(gold), samples, grammar, settings, tmp_path / "whole")
    for fail_at in (0, 9, 30, 80):
        out = tmp_path / f"e{fail_at}"
        first = Counting(gold, fail_at=fail_at)
        with pytest.raises(KeyboardInterrupt):
            run_exam(first, samples, grammar, settings, out)
        assert not out.exists()
        second = Counting(gold)
        summary = run_exam(second, samples, grammar, settings, out)
        finished = fail_at // 4 * 4
        assert sum(second.asked.values()) == 4 * 24 - finished
        assert {**summary, "engine": "mock"} == whole
        assert [r["id"] for r in store.read_jsonl(out / "predictions.jsonl")] == [s.id for s in samples]


def test_line_cut_by_a_kill_is_asked_again(samples, gold, grammar, tmp_path: Path) -> None:
    settings = ExamSettings(batch_size=4, probes=[])
    with pytest.raises(KeyboardInterrupt):
        run_exam(Counting(gold, fail_at=8), samples, grammar, settings, tmp_path / "e")
    (log,) = work_root(tmp_path / "e").rglob("predictions.jsonl")
    log.write_bytes(log.read_bytes()[:-20])
    with pytest.raises(KeyboardInterrupt):
        run_exam(Counting(gold, fail_at=5), samples, grammar, settings, tmp_path / "e")
    third = Counting(gold)
    assert run_exam(third, samples, grammar, settings, tmp_path / "e")["accuracy"] == 1.0
    assert sum(third.asked.values()) == 24 - 7 - 5
    assert len(store.read_jsonl(tmp_path / "e" / "predictions.jsonl")) == 24


def test_odd_characters_survive(samples, gold, grammar, tmp_path: Path) -> None:
    engine = Counting(lambda r: "a\u2028b\x85c\u0000 \N{MICROSCOPE}")
    with pytest.raises(KeyboardInterrupt):
        engine._fail_at = 8
        run_exam(engine, samples, grammar, ExamSettings(batch_size=4, probes=[]), tmp_path / "e")
    engine._fail_at = None
    run_exam(engine, samples, grammar, ExamSettings(batch_size=4, probes=[]), tmp_path / "e")
    rows = store.read_jsonl(tmp_path / "e" / "predictions.jsonl")
    assert len(rows) == 24 and {r["reply"] for r in rows} == {"a\u2028b\x85c\u0000 \N{MICROSCOPE}"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_disk_is_said_plainly(tmp_path: Path) -> None:
    work = Work(tmp_path / "e", "key")
    (work.dir / "predictions.jsonl").symlink_to("/dev/full")
    with pytest.raises(EosinError, match="disk is full"):
        work.append("predictions", [{"id": "a"}])


def test_finished_exam_is_not_run_again(samples, gold, grammar, tmp_path: Path) -> None:
    first = run_exam(Counting(gold), samples, grammar, PLAIN, tmp_path / "e")
    again = Counting(gold)
    assert run_exam(again, samples, grammar, PLAIN, tmp_path / "e") == first and not again.asked
    other = PLAIN.model_copy(update={"seed": 7})
    with pytest.raises(EosinError, match="Another exam"):
        run_exam(again, samples, grammar, other, tmp_path / "e")
    (tmp_path / "something").mkdir()
    (tmp_path / "something" / "notes.txt").write_text("mine")
    with pytest.raises(EosinError, match="something else"):
        run_exam(again, samples, grammar, PLAIN, tmp_path / "something")
    assert not again.asked and (tmp_path / "something" / "notes.txt").read_text() == "mine"


def test_rows_of_another_checkpoint_are_not_taken(samples, gold, grammar, tmp_path: Path) -> None:
    parents = []
    for name in ("one", "two"):
        with store.writing(tmp_path / name, "checkpoint") as writer:
            (writer.dir / "weights").write_text(name)
        parents.append(store.open_artifact(tmp_path / name))
    with pytest.raises(KeyboardInterrupt):
        run_exam(Counting(gold, fail_at=20), samples, grammar, PLAIN.model_copy(update={"batch_size": 4}),
                 tmp_path / "e", parents=parents[:1])  # fmt: skip
    second = Counting(gold)
    run_exam(second, samples, grammar, PLAIN.model_copy(update={"batch_size": 4}), tmp_path / "e",
             parents=parents[1:])  # fmt: skip
    assert sum(second.asked.values()) == 24


def test_checkpoint_is_known_by_its_digest_not_its_path(samples, gold, grammar, tmp_path: Path) -> None:
    with store.writing(tmp_path / "one", "checkpoint") as writer:
        (writer.dir / "weights").write_text("one")
    parents = [store.open_artifact(tmp_path / "one")]
    engine = Counting(gold)
    for name in ("transformers:one", "transformers:./one"):
        engine.name = name
        run_exam(engine, samples, grammar, PLAIN, tmp_path / "e", parents=parents)
    assert sum(engine.asked.values()) == 24
    with pytest.raises(EosinError, match="Another exam"):
        run_exam(engine, samples, grammar, PLAIN, tmp_path / "e")


def test_bad_images_are_set_aside_and_counted(samples, gold, grammar, tmp_path: Path) -> None:
    good = samples[0].images[0].data
    bad = {
        2: ImageBytes(data=good[: len(good) // 2]),
        5: ImageFile(path=str(tmp_path / "gone.png")),
        7: ImageBytes(data=b""),
    }
    mixed = [s.model_copy(update={"images": (bad[i],)}) if i in bad else s for i, s in enumerate(samples)]
    summary = run_exam(MockEngine(gold), mixed, grammar, ExamSettings(batch_size=5), tmp_path / "e")
    assert summary["n"] == 21 and summary["num_set_aside"] == 3 and summary["accuracy"] == 1.0
    assert summary["set_aside_reasons"] == {
        "image truncated or damaged": 1, "image file missing": 1, "image file empty": 1,
    }  # fmt: skip
    kept = {r["id"] for r in store.read_jsonl(tmp_path / "e" / "predictions.jsonl")}
    aside = {r["id"] for r in store.read_jsonl(tmp_path / "e" / "set_aside.jsonl")}
    assert kept | aside == {s.id for s in samples} and not kept & aside
    assert summary["probes"]["blank"]["n"] == 21
    all_bad = [s.model_copy(update={"images": (bad[5],)}) for s in samples]
    with pytest.raises(EosinError, match="None of the 24 items"):
        run_exam(MockEngine(gold), all_bad, grammar, PLAIN, tmp_path / "f")


def test_refusals(samples, gold, grammar, tmp_path: Path) -> None:
    engine = Counting(gold)
    with pytest.raises(EosinError, match="without items"):
        run_exam(engine, [], grammar, PLAIN, tmp_path / "e")
    with pytest.raises(EosinError, match="2 ids stand more than once"):
        run_exam(engine, [*samples, *samples[:2]], grammar, PLAIN, tmp_path / "e")
    unanswered = [s.model_copy(update={"answer": None}) if i < 3 else s for i, s in enumerate(samples)]
    with pytest.raises(EosinError, match="3 of 24 samples have no answer"):
        run_exam(engine, unanswered, grammar, PLAIN, tmp_path / "e")
    assert not engine.asked and not (tmp_path / "e").exists()


def test_engine_that_loses_a_reply_is_refused(samples, grammar, tmp_path: Path) -> None:
    class Lossy(MockEngine):
        def generate(self, requests, decoding):
            yield from list(super().generate(requests, decoding))[1:]

    with pytest.raises(EosinError, match="did not answer every request"):
        run_exam(Lossy(lambda r: ""), samples, grammar, PLAIN, tmp_path / "e")


def test_prompt_carries_options_and_instruction(samples, grammar, tmp_path: Path) -> None:
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        return ""

    run_exam(MockEngine(reply), samples[:2], grammar, PLAIN, tmp_path / "a")
    run_exam(MockEngine(reply), samples[:2], grammar, PLAIN, tmp_path / "b", instruction=False)
    assert grammar.instruction() in seen[0].messages[-1].text
    assert grammar.instruction() not in seen[2].messages[-1].text
    assert "A. normal mucosa" in seen[2].messages[-1].text and seen[2].images[0].size == (16, 16)


def test_sampled_by_hand(samples, grammar, tmp_path: Path) -> None:
    """Items right in 3, 2, 1 and 0 of 3 draws: mean 6/12, pass@3 3/4, majority 2/4."""
    items, calls = samples[:4], Counter()
    wanted = dict(zip([s.id for s in items], [3, 2, 1, 0], strict=True))
    answers = {s.id: s.answer for s in items}

    def reply(request: Request) -> str:
        calls[request.id] += 1
        draw = calls[request.id] - 2  # the first call is the greedy one
        wrong = "ABC"[("ABC".index(answers[request.id]) + 1) % 3]
        letter = answers[request.id] if draw < wanted[request.id] else wrong
        return f"<think>x</think><answer>{letter}</answer>"

    engine = Counting(reply)
    settings = ExamSettings(probes=[], num_sampled=3, temperature=0.7, top_p=0.9, batch_size=2)
    sampled = run_exam(engine, items, grammar, settings, tmp_path / "e")["sampled"]
    assert sampled["accuracy"] == pytest.approx(6 / 12) and sampled["n"] == 4 and sampled["k"] == 3
    assert sampled["pass_at_k"] == pytest.approx(3 / 4)
    assert sampled["majority_accuracy"] == pytest.approx(2 / 4)
    greedy, drawn = engine.decodings[:2], engine.decodings[2:]
    assert {d.temperature for d in greedy} == {0.0} and {(d.temperature, d.top_p) for d in drawn} == {(0.7, 0.9)}
    assert len({d.seed for d in drawn}) == 6, "each sampled batch has its own seed"
    rows = store.read_jsonl(tmp_path / "e" / "sampled.jsonl")
    assert Counter(r["draw"] for r in rows) == {0: 4, 1: 4, 2: 4}


def test_majority_vote_by_hand() -> None:
    """a: two right, two unparsed without a vote. b: outvoted 1 to 2. c: a tie, the earlier vote wins."""
    draws = {
        "a": [None, "B", None, "B"],
        "b": ["B", "C", "C", None],
        "c": ["B", "C", None, None],
        "d": ["C", "B", None, None],
        "e": [None, None, None, None],
    }
    rows = [
        [
            {"id": i, "group": f"case:{i}", "parsed": said[k], "correct": said[k] == "B", "truncated": False}
            for i, said in draws.items()
        ]
        for k in range(4)
    ]
    found = sampled_figures(rows, PLAIN)
    assert found["majority_accuracy"] == pytest.approx(2 / 5), "a and c"
    assert found["pass_at_k"] == pytest.approx(4 / 5) and found["unparsed_rate"] == pytest.approx(11 / 20)


def test_open_questions_match_exactly(grammar, tmp_path: Path) -> None:
    items = [
        Sample(id=str(i), messages=user_prompt("?", 0), answer=text, origin=Origin(source="t"))
        for i, text in enumerate(["Tubular adenoma", "necrosis", "goblet cells"])
    ]
    replies = {"0": "tubular \n ADENOMA", "1": "no necrosis", "2": ""}
    engine = MockEngine(lambda r: f"<think>x</think><answer>{replies[r.id]}</answer>")
    summary = run_exam(engine, items, grammar, ExamSettings(), tmp_path / "e")
    assert summary["match"] == "exact" and summary["accuracy"] == pytest.approx(1 / 3)
    assert summary["unparsed_reasons"] == {"empty answer": 1} and summary["cluster"] == "item"
    assert summary["balanced_accuracy"] is None and "no classes" in summary["balanced_reason"]
    assert summary["looks_at_image"] is None and set(summary["probes_skipped"]) == {
        "blank", "swapped", "question_only",
    }  # fmt: skip


def test_one_case_gives_no_interval(make, look, grammar, tmp_path: Path) -> None:
    summary = run_exam(MockEngine(look), make(1, 4), grammar, PLAIN, tmp_path / "e")
    assert summary["accuracy"] == 1.0 and summary["ci95"] is None and "one cluster" in summary["interval_reason"]
    json.dumps(summary, allow_nan=False)
    few = run_exam(MockEngine(look), make(5), grammar, PLAIN, tmp_path / "f")
    assert few["ci95"] is not None and "5 clusters" in few["interval_warning"]


def test_max_samples_is_seeded(samples, gold, grammar, tmp_path: Path) -> None:
    def ids(seed: int) -> set[str]:
        engine = Counting(gold)
        run_exam(engine, samples, grammar, ExamSettings(probes=[], max_samples=6, seed=seed), tmp_path / str(seed))
        return set(engine.asked)

    assert len(ids(1)) == 6 and ids(1) | ids(2) != ids(1)


def test_choose_balanced_takes_every_class(samples) -> None:
    skewed = [s for s in samples if s.label == "normal"] + [s for s in samples if s.label == "cancer"][:2]
    chosen = choose_balanced(skewed, lambda s: s.label or "", 6, 0)
    assert Counter(s.label for s in chosen) == {"normal": 4, "cancer": 2}
    assert chosen == choose_balanced(skewed, lambda s: s.label or "", 6, 0)


def test_groups_fall_back_to_the_image(samples) -> None:
    bare = [s.model_copy(update={"origin": Origin(source="t")}) for s in samples[:2]]
    same_image = bare[0].model_copy(update={"id": "other question"})
    assert group_of(bare[0]) == group_of(same_image) != group_of(bare[1])
    assert group_of(bare[0]).startswith("image:")
    assert group_of(samples[0]) == "case:test0"


def test_item_specific_options_form_no_classes(samples) -> None:
    own = [
        s.model_copy(update={"choices": tuple(Choice(letter=c, text=f"{c} of {i}") for c in "ABC"), "label": None})
        for i, s in enumerate(samples)
    ]
    assert Classes.of(own).labels == ()
    shared = [s.model_copy(update={"label": None}) for s in samples]
    assert Classes.of(shared).labels == ("adenoma", "carcinoma", "normal mucosa")


def test_settings_refuse_unknown_and_wrong() -> None:
    for wrong in (
        {"probe": ["blank"]},
        {"probes": ["blnk"]},
        {"probes": ["blank", "blank"]},
        {"max_samples": 0},
    ):
        with pytest.raises(ValueError):
            ExamSettings.model_validate(wrong)
    assert ExamSettings().probes == ["blank", "swapped", "question_only"]


def test_an_exam_without_baselines_compares_nothing(make, look, grammar, tmp_path: Path) -> None:
    everything = [*make(12, 2, "train"), *make(9, 2, "test")]
    settings = ExamSettings(baselines="none", probes=[])
    result = evaluate_samples(MockEngine(look), everything, grammar, tmp_path / "out", settings=settings)
    assert result["baselines"] == {} and result["exam"]["against_baselines"]["best"] is None
    alone = run_exam(MockEngine(look), make(9, 2, "test"), grammar, settings, tmp_path / "alone")
    assert "against_baselines" not in alone


def test_exams_of_before_baselines_could_be_chosen_keep_their_key() -> None:
    of_terms = {"terms", "scoring", "same_judge", "max_unscored", "prompt", "input", "shifts", "questions",
                "earlier_turns", "option_probabilities"}  # fmt: skip
    assert _new_at_default(ExamSettings()) == {"evidence", "baselines", "baseline_train"} | of_terms
    assert _new_at_default(ExamSettings(baselines="none", baseline_train=None)) == {"evidence"} | of_terms
    assert _new_at_default(ExamSettings(terms="eosin", max_unscored=0.2)).isdisjoint({"terms", "max_unscored"})
    shown = ExamSettings(input=InputPolicy(max_pixels=4096), prompt="direct", shifts=2)
    assert _new_at_default(shown) == {"evidence", "baselines", "baseline_train", *of_terms} - {"input", "prompt"}


def test_evaluate_samples_for_the_command_line(make, look, grammar, tmp_path: Path) -> None:
    everything = [*make(12, 2, "train"), *make(9, 2, "test")]
    result = evaluate_samples(MockEngine(look), everything, grammar, tmp_path / "out")
    assert result["exam"]["n"] == 18 and result["exam"]["accuracy"] == 1.0
    assert store.read_json(tmp_path / "out" / "baselines.json") == result["baselines"]
    assert result["baselines"]["colour_histogram"]["accuracy"] == 1.0
    assert result["baselines"]["majority"]["balanced_accuracy"] == pytest.approx(1 / 3)
    verdict = result["exam"]["against_baselines"]
    assert verdict["baseline"] == 1.0 and verdict["difference"] == 0.0 and verdict["beats"] is False
    assert store.read_json(tmp_path / "out" / "exam" / "summary.json")["against_baselines"] == verdict
    told: list[str] = []
    again = evaluate_samples(MockEngine(look), everything, grammar, tmp_path / "out", tell=told.append)
    assert again == result and told == [], "neither exam nor baselines run twice"
    with pytest.raises(EosinError, match="no samples in this split"):
        evaluate_samples(MockEngine(look), everything, grammar, tmp_path / "x", settings=ExamSettings(split="valid"))
