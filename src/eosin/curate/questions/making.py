"""Questions of a sample: which diagnosis, which finding is there, is this there (yes or no)."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Entity, Sample, make_choices, user_prompt
from eosin.curate.link import entities_of
from eosin.curate.questions.distractors import Distractors
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.reasoning.check import FINDINGS

WORDINGS = {
    "diagnosis": ("Which diagnosis fits this picture best?", "What is the most likely diagnosis?",
                  "Which of these does the picture show?"),
    "finding": ("Which of these findings is seen in this picture?", "What can be seen here?",
                "Which of these is present in the picture?"),
    "label": ("Which of these classes fits the picture best?", "What does the picture show?"),
}  # fmt: skip
YES_NO = {
    "finding": ("Does this picture show {name}?", "Is {name} seen here?"),
    "diagnosis": ("Is {name} the diagnosis that fits this picture?", "Does this picture show {name}?"),
}


@dataclass(frozen=True)
class Known:
    """What is known of a picture: linked entities with polarity, and the text that they were read from."""

    entities: tuple[Entity, ...]
    text: str

    def of(self, kinds: frozenset[str], polarity: str = "present") -> list[Entity]:
        return [e for e in self.entities if e.kind in kinds and e.polarity == polarity and e.certainty == "certain"]


DIAGNOSIS = frozenset({"diagnosis"})


def known_of(sample: Sample, linker: Linker) -> Known:
    """Entities of a sample; where it has none, those of its findings, caption and report."""
    report = sample.extra.get("report")
    text = " ".join(t for t in (sample.findings, sample.caption, report if isinstance(report, str) else None) if t)
    entities = sample.entities
    if not [e for e in entities if e.kind != "class"]:
        entities = tuple(entities_of(text, linker))
    linked = [e if e.concept else e.model_copy(update={"concept": linker.concept_of(e.name)}) for e in entities]
    return Known(tuple(linked), text)


def draw_of(seed: int, *parts: object) -> float:
    """A number in [0, 1) that depends on the seed and these parts alone."""
    digest = hashlib.sha256(":".join(map(str, (seed, *parts))).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def closed_question(
    sample: Sample,
    kind: str,
    answer: str,
    known: Known,
    distractors: Distractors,
    *,
    num: int,
    place: int,
    seed: int,
    only_pool: bool = False,
) -> Sample | Dropped:
    """A question with `num` options whose right one stands at `place`; a Dropped says why there is none.

    Args:
        kind: diagnosis, finding or label. place: 0 for A.
    """
    rng = random.Random(f"questions:{seed}:{sample.id}:{kind}:{answer}")
    wrong = distractors.of(answer, num - 1, rng, known=known.entities, text=known.text, only_pool=only_pool)
    if wrong is None:
        return Dropped(f"{sample.id}/{kind}", "too few distractors that are wrong", answer)
    rng.shuffle(wrong)
    texts = [*wrong[: place % num], answer, *wrong[place % num :]]
    letter = chr(ord("A") + place % num)
    return _made(sample, kind, rng.choice(WORDINGS[kind]), make_choices(texts), letter, known, answer)


def yes_no_question(sample: Sample, kind: str, name: str, is_there: bool, known: Known, *, seed: int) -> Sample:
    """Is this there? Yes and no change places with the seed."""
    rng = random.Random(f"yes/no:{seed}:{sample.id}:{name}")
    options = ["yes", "no"] if rng.random() < 0.5 else ["no", "yes"]
    letter = "AB"[options.index("yes" if is_there else "no")]
    asked = rng.choice(YES_NO[kind]).format(name=name)
    return _made(sample, f"yes-no-{kind}", asked, make_choices(options), letter, known, name)


def _made(
    sample: Sample, kind: str, asked: str, choices: Sequence[object], letter: str, known: Known, about: str
) -> Sample:
    digest = hashlib.sha256(about.encode()).hexdigest()[:8]
    return Sample.model_validate({
        **{n: getattr(sample, n) for n in Sample.model_fields},
        "id": f"{sample.id}/{kind}-{digest}", "messages": user_prompt(asked, len(sample.images)), "choices": choices,
        "answer": letter, "reasoning": (), "entities": known.entities,
        "origin": sample.origin.model_copy(update={"parents": (*sample.origin.parents, sample.id)}),
        "extra": {**sample.extra, "question": {"kind": kind, "about": about}},
    })  # fmt: skip


def askable(sample: Sample, known: Known, kinds: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Kind and answer of each closed question that a sample allows: at most one of each kind."""
    found: list[tuple[str, str]] = []
    diagnoses = known.of(DIAGNOSIS)
    if "diagnosis" in kinds and len({e.concept or e.name for e in diagnoses}) == 1:
        found.append(("diagnosis", diagnoses[0].name))
    findings = known.of(FINDINGS)
    if "finding" in kinds and findings:
        found.append(("finding", min(findings, key=lambda e: draw_of(seed, sample.id, e.name)).name))
    if "label" in kinds and sample.label:
        found.append(("label", sample.label))
    return found


def signed_concepts(sample: Sample, known: Known) -> list[tuple[str, str, bool]]:
    """Kind, name and presence of everything that can be asked with yes or no about a sample."""
    rows = [("finding", e.name, e.polarity == "present") for e in known.entities
            if e.kind in FINDINGS and e.certainty == "certain"]  # fmt: skip
    diagnoses = known.of(DIAGNOSIS)
    if len({e.concept or e.name for e in diagnoses}) == 1:
        rows.append(("diagnosis", diagnoses[0].name, True))
    return list(dict.fromkeys(rows))
