"""Named reward sets, each faithful to its paper, and how a recipe's `rewards` becomes a RewardSet.

Where a paper is ambiguous there is an option; its default and source stand in the set's docstring and in
docs/scoring.md. A changed option shows in the label.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import eosin.scoring.terms.accuracy
import eosin.scoring.terms.entities
import eosin.scoring.terms.format
import eosin.scoring.terms.process
import eosin.scoring.terms.rubric
import eosin.scoring.terms.shape  # noqa: F401  (importing a module registers its terms)
from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.scoring.sets.compose import Gate, MissingGold, RewardSet, Weighted
from eosin.scoring.terms import semantic
from eosin.scoring.terms.base import Resources, build_term, term_names

Spec = str | Mapping[str, Any] | Sequence[Mapping[str, Any] | str]


def _part(name: str, weight: float, **options: Any) -> Weighted:
    return Weighted(name, build_term(name, options), weight)


def _patho_r1_grpo(resources: Resources, *, gate: Literal["none", "both"] = "none") -> dict[str, Any]:
    """Patho-R1 (arXiv 2505.11404), GRPO: 0.1 format + 0.9 accuracy.

    gate: a note of the paper says non-zero only if both hold. "none" is the formula as printed; "both" the note.
    """
    return {"parts": (_part("format", 0.1), _part("accuracy", 0.9, block="one")), "gate": gate}


def _patho_r1_dapo(
    resources: Resources,
    *,
    gate: Literal["both_or_minus_one", "accuracy_and_length", "none"] = "both_or_minus_one",
    cache_tokens: int | None = None,
) -> dict[str, Any]:
    """Patho-R1, DAPO: 0.5 accuracy + 0.5 length, else -1. Format is logged with weight 0.

    gate: "else -1" and the note "non-zero only if both hold" have two readings. "both_or_minus_one": format and
    accuracy hold and the sum counts, or the reward is -1. "accuracy_and_length": the answer is right and the reply
    stays clear of the length slope, which is 1, or the reward is -1. "none" leaves the plain sum.
    cache_tokens: width of the length slope. Neither it nor the length function is in the paper; DAPO's soft
    overlong punishment (arXiv 2503.14476) is used, rescaled to 0..1, with a slope of a fifth of the limit.
    """
    length = _part("length", 0.5, cache_tokens=cache_tokens)
    parts = (_part("accuracy", 0.5, block="one"), length, _part("format", 0.0))
    if gate == "accuracy_and_length":
        return {"parts": parts, "gate": "both_or_minus_one", "gate_terms": ("accuracy", "length")}
    return {"parts": parts, "gate": gate}


def _pathvlm_r1(
    resources: Resources,
    *,
    fallback: Literal["unscored", "paper"] = "unscored",
    judge_sees: Literal["gold", "no gold"] = "gold",
    names: Literal["letter and text", "letter or text"] = "letter and text",
) -> dict[str, Any]:
    """PathVLM-R1 (arXiv 2504.09258): format + accuracy + process, unweighted, each 0..1.

    fallback: "paper" gives 0.5 for a right and 0 for a wrong answer where the judge fails; default is unscored.
    judge_sees: the paper's judge is shown the standard answer.
    names: the paper asks for a clear letter and its content.
    Without a judge the same six events are found by rules, and the label says so. Broken form costs the
    format term alone: the judge sees the whole reply in any case, and where there is no think block the rules read it.
    """
    process = _part("checklist", 1.0, fallback=fallback, sees_gold=judge_sees == "gold")
    parts = (
        _part("format", 1.0),
        _part("accuracy", 1.0, block="one", names=names),
        Weighted("process", process.term, 1.0),
    )
    return {
        "parts": parts,
        "read": "first or whole",
        "changed": {} if resources.judge is not None else {"process": "rules"},
    }


def _pathreasoner_r1(
    resources: Resources,
    *,
    alpha: float = 1.0,
    beta: float = 0.5,
    dice: Literal["soft", "hard"] = "soft",
    both_empty: Literal["zero", "one", "unscored"] = "zero",
    linking: Literal["substring", "words"] = "substring",
    on_error: Literal["zero", "unscored"] = "unscored",
    blocks: Literal["first", "first or whole"] = "first",
    form: Literal["whole", "anywhere"] = "whole",
) -> dict[str, Any]:
    """PathReasoner-R1 (arXiv 2601.21617): format + semantic + alpha x entity.

    alpha: 1.0 in the paper, 0.5 in the released code. beta 0.5 in both.
    both_empty: the released code gives 0.
    linking: names are looked up as substrings, as in the released code: no boundaries, synonyms or negation.
    Gold is the data's entities as they are named, and nothing more.
    on_error: the paper counts a failed judge call as 0; here it is unscored unless asked for.
    blocks: where the form is broken the first closed block of each tag is read, as in the released code. That code also
    takes the whole reply for a block that it does not find: "first or whole".
    form: the released code is satisfied with the blocks somewhere in the reply: "anywhere".
    Without a judge the semantic term is by encoder or token F1, and without an encoder the similarity of two names is
    that of their letters (trigrams); the label says both.
    """
    options = {"rule": dice, "beta": beta, "linking": linking, "both_empty": both_empty}
    entity = _part(**{**PUBLISHED_ENTITIES, **options}, weight=alpha)
    meaning = semantic.SemanticTerm(on_error=on_error)
    changed = {} if resources.judge is not None else {"semantic": meaning.means(resources)}
    if resources.encode is None and dice == "soft" and beta:
        changed["similarity"] = "trigrams"
    parts = (
        _part("format", 1.0, where=form), Weighted("semantic", meaning, 1.0), Weighted("entity", entity.term, alpha),
    )  # fmt: skip
    return {"parts": parts, "changed": changed, "read": blocks, "known_faults": _KNOWN_FAULTS}


PUBLISHED_ENTITIES: dict[str, Any] = {
    "name": "entities", "rule": "soft", "beta": 0.5, "linking": "substring", "both_empty": "zero", "gold": "any",
    "findings_only": False,
}  # fmt: skip
"""The entity term of PathReasoner-R1 as a term by itself."""

_LISTS = (
    "option listing", "option listing, one answered", "right and wrong together", "question copy",
    "blanket elimination", "lexicon dump", "lexicon denied", "lexicon possible",
)  # fmt: skip
_LIST_FAULT = "the published entity term pays for every name in findings and think, wherever it comes from"
_NESTS = ("answer block inside think", "tag repetition, right one first")
_NEST_FAULT = "the released code takes the first block of each tag, wherever it stands"
_GOLD_FAULT = "the published rule counts every name inside a longer gold name as found, so gold may miss the maximum"
_KNOWN_FAULTS = (
    dict.fromkeys(_LISTS, _LIST_FAULT) | dict.fromkeys(_NESTS, _NEST_FAULT) | {"gold": _GOLD_FAULT}
)  # fmt: skip


def _eosin(resources: Resources, *, missing_gold: MissingGold = "drop") -> dict[str, Any]:
    """Eosin's hardened set (docs/scoring.md): weights add up to 1.

    missing_gold: a term for which the data has no gold is left out for every reply to that question, and its
    weight goes to the others. "unscored" masks such items instead.
    """
    parts = [
        _part("accuracy", 0.5), _part("process", 0.15), _part("entities", 0.15), _part("format", 0.1),
        _part("repetition", 0.05), _part("language", 0.05),
    ]  # fmt: skip
    if resources.max_tokens is not None:
        parts[-2:] = [_part("repetition", 0.03), _part("language", 0.03), _part("length", 0.04)]
    return {"parts": tuple(parts), "missing_gold": missing_gold}


_SETS: dict[str, Callable[..., dict[str, Any]]] = {
    "eosin": _eosin,
    "pathvlm-r1": _pathvlm_r1,
    "patho-r1-grpo": _patho_r1_grpo,
    "patho-r1-dapo": _patho_r1_dapo,
    "pathreasoner-r1": _pathreasoner_r1,
}


def set_names() -> list[str]:
    """Names of the built-in sets."""
    return list(_SETS)


def load_rewards(
    spec: Spec,
    grammar: Grammar | str = "think/answer",
    *,
    gate: Gate = "none",
    gate_terms: Sequence[str] = ("format", "accuracy"),
    missing_gold: MissingGold = "unscored",
    knowledge: str | Path | None = None,
    **injected: Any,
) -> RewardSet:
    """A RewardSet from a recipe's `rewards`.

    Args:
        spec: a set's or a term's name; {"name": set, **options}; or a list of {"name", "weight", **options}.
            `knowledge: DIR` in an entry takes names and evidence from a graph (`eosin knowledge build`).
        grammar: the reply grammar, or its name.
        gate, gate_terms, missing_gold: see RewardSet; for a list of terms only (a named set has its own options).
        knowledge: a graph folder for names and evidence, as `knowledge` in an entry.
        injected: fields of Resources: linker, judge, encode, clip, max_tokens, ...

    Raises:
        EosinError: unknown names or options, a weight that is no number, a term twice, an empty list.
    """
    shape = Grammar.of(grammar) if isinstance(grammar, str) else grammar
    entries = _entries(spec)
    resources = _with_knowledge(_resources(injected), entries, knowledge)
    if len(entries) == 1 and entries[0].get("name") in _SETS:
        return _named(entries[0], shape, resources)
    parts = tuple(_weighted(e) for e in entries)
    _check(parts, gate, gate_terms)
    label = "+".join(f"{p.weight:g} {p.name}" for p in parts)
    label += f"+{{knowledge={resources.knowledge_name}}}" if resources.knowledge_name else ""
    return RewardSet(label, parts, shape, resources, gate, tuple(gate_terms), missing_gold)


def _resources(injected: Mapping[str, Any]) -> Resources:
    known = list(Resources.__dataclass_fields__)
    for key in injected:
        if key not in known:
            raise EosinError("This cannot be injected into scoring.", expected=", ".join(known), found=key)
    return Resources(**injected)


def _with_knowledge(resources: Resources, entries: list[dict[str, Any]], folder: str | Path | None) -> Resources:
    """Resources with the graph of `folder`, or that an entry's `knowledge: DIR` names; taken out of the entries."""
    folders = {str(e.pop("knowledge")) for e in entries if e.get("knowledge") is not None}
    folders |= {str(folder)} if folder is not None else set()
    if not folders:
        return resources
    if len(folders) > 1 or resources.linker is not None:
        raise EosinError(
            "A reward takes its names from one place.", expected="one knowledge folder, and no lexicon beside it",
            found=", ".join(sorted(folders))
            + (f" and {resources.knowledge_name or 'a lexicon'}" if resources.linker is not None else ""),
        )  # fmt: skip
    from eosin.scoring.reading.linking import open_knowledge

    place = folders.pop()
    linker, facts = open_knowledge(place)
    return replace(resources, linker=linker, facts=facts, knowledge_name=Path(place).name)


def _entries(spec: Spec) -> list[dict[str, Any]]:
    if isinstance(spec, str | Mapping):
        spec = [spec]
    entries = [{"name": e} if isinstance(e, str) else dict(e) for e in spec]
    if not entries:
        raise EosinError("A reward needs at least one term.", expected=", ".join([*_SETS, *term_names()]))
    for entry in entries:
        if not isinstance(entry.get("name"), str):
            raise EosinError("A reward needs a name.", expected="{name: accuracy, weight: 0.9}", found=str(entry))
        if entry["name"] in _SETS and len(entries) > 1:
            raise EosinError(
                f"The set {entry['name']!r} cannot be mixed with other terms.",
                next_step="write its terms out, with their weights (docs/scoring.md lists them)",
            )
    return entries


def _weighted(entry: dict[str, Any]) -> Weighted:
    options = dict(entry)
    name, weight = options.pop("name"), options.pop("weight", 1.0)
    label = options.pop("label", name)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise EosinError(f"The weight of {name!r} must be a number.", found=repr(weight))
    near = difflib.get_close_matches(name, list(_SETS), n=1, cutoff=0.8)
    try:
        return Weighted(str(label), build_term(name, options), float(weight))
    except EosinError as exc:
        if near and exc.found == name:
            exc.next_step = f"did you mean the set {near[0]!r}?"
        raise


def _check(parts: tuple[Weighted, ...], gate: Gate, gate_terms: Sequence[str]) -> None:
    names = [p.name for p in parts]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise EosinError(
            "A term stands twice in the rewards.",
            found=", ".join(twice),
            next_step="give one of them another name in the logs: {name: entities, label: entities_soft}",
        )
    missing = [t for t in gate_terms if t not in names]
    if gate != "none" and missing:
        raise EosinError(
            "The gate needs terms that are not there.", expected=", ".join(missing), found=", ".join(names)
        )


def _named(entry: dict[str, Any], grammar: Grammar, resources: Resources) -> RewardSet:
    options = {k: v for k, v in entry.items() if k not in ("name", "weight")}
    if entry.get("weight", 1.0) != 1.0:
        raise EosinError(f"The set {entry['name']!r} takes no weight.", found=repr(entry["weight"]))
    make = _SETS[entry["name"]]
    known = {n: p for n, p in inspect.signature(make).parameters.items() if n != "resources"}
    hints = get_type_hints(make)
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1)
            raise EosinError(
                f"The set {entry['name']!r} has no option {key!r}.",
                expected=", ".join(known) or "no options",
                next_step=f"did you mean {near[0]!r}?" if near else None,
            )
        allowed = get_args(hints[key])
        if allowed and all(isinstance(a, str | int | float) for a in allowed) and value not in allowed:
            raise EosinError(
                f"The option {key} of {entry['name']!r} cannot be this.",
                expected=" or ".join(map(str, allowed)),
                found=repr(value),
            )
    made = make(resources, **options)
    changed = {k: v for k, v in options.items() if v != known[k].default} | made.pop("changed", {})
    if resources.knowledge_name is not None:
        changed["knowledge"] = resources.knowledge_name
    suffix = "+{" + ", ".join(f"{k}={v}" for k, v in changed.items()) + "}" if changed else ""
    return RewardSet(entry["name"] + suffix, grammar=grammar, resources=resources, **made)
