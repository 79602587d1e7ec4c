"""What a reward term is, what it may look at, and how terms are found by name."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Parsed, Scored, Unparsed, Unscored
from eosin.core.nouns.reply import Grammar, Reply
from eosin.core.plugins import Group, plugin, plugin_names
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.reading.strict import Reading, read_strict
from eosin.scoring.reading.text import MAX_BLOCK_CHARS, MAX_REPLY_CHARS

if TYPE_CHECKING:
    from eosin.knowledge.linking.linker import Linker, Mention
    from eosin.knowledge.reasoning.check import Facts
    from eosin.scoring.judge.model import Judge

ENTRY_POINT_GROUP: Group = "eosin.rewards"
R = TypeVar("R")
BlocksRead = Literal["readable", "first", "first or whole"]


@dataclass(frozen=True)
class NoGold(Unscored):
    """The data has no gold for this term. It depends on the item alone, never on the reply."""


class Encode(Protocol):
    """A sentence encoder: texts -> array (len(texts), D)."""

    def __call__(self, texts: Sequence[str]) -> Any: ...


class ImageCosine(Protocol):
    """CLIP as a function: (image, sentences) -> one cosine a sentence."""

    def __call__(self, image: Any, texts: Sequence[str]) -> Sequence[float]: ...


@dataclass(frozen=True)
class Resources:
    """What is injected. Scoring opens nothing by itself.

    Attributes:
        linker: names for entities, synonyms and diagnoses; None means Eosin's own tables.
        facts: what findings say of diagnoses; None means Eosin's own tables.
        knowledge_name: name of the knowledge graph that both come from, for the record.
        judge: a client of a judge model.
        encode: a sentence encoder, and its name for the record.
        clip: CLIP cosines, and its name for the record.
        max_tokens: token limit of a completion, for the length term.
    """

    linker: Linker | None = None
    facts: Facts | None = None
    knowledge_name: str | None = None
    judge: Judge | None = None
    encode: Encode | None = None
    encode_name: str = "injected"
    clip: ImageCosine | None = None
    clip_name: str = "injected"
    max_tokens: int | None = None

    def as_injected(self) -> dict[str, Any]:
        """The fields that were given, as `load_rewards` takes them."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) != f.default}

    @cached_property
    def links(self) -> Linker:
        if self.linker is not None:
            return self.linker
        from eosin.knowledge.linking.linker import Linker

        return Linker.builtin()

    @cached_property
    def known(self) -> Facts:
        if self.facts is not None:
            return self.facts
        from eosin.knowledge.reasoning.check import Facts

        return Facts.builtin()


class ScoreContext:
    """One item as the terms see it. What several terms need is worked out once.

    Args:
        read: which blocks of a reply with broken form are read: "readable" those that can be told apart, "first" the
            first closed block of each tag, "first or whole" the whole reply too where there is none.
    """

    def __init__(self, item: ScoreItem, grammar: Grammar, resources: Resources, read: BlocksRead = "readable") -> None:
        self.read = read
        self.item = item
        self.grammar = grammar
        self.resources = resources
        self.scores: dict[str, float] = {}
        self._mentions: dict[str, tuple[Mention, ...]] = {}
        self._readings: dict[str, Parsed[Reading] | Unparsed] = {}
        self.known: dict[object, Any] = {}

    @cached_property
    def parsed(self) -> Parsed[Reply] | Unparsed:
        """The reply, strictly parsed."""
        return self.grammar.parse(self.item.reply)

    @cached_property
    def blocks(self) -> Mapping[str, str]:
        """The blocks that can be read, also where the form is broken: form costs its own term, and no other."""
        if isinstance(self.parsed, Parsed):
            return self.parsed.value.blocks
        if self.read == "readable":
            return self.grammar.readable_blocks(self.item.reply)
        return self.grammar.first_blocks(self.item.reply, or_whole=self.read == "first or whole")

    def block(self, tag: str) -> str:
        """The text of one block; empty where there is none that can be read."""
        return self.blocks.get(tag, "")

    def unreadable(self, *tags: str | None) -> str | None:
        """Why none of these blocks can be read: the fault of form; None where one can."""
        if isinstance(self.parsed, Parsed) or any(t in self.blocks for t in tags if t):
            return None
        return self.parsed.reason

    def reading(self, text: str) -> Parsed[Reading] | Unparsed:
        """The option that an answer names, strictly read; remembered per text."""
        if text not in self._readings:
            self._readings[text] = read_strict(text, self.item.choices)
        return self._readings[text]

    @property
    def findings(self) -> str:
        tag = self.grammar.findings_tag
        return self.block(tag) if tag else ""

    @cached_property
    def _gold_names(self) -> Linker | None:
        """Gold entities that the lexicon does not know, so that a reply can name them all the same."""
        from eosin.scoring.reading.linking import linker_of_names

        links = self.resources.links
        unknown = tuple(
            (e.concept or e.name.casefold(), e.name, e.kind)
            for e in self.item.entities or ()
            if links.concept_of(e.name) is None
        )
        return linker_of_names(unknown) if unknown else None

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Entities named in a text, with polarity; remembered per text. What is ambiguous counts as not named."""
        if text not in self._mentions:
            found = tuple(m for m in self.resources.links.link(text) if not m.alternatives)
            if self._gold_names is not None:
                found = self._with_gold(found, self._gold_names.link(text))
            self._mentions[text] = found
        return self._mentions[text]

    @staticmethod
    def _with_gold(found: tuple[Mention, ...], gold: tuple[Mention, ...]) -> tuple[Mention, ...]:
        """Both, without what lies inside a longer gold name."""
        outside = [m for m in found if not any(g.start <= m.start and m.end <= g.end for g in gold)]
        return tuple(sorted([*outside, *gold], key=lambda m: m.start))

    def kind_of(self, concept: str) -> str:
        """The kind of a concept, in the lexicon or among the gold entities."""
        if concept not in self.resources.links and self._gold_names is not None:
            return self._gold_names.type_of(concept)
        return self.resources.links.type_of(concept)

    def _concepts(self, *texts: str) -> frozenset[str]:
        return frozenset(m.concept for text in texts for m in self.mentions(text[:MAX_BLOCK_CHARS]))

    @cached_property
    def asked(self) -> frozenset[str]:
        """Concepts that the question and its options name: to repeat them is no finding."""
        return self._concepts(self.item.question, *self.item.choices.values())

    @cached_property
    def asked_or_gold(self) -> frozenset[str]:
        """The same with the gold answer, for terms that compare with gold."""
        return self.asked | self._concepts(self.item.answer_text or "")

    @cached_property
    def asked_or_answered(self) -> frozenset[str]:
        """The same with the reply's own answer, for terms that are blind to gold."""
        return self.asked | self._concepts(self.block("answer"))


def once(function: Callable[[ScoreContext], R]) -> Callable[[ScoreContext], R]:
    """A function of a context remembers its result there, as several terms ask for it. The result is not changed."""

    @functools.wraps(function)
    def remembered(context: ScoreContext) -> R:
        if function not in context.known:
            context.known[function] = function(context)
        found: R = context.known[function]
        return found

    return remembered


class Term(BaseModel):
    """One reward term. Its fields are its options, so a recipe with an unknown option is refused.

    `score` returns Scored in `low`..`high`, or Unscored with a reason. A fault of the reply gives the lowest
    score; a fault of the data or of a server gives Unscored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = ""
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0

    @abstractmethod
    def score(self, context: ScoreContext) -> Scored | Unscored:
        """What the reply of this context is worth."""

    async def ascore(self, context: ScoreContext) -> Scored | Unscored:
        """The same, for terms that wait for a server."""
        return self.score(context)

    def uses_server(self, resources: Resources) -> bool:
        """Whether this term will ask a judge, so that it is run through `ascore`."""
        return False

    def uses_encoder(self, resources: Resources) -> bool:
        """Whether this term will use the sentence encoder, so that it is tried before the first step."""
        return False

    def described(self, resources: Resources) -> dict[str, Any]:
        """What the record says of this term: options and means."""
        return self.model_dump(exclude_defaults=True)


class FunctionTerm(Term):
    """A user's reward: `def reward(item, grammar, **options) -> float | None | Scored | Unscored`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    function: Callable[..., Any]
    label: str
    options: dict[str, Any] = {}

    def described(self, resources: Resources) -> dict[str, Any]:
        """The name under which the code was asked for, and its options."""
        return {"code": self.label, **({"options": self.options} if self.options else {})}

    def score(self, context: ScoreContext) -> Scored | Unscored:
        value = self.function(context.item, context.grammar, **self.options)
        if isinstance(value, Scored | Unscored):
            return value
        if value is None:
            return Unscored("the reward returned None")
        if isinstance(value, bool | int | float):
            return Scored(float(value))
        return Unscored(f"the reward returned {type(value).__name__}")


_TERMS: dict[str, type[Term]] = {}


def register(cls: type[Term]) -> type[Term]:
    """Make a built-in term known by its name."""
    _TERMS[cls.name] = cls
    return cls


def term_names() -> list[str]:
    """Names of all terms: built in, and those of installed packages."""
    return sorted({*_TERMS, *plugin_names(ENTRY_POINT_GROUP)})


def build_term(name: str, options: Mapping[str, Any]) -> Term:
    """A term by name, by "package.module:function", or by "file.py:function".

    Raises:
        EosinError: unknown name or option, with the nearest known ones.
    """
    if name in _TERMS:
        return _validated(_TERMS[name], name, options)
    if (added := plugin(ENTRY_POINT_GROUP, name)) is not None:
        return _from_object(added, name, options)
    if ":" in name:
        return _from_object(_load_object(name), name, options)
    near = difflib.get_close_matches(name, term_names(), n=1)
    raise EosinError(
        f"There is no reward named {name!r}.",
        expected=", ".join(term_names()),
        found=name,
        next_step=f"did you mean {near[0]!r}?" if near else "see docs/add-a-reward.md for a reward of your own",
    )


def _validated(cls: type[Term], name: str, options: Mapping[str, Any]) -> Term:
    try:
        return cls.model_validate(dict(options))
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(p) for p in first["loc"])
        known = sorted(cls.model_fields)
        near = difflib.get_close_matches(key, known, n=1) if first["type"] == "extra_forbidden" else []
        message = "unknown option" if first["type"] == "extra_forbidden" else str(first["msg"])
        raise EosinError(
            f"The reward {name!r} does not take this: {message}.",
            expected=", ".join(known) or "no options",
            found=f"{key}={first.get('input')!r}"[:200],
            next_step=f"did you mean {near[0]!r}?" if near else None,
        ) from None


def _from_object(thing: Any, name: str, options: Mapping[str, Any]) -> Term:
    if inspect.isclass(thing) and issubclass(thing, Term):
        return _validated(thing, name, options)
    if not callable(thing):
        raise EosinError(f"The reward {name!r} is not a function.", found=type(thing).__name__)
    try:
        inspect.signature(thing).bind(None, None, **options)
    except TypeError as exc:
        raise EosinError(
            f"The reward {name!r} does not take these options.",
            expected="a function (item, grammar, **options)",
            found=str(exc),
            next_step="see docs/add-a-reward.md",
        ) from None
    return FunctionTerm(function=thing, label=name, options=dict(options))


def _load_object(name: str) -> Any:
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            module = _module_of(Path(place))
        else:
            module = importlib.import_module(place)
        return getattr(module, attribute)
    except Exception as exc:  # whatever the user's code raises while it is imported
        raise EosinError(
            f"The reward {name!r} cannot be loaded.",
            expected="module:function or file.py:function",
            found=f"{type(exc).__name__}: {exc}"[:300],
            next_step=f"mend the file: python {place} must run without an error" if place.endswith(".py") else None,
        ) from None


def _module_of(file: Path) -> ModuleType:
    """A user's file as a module. It has a name of its own in `sys.modules`, where dataclasses and pydantic look for
    what its annotations mean."""
    digest = hashlib.sha256(str(file.resolve()).encode("utf-8", "replace")).hexdigest()[:8]
    name = f"eosin_reward_{file.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(str(file))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def too_long(item: ScoreItem) -> bool:
    """Whether the reply is longer than any completion can be; it is then not read."""
    return len(item.reply) > MAX_REPLY_CHARS
