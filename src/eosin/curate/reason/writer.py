"""Samples become chains: a teacher writes, rules sift, a second call checks, and a journal remembers every outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from eosin.clients.loop import waited
from eosin.core.errors import EosinError, ImageError
from eosin.core.formats.rows import reason_of
from eosin.core.nouns.outcome import Dropped, Kept, Parsed, Unparsed
from eosin.core.nouns.sample import Sample
from eosin.core.store import artifacts as store
from eosin.curate.reason.forms import fields_of
from eosin.curate.reason.prompts import Draw, check_request, reference_of, write_request
from eosin.curate.reason.rules import Rules, Source, orders_in, source_of
from eosin.curate.reason.templates import Template, subfield_of
from eosin.curate.texts.language import language_of
from eosin.knowledge.linking.linker import Linker
from eosin.scoring.judge.model import GIVEN_UP, Judge, JudgeRequest

T = TypeVar("T")
MAX_SOURCE_CHARS = 20_000
MIN_SOURCE_WORDS = 4
NUM_THREADS = 2
_STOPS = (GIVEN_UP, "budget spent", "no connection")
NOT_FOLLOWING = "the answer does not follow from the chain"


@dataclass(frozen=True)
class Writing:
    """How chains are written.

    Attributes:
        draw: which template a sample gets. draft: chain of draft. images: send the picture too.
        language: of chains; a source in another one is set aside unless any_source.
        check: ask a second time whether the answer follows.
    """

    draw: Draw
    seed: int = 0
    draft: bool = False
    images: bool = False
    language: str = "en"
    any_source: bool = False
    temperature: float = 0.7
    check: bool = True


class StoppedError(Exception):
    """The server cannot be asked any more; what is done is kept."""


class ChainWriter:
    """Writes chains for many samples side by side; outcomes are kept in a journal as they come.

    Args:
        teacher: writes. checker: asked whether an answer follows; may be the same.
        journal: a JSON lines file; samples that stand there are not asked again.
    """

    def __init__(
        self, writing: Writing, templates: Mapping[str, Template], teacher: Judge, checker: Judge, rules: Rules,
        linker: Linker, journal: Path,
    ) -> None:  # fmt: skip
        self._writing, self._templates, self._rules, self._linker = writing, templates, rules, linker
        self._teacher, self._checker, self._journal = teacher, checker, journal
        self._stopped = ""
        self._pool: ThreadPoolExecutor | None = None

    def write(self, samples: Sequence[Sample]) -> list[Kept[Sample] | Dropped]:
        """One outcome a sample, in order.

        Raises:
            EosinError: the budget is spent, or the server has not answered for a while; give the command again.
        """
        done = {row["id"]: row for row in store.read_jsonl(self._journal)}
        todo = [s for s in samples if s.id not in done]
        try:
            with ThreadPoolExecutor(NUM_THREADS) as self._pool:
                made = waited(self._all(todo)) if todo else []
        except StoppedError as exc:
            raise EosinError(
                "The teacher cannot be asked any more.", found=str(exc), where=self._teacher.model,
                next_step="mend it (or raise the budget), then give the same command again: no answer is paid twice",
            ) from None  # fmt: skip
        new = dict(zip((s.id for s in todo), made, strict=True))
        return [new[s.id] if s.id in new else _recalled(s, done[s.id]) for s in samples]

    async def _all(self, samples: Sequence[Sample]) -> list[Kept[Sample] | Dropped]:
        """All outcomes. Once the server cannot be asked any more no new question is put; those under way are paid, and
        their answers are waited for."""
        self._stopped = ""
        made = await asyncio.gather(*(self._one(s) for s in samples), return_exceptions=True)
        failed = [m for m in made if isinstance(m, BaseException)]
        if failed:
            raise next((f for f in failed if not isinstance(f, StoppedError)), failed[0])
        return [m for m in made if not isinstance(m, BaseException)]

    async def _aside(self, work: Callable[..., T], *given: Any) -> T:
        """Work of the processor in another thread: the clients' loop keeps the server busy meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *given)

    async def _one(self, sample: Sample) -> Kept[Sample] | Dropped:
        outcome = await self._outcome(sample)
        row: dict[str, Any] = {"id": sample.id}
        if isinstance(outcome, Dropped):
            row |= {"reason": outcome.reason, "detail": outcome.detail}
        else:
            row["made"] = outcome.value.model_dump(mode="json", include=_WRITTEN)
        store.append_jsonl(self._journal, [row])
        return outcome

    async def _outcome(self, sample: Sample) -> Kept[Sample] | Dropped:
        told = await self._aside(self.prepared, sample)
        if isinstance(told, Dropped):
            return told
        template, source = told
        try:
            request = self.request(sample, template, source)
        except ImageError as exc:
            return Dropped(sample.id, exc.message, exc.found or "")
        answer = await self._ask(self._teacher, request)
        if isinstance(answer, Unparsed):
            return Dropped(sample.id, f"teacher: {_short(answer.reason)}", answer.reason)
        made = self._sample(sample, template, answer.value)
        if isinstance(made, Dropped):
            return made
        problem = await self._aside(self._rules.problem, made, source, template)
        if problem is not None:
            return Dropped(sample.id, *problem)
        return await self._checked(made, sample, template) if self._writing.check else Kept(made)

    def prepared(self, sample: Sample) -> tuple[Template, Source] | Dropped:
        """The template and the source of a sample, or why nobody needs to be asked."""
        source = source_of(sample, self._linker)
        if len(source.text.split()) < MIN_SOURCE_WORDS:
            return Dropped(sample.id, "nothing to write from", source.text[:80])
        if len(source.text) > MAX_SOURCE_CHARS:
            return Dropped(sample.id, "source text too long", f"{len(source.text):,} characters")
        if (orders := orders_in(source.text)) is not None:
            return Dropped(sample.id, "instructions inside the source", orders)
        language = language_of(source.text)
        if not self._writing.any_source and language not in (None, self._writing.language):
            return Dropped(sample.id, "source in another language", str(language))
        subfield = subfield_of(sample)
        if subfield is None:
            return Dropped(sample.id, "subfield not known", f"{sample.origin.modality}, {sample.origin.stain}")
        return self._templates[self._writing.draw.template_name(sample, subfield)], source

    def request(self, sample: Sample, template: Template, source: Source) -> JudgeRequest:
        """What the teacher is asked of a sample."""
        w = self._writing
        return write_request(sample, template, source.text, seed=w.seed, draft=w.draft, temperature=w.temperature,
                             images=w.images)  # fmt: skip

    async def _ask(self, model: Judge, request: JudgeRequest) -> Parsed[Any] | Unparsed:
        if self._stopped:
            raise StoppedError(self._stopped)
        answer = await model.ask(request)
        if isinstance(answer, Unparsed) and answer.reason.startswith(_STOPS):
            self._stopped = answer.reason
            raise StoppedError(answer.reason)
        return answer

    def _sample(self, sample: Sample, template: Template, form: Any) -> Sample | Dropped:
        fields = fields_of(form, sample)
        if isinstance(fields, str):
            return Dropped(sample.id, fields, "")
        about = {
            "teacher": self._teacher.model, "checker": self._checker.model if self._writing.check else None,
            "template": template.name, "version": template.version, "seed": self._writing.seed,
            "style": "chain-of-draft" if self._writing.draft else "chain-of-thought",
        }  # fmt: skip
        try:
            return Sample.model_validate({
                **{name: getattr(sample, name) for name in Sample.model_fields}, **fields,
                "id": f"{sample.id}/{template.task}-{template.difficulty}", "label": sample.label,
                "origin": sample.origin.model_copy(update={"parents": (*sample.origin.parents, sample.id)}),
                "extra": {**sample.extra, "reason": about},
            })  # fmt: skip
        except ValidationError as exc:
            return Dropped(sample.id, "the written sample is none", reason_of(exc)[0])

    async def _checked(self, made: Sample, sample: Sample, template: Template) -> Kept[Sample] | Dropped:
        ref = reference_of(made, template, self._writing.seed)
        answer = await self._ask(self._checker, check_request(made, ref, self._writing.seed))
        if isinstance(answer, Unparsed):
            return Dropped(sample.id, f"checker: {_short(answer.reason)}", answer.reason)
        told = answer.value
        reached = told.answer if made.choices else told.follows
        if reached == (made.answer if made.choices else True):
            return Kept(made)
        return Dropped(sample.id, NOT_FOLLOWING, f"it leads to {reached}")


_WRITTEN = {"id", "messages", "choices", "answer", "reasoning", "origin", "extra"}


def _recalled(sample: Sample, row: Mapping[str, Any]) -> Kept[Sample] | Dropped:
    """An outcome of the journal. Pictures are not in it: they are those of the sample."""
    if "reason" in row:
        return Dropped(sample.id, row["reason"], row["detail"])
    kept = {name: getattr(sample, name) for name in Sample.model_fields if name not in _WRITTEN}
    return Kept(Sample.model_validate(kept | row["made"]))


def _short(reason: str) -> str:
    """A reason without its counts, fit for counting."""
    return reason.split(" (after")[0]
