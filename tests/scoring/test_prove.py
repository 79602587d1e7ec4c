from __future__ import annotations

import csv
import functools
import json
import random
from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Entity, Origin, Sample, make_choices, user_prompt
from eosin.scoring import ScoreItem, load_rewards, set_names
from eosin.scoring.proof.prove import Cheat, Proof, prove, read_cheats, render_cheat

GRAMMARS = ("think/answer", "observe/think/answer")


def sample(id: str, question: str, options: list[str], answer: str, *entities: str) -> Sample:
    return Sample(
        id=id,
        messages=user_prompt(question, 0),
        choices=make_choices(options),
        answer=answer,
        entities=tuple(
            Entity(name=e.removeprefix("no "), polarity="absent" if e.startswith("no ") else "present")
            for e in entities
        ),
        reasoning=("The glands are crowded.",),
        origin=Origin(source="test"),
    )


SAMPLES = [
    sample(
        "closed",
        "Which diagnosis fits?",
        ["tubular adenoma", "lymphoma", "lipoma"],
        "B",
        "necrosis",
        "no mitosis",
        "neutrophil",
    ),
    sample("yes-no", "Is inflammation seen?", ["Yes", "No"], "A", "lymphocytic infiltrate", "violet whirl bodies"),
    sample("open", "What is the diagnosis?", [], "tubular adenoma", "nuclear atypia", "lymph node metastasis"),
    sample("number", "How many mitoses are there?", [], "7", "necrosis", "plasma cell"),
    sample("truth", "Is the tissue malignant?", [], "no", "goblet cell"),
    sample("no findings", "Which class is this?", ["necrosis", "mucin"], "A"),
]


def proof_of(name: str, grammar: str, samples: list[Sample]) -> Proof:
    return prove(load_rewards(name, grammar, max_tokens=2048), samples)


@functools.cache
def proof(name: str, grammar: str) -> Proof:
    """Of SAMPLES; looked at by several tests, made once."""
    return proof_of(name, grammar, SAMPLES)


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("name", set_names())
def test_every_set_holds(name: str, grammar: str) -> None:
    found = proof(name, grammar)
    assert found.breaches == []
    # The published entity rule counts "adenoma" inside "tubular adenoma" as found, but not as gold.
    least = found.maximum - (0.3 if name == "pathreasoner-r1" else 0)
    assert found.rows[0].totals and found.maximum >= min(found.rows[0].totals) >= least - 1e-9
    assert set(found.rows[1].totals) == {found.minimum}


@pytest.mark.parametrize("name", [n for n in set_names() if n != "pathreasoner-r1"])
def test_only_the_published_entity_term_has_known_faults(name: str) -> None:
    assert proof(name, "think/answer").known_breaches == []


def test_the_published_entity_term_can_be_farmed_and_that_is_said() -> None:
    label = sample("class", "Which class is this?", ["necrosis", "mucin", "stroma"], "A")
    label = label.model_copy(update={"entities": (Entity(name="necrosis", kind="class"),)})
    found = proof_of("pathreasoner-r1", "think/answer", [label])
    assert found.known_breaches and not found.breaches
    assert {r.name for r in found.rows if r.breaches} <= set(found.known)


def colorectal(folder: Path, num: int) -> list[Sample]:
    with (folder / "colorectal_tiles" / "manifest.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    classes = sorted({r["class_text"] for r in rows})
    made = []
    for row in random.Random(0).sample(rows, num):
        options = classes[:]
        random.Random(row["file"]).shuffle(options)
        name = row["class_text"]
        made.append(
            Sample(
                id=row["file"], messages=user_prompt("Which tissue class does this tile show?", 0),
                choices=make_choices(options),
                answer=chr(65 + options.index(name)), label=name, entities=(Entity(name=name, kind="class"),),
                reasoning=(f"The tile shows {name}.",), origin=Origin(source="colorectal", slide=row["slide"]),
            )
        )  # fmt: skip
    return made


@pytest.mark.parametrize("name", set_names())
def test_every_set_holds_on_colorectal_tiles(name: str, shared_data: Path) -> None:
    samples = colorectal(shared_data, 14)
    for start, grammar in enumerate(GRAMMARS):  # every tile with one of them
        found = proof_of(name, grammar, samples[start :: len(GRAMMARS)])
        assert found.breaches == []
        assert len(found.rows[0].totals) == 7


@pytest.fixture(scope="module")
def phantom_samples() -> list[Sample]:
    from eosin.core.settings.data import PhantomData
    from eosin.sources.phantom import read_phantom

    settings = PhantomData(train_cases=3, valid_cases=0, test_cases=3, tiles_per_case=1, tile_px=64)
    return list(read_phantom(settings, 0).samples.kept)


@pytest.mark.parametrize("name", set_names())
def test_every_set_holds_on_the_phantom(name: str, phantom_samples: list[Sample]) -> None:
    assert len(phantom_samples) >= 5
    for start, grammar in enumerate(GRAMMARS):
        samples = phantom_samples[start :: len(GRAMMARS)]
        found = proof_of(name, grammar, samples)
        assert found.breaches == []
        assert len(found.rows[0].totals) == len(samples)


def lenient(item: ScoreItem, grammar: Grammar) -> float:
    """A reward as it should not be: it searches the whole reply for the right letter."""
    return float((item.answer or "?") in item.reply)


def lengthy(item: ScoreItem, grammar: Grammar) -> float:
    return min(1.0, len(item.reply) / 1000)


@pytest.mark.parametrize("function", ["lenient", "lengthy"])
def test_a_bad_reward_is_caught(function: str) -> None:
    found = proof_of(f"{__name__}:{function}", "think/answer", SAMPLES[:2])
    assert found.breaches
    assert any(r.breaches for r in found.rows[3:])


def test_every_set_holds_with_numbered_steps() -> None:
    grammar = Grammar.of("observe/think/answer", numbered_steps=True)
    for name in set_names():
        assert prove(load_rewards(name, grammar, max_tokens=2048), SAMPLES).breaches == []


def test_the_proof_as_json() -> None:
    facts = json.loads(json.dumps(proof("eosin", "think/answer").as_dict()))
    assert facts["holds"] is True
    assert {"gold", "empty", "honest wrong", "option listing", "lexicon dump"} <= {r["reply"] for r in facts["rows"]}


def test_nothing_to_prove_is_an_error() -> None:
    with pytest.raises(EosinError, match="Nothing could be proved"):
        proof_of("eosin", "think/answer", [])
    unanswered = SAMPLES[0].model_copy(update={"answer": None})
    with pytest.raises(EosinError, match="Nothing could be proved"):
        proof_of("eosin", "think/answer", [unanswered])
    with pytest.raises(EosinError, match="no CLIP"):
        proof_of("clip", "think/answer", SAMPLES)


def test_the_known_cheats_of_the_issue_are_there() -> None:
    names = " | ".join(c.name for c in read_cheats())
    for wanted in (
        "option listing", "letter soup", "lexicon dump", "tag repetition", "empty think", "question copy",
        "answer in think only", "judge instruction", "10,000-token repetition", "hidden unicode",
    ):  # fmt: skip
        assert wanted in names


def test_templates_of_cheats() -> None:
    grammar = Grammar.of("observe/think/answer")
    fill = {"wrong": "B. x", "options": "A. y B. x"}
    cheat = Cheat("c", "", {"findings": "{options}", "think": "{repeat:3:ab }{unknown}", "answer": "{wrong}"})
    assert render_cheat(cheat, grammar, fill) == (
        "<observe>A. y B. x</observe>\n<think>ab ab ab {unknown}</think>\n<answer>B. x</answer>"
    )
    assert render_cheat(cheat, Grammar.of("think/answer"), fill).startswith("<think>A. y B. x ab ab ab")
    assert render_cheat(Cheat("c", "", raw="{wrong}!"), grammar, fill) == "B. x!"


def test_a_file_of_cheats_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "cheats.jsonl"
    file.write_text('{"name": "shout", "think": "YES", "answer": "{wrong}"}\n\n', "utf-8")
    assert [c.name for c in read_cheats(file)] == ["shout"]
    file.write_text('{"think": "no name"}\n', "utf-8")
    with pytest.raises(EosinError, match="cannot be read"):
        read_cheats(file)
