from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Entity, ImageBytes, ImageFile
from eosin.knowledge.linking import tables
from eosin.scoring import Reference, ScoreItem, load_rewards
from eosin.scoring.sets.compose import Outcome
from eosin.scoring.sets.rates import share_of_flat_groups, summarise

CHOICES = {"A": "tubular adenoma", "B": "lymphoma", "C": "lipoma"}
FULL = (
    "Many glands with nuclear atypia. Atypia is a hallmark of tubular adenoma. Not lymphoma because glands prevail. "
    "Lipoma is excluded by the glands. Therefore tubular adenoma."
)


def item(think: str, answer: str = "A", **more: Any) -> ScoreItem:
    reply = f"<think>{think}</think><answer>{answer}</answer>"
    return ScoreItem(
        id="1", reply=reply, question="What is the diagnosis?", choices=CHOICES, **({"answer": "A"} | more)
    )


def score(name: str, scored: ScoreItem, grammar: str = "think/answer", **options: Any) -> Outcome:
    return load_rewards([{"name": name, **options}], grammar).score(scored)


def test_a_full_reading_earns_all() -> None:
    assert score("process", item(FULL)).total == 1.0
    assert score("checklist", item(FULL)).total == 1.0


def test_each_part_of_the_checklist_by_rules() -> None:
    outcome = score("checklist", item("Crowded glands with nuclear atypia."))
    found = {k: v["happened"] for k, v in outcome.events["checklist"].items() if isinstance(v, dict)}
    assert found == {
        "image_features": True, "elimination": False, "knowledge": False,
        "definition_error": False, "contradiction": False, "outdated": False,
    }  # fmt: skip
    assert outcome.total == pytest.approx((1 - 0.8 + 1) / 2)


def test_evidence_stands_in_the_reply() -> None:
    events = score("checklist", item(FULL)).events["checklist"]
    for name in ("image_features", "elimination", "knowledge"):
        assert events[name]["evidence"] in FULL


@pytest.mark.parametrize(
    ("think", "answer"),
    [
        ("Glands. Not tubular adenoma because of the glands.", "A"),  # rules out what it answers
        ("Glands. Therefore this is lymphoma.", "A"),  # concludes something else
        ("Glands. The answer is lipoma.", "A. tubular adenoma"),
    ],
)
def test_a_contradiction_costs(think: str, answer: str) -> None:
    assert score("process", item(think, answer)).total == 0.0
    assert score("checklist", item(think, answer)).events["checklist"]["contradiction"]["happened"] is True


def test_findings_and_think_that_contradict_each_other() -> None:
    reply = "<observe>There is necrosis.</observe><think>There is no necrosis, only glands.</think><answer>A</answer>"
    scored = ScoreItem(id="1", reply=reply, choices=CHOICES, answer="A")
    assert score("process", scored, "observe/think/answer").events["process"]["reason"] == "contradiction"


def test_elimination_needs_a_reason() -> None:
    bare = score("process", item("Glands. Not lymphoma. Not lipoma."))
    half = score("process", item("Glands. Not lymphoma because of glands. Not lipoma."))
    assert bare.events["process"]["elimination"] == 0.0
    assert half.events["process"]["elimination"] == 0.5


def test_process_is_blind_to_the_right_answer() -> None:
    for gold in ("A", "B", None):
        assert score("process", item(FULL, answer="A") if gold == "A" else ScoreItem(
            id="1", reply=item(FULL).reply, question=item(FULL).question, choices=CHOICES, answer=gold
        )).total == 1.0  # fmt: skip


def test_ruling_out_the_right_diagnosis_is_no_error_of_definition() -> None:
    gold = (Entity(name="gland"), Entity(name="lymphoma", kind="diagnosis"))
    assert score("checklist", item(FULL, entities=gold)).total == 1.0


def test_grounding_where_the_data_has_findings() -> None:
    gold = (Entity(name="gland"), Entity(name="necrosis", polarity="absent"), Entity(name="mucin"))
    think = FULL.replace("with nuclear atypia", "without necrosis").replace("Atypia", "This") + " Mucin is seen."
    good = score("process", item(think, entities=gold))
    poor = score("process", item(FULL, entities=gold))
    assert good.events["process"]["grounding"] == 1.0
    assert poor.events["process"]["grounding"] == pytest.approx(2 * 1 / 5)  # gland of gland, atypia; of three gold
    assert score("checklist", item("Glands with necrosis.", entities=gold)).events["checklist"]["definition_error"][
        "happened"
    ]


@pytest.mark.parametrize(
    ("think", "reason"),
    [
        ("", "empty think"),
        ("... --", "empty think"),
        ("What is the diagnosis? tubular adenoma lymphoma lipoma", "think copies the question"),
        ("the cells are atypical " * 50, "think repeats itself"),
    ],
)
def test_no_reasoning_earns_nothing(think: str, reason: str) -> None:
    for name in ("process", "checklist"):
        outcome = score(name, item(think))
        assert (outcome.total, outcome.events[name]["reason"]) == (0.0, reason)


def test_a_list_of_names_is_no_reading() -> None:
    names = ", ".join(c.label for c in tables.concepts()[:80])
    assert score("process", item(names)).events["process"]["reason"] == "a list of names"


def test_outdated_words_are_noticed() -> None:
    outcome = score("checklist", item("Glands. This was called oat cell carcinoma."))
    assert outcome.events["checklist"]["outdated"]["evidence"] == "This was called oat cell carcinoma."


def test_open_questions_have_nothing_to_eliminate() -> None:
    scored = ScoreItem(
        id="1", reply="<think>Glands. They are typical of adenoma.</think><answer>adenoma</answer>", answer="adenoma"
    )
    assert score("checklist", scored).total == 1.0


def picture() -> ImageBytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 100, 150)).save(buffer, "PNG")
    return ImageBytes(data=buffer.getvalue())


def clip(image: Any, texts: Sequence[str]) -> list[float]:
    assert image.size == (16, 16)
    return [0.3 if "glands" in t else 0.1 for t in texts]


def test_clip_is_the_mean_cosine_of_the_sentences() -> None:
    rewards = load_rewards("clip", clip=clip)
    assert rewards.score(item("Crowded glands. Blue sky.", image=picture())).total == pytest.approx(0.2)
    scaled = load_rewards([{"name": "clip", "floor": 0.1, "ceiling": 0.3}], clip=clip)
    assert scaled.score(item("Crowded glands. Blue sky.", image=picture())).total == pytest.approx(0.5)
    assert rewards.score(item("Crowded glands.")).unscored == {"clip": "no image"}
    assert rewards.score(item("Glands.", image=ImageFile(path="none.png"))).unscored == {"clip": "image file missing"}
    assert rewards.score(item("One. " * 31, image=picture())).total == 0.0
    assert load_rewards("clip").score(item("Glands.", image=picture())).unscored == {"clip": "no CLIP model given"}
    nan = load_rewards("clip", clip=lambda i, t: [float("nan")] * len(t))
    assert nan.score(item("Glands.", image=picture())).total is None


def encode(texts: Sequence[str]) -> np.ndarray:
    return np.array([[t.count("a") + 1.0, t.count("o")] for t in texts])


def test_semantic_says_what_it_used() -> None:
    open_item = ScoreItem(id="1", reply="<think>x</think><answer>lipoma</answer>", answer="lipoma")
    by_words = load_rewards("semantic").score(open_item)
    by_encoder = load_rewards("semantic", encode=encode, encode_name="toy").score(open_item)
    assert (by_words.total, by_words.events["semantic"]["by"]) == (1.0, "token_f1")
    assert by_encoder.total == pytest.approx(1.0)
    assert by_encoder.events["semantic"]["by"] == "encoder toy"
    assert load_rewards("pathreasoner-r1").label == "pathreasoner-r1+{semantic=token_f1, similarity=trigrams}"


def test_semantic_of_options_and_lists() -> None:
    assert score("semantic", item("x", "A")).total == 1.0
    assert score("semantic", item("x", "A. tubular adenoma")).total == 1.0
    assert score("semantic", item("x", "A, B")).total == 0.0
    assert score("semantic", item("x", "B")).total == 0.0
    open_item = ScoreItem(id="1", reply="<think>x</think><answer>lipoma or thymoma</answer>", answer="lipoma")
    assert score("semantic", open_item).events["semantic"]["reason"] == "several answers at once"


def test_semantic_without_reference_or_with_a_dead_encoder() -> None:
    assert score("semantic", ScoreItem(id="1", reply="<think>x</think><answer>y</answer>")).total is None
    dead = load_rewards("semantic", encode=lambda t: np.zeros((2, 3)))
    assert dead.score(ScoreItem(id="1", reply="<think>x</think><answer>y</answer>", answer="y")).total is None
    reference = ScoreItem(
        id="1", reply="<think>x</think><answer>lipoma</answer>", reference=Reference(answer="lipoma"), answer="z"
    )
    assert score("semantic", reference).total == 1.0


def length(num_tokens: int | None, **more: Any) -> Outcome:
    return load_rewards("length", max_tokens=100).score(item(FULL, num_tokens=num_tokens, **more))


def test_length_term() -> None:
    assert [length(n).total for n in (10, 80, 90, 100, 500)] == pytest.approx([1, 1, 0.5, 0, 0])
    assert length(50, truncated=True).total == 0.0
    assert length(None).unscored == {"length": "num_tokens not given"}
    assert load_rewards("length").score(item(FULL, num_tokens=3)).total is None
    assert load_rewards("length", max_tokens=9).score(ScoreItem(id="1", reply=" ", num_tokens=0)).total == 0.0


def test_repetition_and_language_terms() -> None:
    assert score("repetition", item(FULL)).total == 1.0
    assert score("repetition", item("the cells are atypical " * 400)).total < 0.01
    assert score("repetition", item("a" * 4000)).total == pytest.approx(0.0, abs=0.01)
    assert score("language", item("腺瘤" * 30)).total < 0.3
    assert score("language", item("腺瘤"), scripts=["LATIN", "CJK"]).total == 1.0


def test_base_rates_and_constant_terms() -> None:
    outcomes = [score("checklist", item(FULL)), score("checklist", item("Glands only."))]
    summary = summarise(outcomes)
    assert summary["total"]["mean"] == pytest.approx((1 + 0.6) / 2)
    assert summary["base_rates"]["checklist.image_features"] == {"n": 2, "rate": 1.0}
    assert summary["base_rates"]["checklist.knowledge"]["rate"] == 0.5
    assert "checklist.outdated" in summary["near_constant"]
    assert "checklist.knowledge" not in summary["near_constant"]
    assert "checklist" not in summary["near_constant"]


def test_unscored_counts_and_flat_groups() -> None:
    outcomes = [score("accuracy", ScoreItem(id="1", reply=FULL)), score("accuracy", item(FULL))]
    summary = summarise([*outcomes])
    assert summary["unscored"] == {"accuracy": {"no gold answer": 1}}
    assert (summary["terms"]["accuracy"]["n"], summary["terms"]["accuracy"]["unscored"]) == (1, 1)
    assert share_of_flat_groups([[1.0, 1.0], [0.0, 1.0], [None, 0.5], [None, None]]) == pytest.approx(2 / 3)
    assert share_of_flat_groups([]) is None


def test_set_options() -> None:
    assert load_rewards("patho-r1-dapo", max_tokens=100).score(item(FULL, num_tokens=90)).total == pytest.approx(0.75)
    assert load_rewards("patho-r1-dapo", max_tokens=100).score(item(FULL, "B", num_tokens=9)).total == -1.0
    plain = load_rewards({"name": "patho-r1-dapo", "gate": "none"}, max_tokens=100)
    assert plain.score(item(FULL, "B", num_tokens=9)).total == 0.5
    half = load_rewards({"name": "pathreasoner-r1", "alpha": 0.5})
    assert half.maximum == 2.5
    assert "alpha=0.5" in half.label
    both = load_rewards("pathvlm-r1").score(item(FULL, "A"))
    assert both.terms["accuracy"] == 0.0  # the paper asks for letter and content
    assert (
        load_rewards({"name": "pathvlm-r1", "names": "letter or text"}).score(item(FULL, "A")).terms["accuracy"] == 1.0
    )
    with pytest.raises(EosinError, match="injected"):
        load_rewards("eosin", jugde=None)


def test_record_of_a_set_names_its_means() -> None:
    described = load_rewards("pathreasoner-r1", encode=encode, encode_name="toy").described()
    by = {t["name"]: t for t in described["terms"]}
    assert by["semantic"]["by"] == "encoder"
    assert by["entity"]["similarity"] == "toy"
    assert described["grammar"] == "think/answer"
