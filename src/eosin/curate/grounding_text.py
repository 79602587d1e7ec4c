"""Templates of grounded reasoning: findings, steps and conclusions in plain English that the linker reads back.

Every sentence says what is there, what is not, and what that speaks for or against. Wordings are drawn with the seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from eosin.core.nouns.sample import Entity

_SEEN = ("{many} are seen.", "{many} are present.", "The slide shows {names}.")
_SEEN_ONE = ("{one} is seen.", "{one} is present.", "The slide shows {names}.")
_MISSING = ("{no} seen.", "{no} found.")
_FOR = ("{subject} {speak} for {answer}.", "{subject} {fit} {answer}.")
_AGAINST = ("{subject} {speak} against {other}.", "{subject} {rule} out {other}.")
_BETTER = ("{subject} {fit} {answer} better than {other}.",)
_ABSENCE_AGAINST = ("{other} is ruled out, because {no} seen.",)
_END = ("This is {answer}.", "Together this is {answer}.", "The picture is that of {answer}.")
_SINGULAR = {"necrosis", "inflammation", "desmoplasia", "stroma", "growth", "tissue", "mucin", "oedema", "fibrosis",
             "atypia", "dysplasia", "invasion", "differentiation", "haemorrhage", "pattern"}  # fmt: skip


_COUNTED = {"abscess", "aggregate", "granuloma", "ulcer", "pattern", "infiltrate", "strip"}


def is_plural(name: str) -> bool:
    """Whether a finding's name takes "are"."""
    last = name.rsplit(" ", 1)[-1]
    if name in _SINGULAR or last in _SINGULAR:
        return False
    return last.endswith(("s", "i", "ae")) and not last.endswith(("ss", "sis", "us"))


def upper(text: str) -> str:
    """With a capital letter in front."""
    return text[:1].upper() + text[1:]


def _named(name: str) -> str:
    """A finding's name with the article that it needs: a crypt abscess."""
    return f"a {name}" if name.rsplit(" ", 1)[-1] in _COUNTED else name


def listed(names: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def none_of(names: Sequence[str]) -> str:
    """no a and no b are: every name with its own word of absence."""
    verb = "are" if len(names) > 1 or is_plural(names[0]) else "is"
    return f"{listed([f'no {n}' for n in names])} {verb}"


def findings_text(entities: Sequence[Entity]) -> str:
    """The findings block: what is there, then what is not."""
    there = [_named(e.name) for e in entities if e.polarity == "present"]
    missing = [e.name for e in entities if e.polarity == "absent"]
    parts = [f"{upper(listed(there))}."] if there else []
    if missing:
        parts.append(f"{upper(listed([f'no {n}' for n in missing]))}.")
    return " ".join(parts)


def seen(entities: Sequence[Entity], rng: random.Random) -> str:
    """A step that says what is there and what is not."""
    there = [_named(e.name) for e in entities if e.polarity == "present"]
    missing = [e.name for e in entities if e.polarity == "absent"]
    parts = []
    if there:
        plural = len(there) > 1 or is_plural(there[0].removeprefix("a "))
        names = listed(there)
        wording = rng.choice(_SEEN if plural else _SEEN_ONE)
        parts.append(wording.format(many=upper(names), one=upper(names), names=names))
    if missing:
        parts.append(rng.choice(_MISSING).format(no=upper(none_of(missing))))
    return " ".join(parts)


def speaks_for(entities: Sequence[Entity], answer: str, rng: random.Random) -> str:
    """A step that says why the findings speak for the answer."""
    return rng.choice(_FOR).format(answer=answer, **_subject(entities))


def speaks_against(entities: Sequence[Entity], other: str, rng: random.Random) -> str:
    """A step that rules another diagnosis out by findings, all of them present or all absent."""
    if entities[0].polarity == "absent":
        return rng.choice(_ABSENCE_AGAINST).format(other=upper(other), no=none_of([e.name for e in entities]))
    return rng.choice(_AGAINST).format(other=other, **_subject(entities))


def fits_better(entities: Sequence[Entity], answer: str, other: str, rng: random.Random) -> str:
    """A step that prefers the answer to another diagnosis, which nothing speaks against."""
    return rng.choice(_BETTER).format(answer=answer, other=other, **_subject(entities))


def _subject(entities: Sequence[Entity]) -> dict[str, str]:
    names = [_named(e.name) if e.polarity == "present" else f"the absence of {e.name}" for e in entities]
    plural = len(names) > 1 or (entities[0].polarity == "present" and is_plural(names[0]))
    verbs = {"speak": "speak", "fit": "fit", "rule": "rule"} if plural else {
        "speak": "speaks", "fit": "fits", "rule": "rules"}  # fmt: skip
    return {"subject": upper(listed(names)), **verbs}


def conclusion(answer: str, rng: random.Random) -> str:
    """The last step."""
    return rng.choice(_END).format(answer=answer)
