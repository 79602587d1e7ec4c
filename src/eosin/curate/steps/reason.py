"""Reason: chains that a teacher writes, sifted by rules and a second call. No answer is paid twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import ImageError
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.writing import ReasonStep
from eosin.core.store.artifacts import write_text_atomic
from eosin.core.store.names import file_name
from eosin.curate.reason.prompts import Draw
from eosin.curate.reason.rules import Rules
from eosin.curate.reason.teacher import Teachers, estimate
from eosin.curate.reason.templates import load_templates
from eosin.curate.reason.writer import ChainWriter, Writing
from eosin.curate.steps.base import Context, Step
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker


class ReasonSamples(Step[ReasonStep]):
    """Each sample becomes one chain, or is set aside with the rule that it broke."""

    in_main = True

    def __init__(self, settings: ReasonStep, context: Context, state: Path) -> None:
        super().__init__(settings, context, state)
        self._templates = load_templates(Path(settings.templates).expanduser() if settings.templates else None)
        self._teachers = Teachers(state, context.tools)

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[Kept[Sample] | Dropped]:
        """Write the chains of a shard side by side.

        Raises:
            EosinError: the budget is spent or the server is down; what is done is kept.
        """
        s = self.settings
        teacher = self._teachers.get("teacher", s.teacher)
        checker = self._teachers.get("checker", s.checker or s.teacher)
        writer = self._writer(teacher, checker, self.state / f"outcomes-{shard:05d}.jsonl")
        try:
            made = iter(writer.write([s for s in samples if self._is_asked(s)]))
        finally:
            self._teachers.save()
        return [next(made) if self._is_asked(s) else Kept(s) for s in samples]

    def _is_asked(self, sample: Sample) -> bool:
        return (sample.split or "train") in self.settings.splits

    def _writer(self, teacher: Any, checker: Any, journal: Path) -> ChainWriter:
        s = self.settings
        tasks = {str(k): w for k, w in s.tasks.items()}
        difficulties = {str(k): w for k, w in s.difficulties.items()}
        writing = Writing(
            Draw(tasks, difficulties, self.context.seed), self.context.seed,
            s.style == "chain-of-draft", s.images, s.language, s.any_source, s.temperature, s.check,
        )  # fmt: skip
        linker = Linker.builtin()
        rules = Rules(Graph.builtin(), linker, language=s.language, draft=writing.draft)
        return ChainWriter(writing, self._templates, teacher, checker, rules, linker, journal)

    def preview(self, samples: Sequence[Sample], num_samples: int, folder: Path) -> list[str]:
        """The estimate, and the prompts of these samples as files. Nobody is asked."""
        writer = self._writer(None, None, folder / "none.jsonl")
        requests = []
        lines = []
        for sample in samples:
            if not self._is_asked(sample):
                continue
            told = writer.prepared(sample)
            if isinstance(told, Dropped):
                lines.append(f"{sample.id}: not asked, {told.reason}")
                continue
            try:
                request = writer.request(sample, *told)
            except ImageError as exc:
                lines.append(f"{sample.id}: not asked, {exc.message}")
                continue
            requests.append((told[0], request))
            folder.mkdir(parents=True, exist_ok=True)
            text = f"{told[0].name} {told[0].version}\n\n## system\n{request.system}\n\n## user\n{request.text}\n"
            write_text_atomic(folder / f"{file_name(sample.id.replace('/', '_'))}.txt", text)
        lines += estimate(requests, num_samples, self.settings.teacher, check=self.settings.check)
        return [*lines, f"prompts of {len(requests)} samples: {folder}"] if requests else lines

    def facts(self) -> dict[str, Any]:
        """Templates, and what the teacher was asked, in calls, tokens and cost."""
        versions = sorted({t.version for t in self._templates.values()})
        return {"templates": len(self._templates), "template_versions": len(versions), **self._teachers.facts()}
