"""Ways of asking, moved options, pictures one by one, input policies, sealed exams."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from exam_layouts import BLUE, GREEN, RED, encoded
from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.prompt import option_lines, prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImagePart, Origin, Sample, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings, InputPolicy
from eosin.engines.base import Decoding, Generation, Request
from eosin.evaluate.exam.exam import run_exam
from eosin.evaluate.exam.policy import fit, shown_images
from eosin.evaluate.exams.prompts import PRESETS, preset_named
from eosin.evaluate.exams.registry import EXAMS
from eosin.evaluate.exams.sealed import write_answers
from eosin.evaluate.exams.variants import image_figures, moved, one_by_one, shift_figures, with_shifts


def question(own: str = "q", options: tuple[str, ...] = ("one", "two", "three"), answer: str | None = "B",
             colours: tuple[tuple[int, int, int], ...] = (RED,), **more: object) -> Sample:  # fmt: skip
    return Sample(
        id=own, images=tuple(ImageBytes(data=encoded(c, "PNG", 64)) for c in colours),
        messages=user_prompt("Which?", len(colours)), choices=make_choices(options), answer=answer,
        origin=Origin(source="test", **more),  # type: ignore[arg-type]
    )  # fmt: skip


class Answering:
    """An engine that answers by a function of the request."""

    name = "answering"

    def __init__(self, answer) -> None:  # type: ignore[no-untyped-def]
        self.answer, self.seen = answer, []

    def generate(self, requests: list[Request], decoding: Decoding) -> list[Generation]:
        self.seen += requests
        return [Generation(r.id, self.answer(r), 3, False) for r in requests]


def asked(name: str, sample: Sample) -> str:
    preset = preset_named(name)
    grammar = preset.grammar or Grammar.of("think/answer")
    return "\n".join(m.text for m in prompt_messages(preset.applied(sample), grammar))


def test_what_each_way_of_asking_writes() -> None:
    yes_no = question(options=("Yes", "No"), answer="A")
    assert asked("yes-no", yes_no) == "Which?\nAnswer yes or no."
    assert asked("a-b", yes_no) == "Which?\nA. Yes\nB. No\nReply with the letter of the right option only."
    assert asked("words", question()).startswith("Which?\n- one\n- two\n- three\n")
    assert "(A) one\n(B) two" in asked("pathmmu", question()) and "A) one\nB) two" in asked("slidechat", question())
    assert asked("chain-of-draft", question()).endswith("but write at most five words for each step.")
    assert asked("patho-r1-cod", question()).startswith("You are an expert in pathology.\nWhich?")
    assert "<info>...</info><think>...</think><answer>...</answer>" in asked("pathreasoner-r1", question())


def test_a_word_on_how_to_think_keeps_the_tags_of_the_checkpoint() -> None:
    own = Grammar.of("info/think/answer", numbered_steps=True)
    grammar, stated = preset_named("chain-of-draft").form(own, False)
    assert (grammar.name, grammar.numbered_steps, grammar.think_style, stated) == (
        "info/think/answer", True, "chain-of-draft", True,
    )  # fmt: skip
    assert preset_named("think").form(grammar, False) == (own, True)
    bare = Grammar.of("answer", bare="whole")  # without a think block there is nothing to keep
    assert preset_named("chain-of-draft").form(bare, True)[0].name == "think/answer"
    assert preset_named("letter").form(own, False)[0].tags == ("answer",)
    assert preset_named("grammar").form(own, False) == (own, False)


def test_any_number_of_options() -> None:
    many = question(options=tuple(f"option {i}" for i in range(26)), answer="Z")
    assert asked("letter", many).splitlines()[26] == "Z. option 25"
    assert option_lines(question(options=("a", "b"))) == "A. a\nB. b"


def test_every_exam_is_asked_in_a_way_that_exists_and_every_way_says_what_it_is() -> None:
    for exam in EXAMS.values():
        preset_named(exam.prompt)
    assert all(p.note for p in PRESETS.values()) and all("arXiv" in p.note or not p.paper or ":" in p.note
                                                         for p in PRESETS.values())  # fmt: skip
    with pytest.raises(EosinError) as error:
        preset_named("chain-of-drafts")
    assert error.value.next_step == "did you mean chain-of-draft?"


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_record_gives_the_same_grammar_again(name: str) -> None:
    grammar = PRESETS[name].grammar or Grammar.of("think/answer")
    facts = grammar.as_facts()
    assert Grammar.of(facts.pop("tags"), **facts) == grammar


@pytest.mark.parametrize(
    ("bare", "text", "strict", "tolerant"),
    [
        ("whole", " B ", "B", "B"),
        ("whole", "<think>It is A.</think>\nB", "B", "B"),
        ("whole", "thought A</think>B", "B", "B"),
        ("whole", "<think>It is A.", None, None),
        ("whole", "", None, None),
        ("last line", "It looks dark.\nAnswer: B", "B", "B"),
        ("last line", "**Final answer:** (B) two", "(B) two", "(B) two"),
        ("last line", "Answer: B\nThat is all.", None, "B"),
        ("last line", "Answer: A\nNo.\nThe answer is: B", "B", "B"),
        ("last line", "B", None, None),
    ],
)
def test_replies_without_tags(bare: str, text: str, strict: str | None, tolerant: str | None) -> None:
    grammar = Grammar.of("answer", bare=bare)  # type: ignore[arg-type]
    for read, wanted in ((grammar.parse(text), strict), (grammar.parse_tolerant(text), tolerant)):
        assert (read.value.answer if isinstance(read, Parsed) else None) == wanted
        assert isinstance(read, Parsed | Unparsed)


def test_moved_options_keep_their_answer() -> None:
    sample = question()
    assert [[c.text for c in moved(sample, k).choices] for k in (0, 1, 2)] == [
        ["one", "two", "three"], ["three", "one", "two"], ["two", "three", "one"],
    ]  # fmt: skip
    assert [moved(sample, k).answer for k in (0, 1, 2)] == ["B", "C", "A"]
    assert all(moved(sample, k).answer_text == "two" for k in range(3))
    assert [s.id for s in with_shifts([sample], -1)] == ["q#shift0", "q#shift1", "q#shift2"]
    assert [s.id for s in with_shifts([sample], 1)] == ["q#shift0", "q#shift1"]
    with pytest.raises(EosinError, match="no question of this exam has options|No question of this exam has options"):
        with_shifts([question(options=(), answer="x")], 1)


def test_consistency_tells_a_reader_from_one_that_names_letters(tmp_path: Path) -> None:
    samples = [question(f"q{i}", case=f"c{i}") for i in range(4)]
    settings = ExamSettings(probes=[], bootstrap=100, baselines="none")
    grammar = Grammar.of("answer", bare="whole")

    def by_text(request: Request) -> str:
        return "two"

    def by_letter(request: Request) -> str:
        return "B"

    found = {}
    for name, answer in (("text", by_text), ("letter", by_letter)):
        run_exam(Answering(answer), with_shifts(samples, -1), grammar, settings, tmp_path / name)
        rows = [json.loads(x) for x in (tmp_path / name / "predictions.jsonl").read_text().splitlines()]
        found[name] = shift_figures(rows)
    assert found["text"]["n"] == 4 and found["text"]["shifts"] == 3
    assert (found["text"]["consistency"], found["text"]["accuracy_in_all"]) == (1.0, 1.0)
    assert (found["letter"]["consistency"], found["letter"]["accuracy_in_all"]) == (0.0, 0.0)
    assert found["letter"]["accuracy"] == pytest.approx(1 / 3) and found["letter"]["accuracy_in_any"] == 1.0
    assert found["letter"]["letters"] == {"B": 12} and found["letter"]["gold_letters"] == {"A": 4, "B": 4, "C": 4}


def test_shift_figures_never_call_an_unreadable_answer_the_same() -> None:
    row = {"choices": {"A": "x", "B": "y"}, "answer": "A", "correct": False, "parsed": None}
    assert shift_figures([{**row, "id": "q#shift0"}, {**row, "id": "q#shift1"}])["consistency"] == 0.0
    assert shift_figures([{**row, "id": "q#shift0"}]) == {"n": 0}


def test_pictures_one_by_one_and_their_vote() -> None:
    sample = question(colours=(RED, GREEN, BLUE))
    asked_alone = one_by_one([sample])
    assert [s.id for s in asked_alone] == ["q#image0", "q#image1", "q#image2"]
    assert [s.images for s in asked_alone] == [(ref,) for ref in sample.images]
    assert all([p.index for p in s.messages[0].parts if isinstance(p, ImagePart)] == [0] for s in asked_alone)
    row = {"choices": {"A": "x", "B": "y"}, "answer": "A"}
    rows = [{**row, "id": f"q#image{i}", "parsed": p, "correct": p == "A"} for i, p in enumerate("ABA")]
    rows += [{**row, "id": f"r#image{i}", "parsed": p, "correct": p == "A"} for i, p in enumerate("BA")]
    rows += [{**row, "id": "s#image0", "parsed": None, "correct": False}]
    found = image_figures(rows)
    assert (found["n"], found["pictures"]) == (3, 6)
    assert found["accuracy"] == pytest.approx(3 / 6) and found["majority_accuracy"] == pytest.approx(1 / 3)


def test_the_input_policy_on_one_picture() -> None:
    ref = ImageBytes(data=b"x")
    image = Image.new("RGB", (200, 100))
    assert fit(image, ref, None, InputPolicy()) is image
    assert fit(image, ref, 0.5, InputPolicy(mpp=1.0)).size == (100, 50)  # type: ignore[union-attr]
    assert fit(image, ref, 0.5, InputPolicy(mpp=0.25, patch_px=64)).size == (64, 64)  # type: ignore[union-attr]
    small = fit(image, ref, None, InputPolicy(max_pixels=5000))
    assert isinstance(small, Image.Image) and small.size == (100, 50)
    odd = fit(Image.new("RGB", (199, 101)), ref, None, InputPolicy(max_pixels=1000))
    assert isinstance(odd, Image.Image) and odd.width * odd.height <= 1000
    assert fit(image, ref, None, InputPolicy(patch_px=500)).size == (200, 100)  # type: ignore[union-attr]
    with pytest.raises(ImageError, match="microns per pixel not known"):
        fit(image, ref, None, InputPolicy(mpp=1.0))


def test_the_middle_is_cut_and_not_a_corner() -> None:
    image = Image.new("RGB", (90, 90), RED)
    image.paste(GREEN, (30, 30, 60, 60))
    cut = fit(image, ImageBytes(data=b"x"), None, InputPolicy(patch_px=30))
    assert isinstance(cut, Image.Image) and cut.getcolors() == [(900, GREEN)]


def test_fewer_pictures_leave_their_places_too() -> None:
    sample = question(colours=(RED, GREEN, BLUE))
    messages, refs = shown_images(sample.messages, sample.images, 2)
    assert len(refs) == 2 and [p.index for p in messages[0].parts if isinstance(p, ImagePart)] == [0, 1]
    assert shown_images(sample.messages, sample.images, None) == (sample.messages, sample.images)


def test_the_policy_reaches_the_model_and_the_log(tmp_path: Path) -> None:
    samples = [question("a", mpp=0.5), question("b")]
    engine = Answering(lambda request: "two")
    policy = InputPolicy(mpp=1.0, max_pixels=400)
    settings = ExamSettings(probes=[], bootstrap=100, baselines="none", input=policy)
    summary = run_exam(engine, samples, Grammar.of("answer", bare="whole"), settings, tmp_path / "exam")
    assert [r.images[0].size for r in engine.seen] == [(20, 20)]
    assert summary["set_aside_reasons"] == {"microns per pixel not known": 1}
    assert summary["input"] == {"mpp": 1.0, "patch_px": None, "max_pixels": 400, "num_images": None, "joint": True}
    assert policy.name == "mpp=1,max_pixels=400" and InputPolicy().name == "as-stored"


def test_a_sealed_exam_gives_a_file_and_no_figure_and_asks_nothing_twice(tmp_path: Path) -> None:
    samples = [question("a", answer=None), question("b", (), None), question("c", answer=None)]
    broken = question("d", answer=None).model_copy(update={"images": (ImageBytes(data=b"no picture"),)})
    engine = Answering(lambda r: {"a": "B", "b": "a tumour", "c": "B and C", "d": ""}[r.id])
    grammar, settings = Grammar.of("answer", bare="whole"), ExamSettings(batch_size=2)
    found = write_answers(engine, [*samples, broken], grammar, settings, tmp_path)
    assert (found["n"], found["answered"]) == (4, 2) and "accuracy" not in found
    assert json.loads((tmp_path / "answers.json").read_text()) == {"a": "two", "b": "a tumour"}
    rows = {r["id"]: r for r in map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())}
    assert rows["c"]["reason"] == "more than one option" and rows["d"]["reason"] == "not an image"
    num = len(engine.seen)
    (tmp_path / "answers.jsonl").write_text((tmp_path / "answers.jsonl").read_text()[:-5])
    write_answers(engine, [*samples, broken], grammar, settings, tmp_path)
    assert len(engine.seen) == num  # only d, whose row was cut off, is looked at again, and it has no picture
