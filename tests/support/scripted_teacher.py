"""A teacher that answers by a script: chains of phantom facts, checks, readings of reports; and faults on demand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from eosin.engines.base import Request

Facts = dict[str, Any]
STEPS = {
    "short": ["{look}", "This speaks for {name}.", "Together this is {name}."],
    "medium": [
        "{look}", "Their nuclei lie in rows and the stroma between them is quiet.",
        "This speaks for {name}, as the whole field shows the same change without an exception.",
        "A reactive change fits less, because the border of the change is sharp.", "Together this is {name}.",
    ],
    "long": [
        "{look}", "At low power the change is found all over the field and keeps to one level of the mucosa.",
        "At high power the nuclei of this field are alike, and the chromatin is spread evenly in most of them.",
        "The stroma between the glands is quiet, and its vessels are of the usual calibre for this place.",
        "What was looked for and not found is a second change of another kind beside the first one.",
        "All this speaks for {name}, as the whole field shows the same change without an exception.",
        "A reactive change fits less, because the border of the change is sharp and the surface is whole.",
        "Together this is {name}.",
    ],
}  # fmt: skip


def asked(request: Request) -> tuple[str, str, Facts]:
    """System text, user text, and the JSON facts of a request."""
    system = next((m.text for m in request.messages if m.role == "system"), "")
    user = request.messages[-1].text
    return system, user, json.loads(user[user.index("{") :] if user.startswith("{") else user[user.rindex("\n{") :])


def chain(request: Request) -> dict[str, Any]:
    """The right answer to a request of the step `reason`."""
    system, user, facts = asked(request)
    if "observations" in facts:
        return _solved(facts)
    low, high = map(int, re.findall(r"(\d+) to (\d+) steps", user)[0])
    difficulty = "short" if high == 4 else "medium" if high == 7 else "long"
    name, look = name_of(facts), look_of(facts["facts"])
    steps = [s.format(look=look, name=name) for s in STEPS[difficulty]]
    made: dict[str, Any] = {"ref": facts["ref"], "steps": steps}
    if '"turns"' in user:
        turns = [{"question": "What is seen here?", "answer": look}, {"question": "What does it mean?", "answer": name}]
        return made | {"turns": turns}
    if '"options"' in user:
        given = "options" in facts
        options = list(facts["options"].values()) if given else [name, "lipoma", "haemangioma", "schwannoma"]
        return made | {"question": facts.get("question", "Which diagnosis fits?"), "options": options,
                       "answer": facts["right"] if given else "A"}  # fmt: skip
    if '"question"' in user:
        return made | {"question": "Which diagnosis fits this picture?", "answer": name}
    return made | {"answer": f"{look} Together this is {name}."}


def _solved(facts: Facts) -> dict[str, Any]:
    """Solves from the observations alone: the option that they name or, with its name hidden, the one not excluded."""
    if "options" not in facts:
        return {"ref": facts["ref"], "follows": True}
    text = " ".join(facts["observations"]).casefold()
    named = [k for k, v in facts["options"].items() if v.casefold() in text]
    hidden = "[...]" in text
    return {"ref": facts["ref"], "answer": named[0] if named else right_by_sign(facts, text) if hidden else "none"}


SIGNS = {"crowded": "tubular adenoma", "irregular": "adenocarcinoma", "straight": "normal mucosa",
         "serrated": "hyperplastic polyp", "crypt abscess": "ulcerative colitis"}  # fmt: skip


def right_by_sign(facts: Facts, text: str) -> str:
    name = next((n for sign, n in SIGNS.items() if sign in text), None)
    return next((k for k, v in facts["options"].items() if v == name), "A" if name else "none")


def name_of(facts: Facts) -> str:
    """The diagnosis that the facts hold."""
    if "options" in facts:
        return str(facts["options"][facts["right"]])
    text = facts["facts"].casefold()
    return next((n for sign, n in SIGNS.items() if sign in text or n in text), "normal mucosa")


def look_of(text: str) -> str:
    """The first whole sentence of the facts."""
    sentences = [s.strip().rstrip(".") for s in text.split(". ")]
    return next((s for s in sentences if len(s.split()) > 3), sentences[0]) + "."


def reply(make: Callable[[Request], Any] = chain) -> Callable[[Request], str]:
    """A text from a function that makes JSON values."""
    return lambda request: json.dumps(made) if not isinstance(made := make(request), str) else made
