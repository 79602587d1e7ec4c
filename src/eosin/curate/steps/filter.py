"""Filter: captions that say nothing, pictures that show nothing, other licences, pictures that do not fit the words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import ImageError
from eosin.core.images import load_image
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample, SlideBag, SlideRegion
from eosin.core.settings.curation.sifting import FilterStep
from eosin.curate.quality.captions import caption_problem
from eosin.curate.quality.pictures import picture_problem
from eosin.curate.steps.base import Context, Step

Problem = tuple[str, str] | None


class FilterSamples(Step[FilterStep]):
    """Each sample by itself. With a CLIP, which is loaded once, in the main process."""

    def __init__(self, settings: FilterStep, context: Context, state: Path) -> None:
        super().__init__(settings, context, state)
        self._clip: Any = context.tools.get("clip")
        self.in_main = settings.clip is not None or self._clip is not None  # type: ignore[misc]
        if self._clip is None and settings.clip is not None:
            from eosin.scoring.resources.clip import ClipCosine

            self._clip = ClipCosine(settings.clip)

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[Kept[Sample] | Dropped]:
        """Kept as it is, or dropped with the first reason found: licence, text, pictures, match."""
        return (self._judge(s) for s in samples)

    def _judge(self, sample: Sample) -> Kept[Sample] | Dropped:
        problem = self._licence(sample) or self._text(sample) or self._pictures(sample)
        return Kept(sample) if problem is None else Dropped(sample.id, problem[0], problem[1], "filter")

    def _licence(self, sample: Sample) -> Problem:
        wanted = self.settings.licences
        if wanted and sample.origin.licence.casefold() not in {w.casefold() for w in wanted}:
            return "licence not wanted", sample.origin.licence
        return None

    def _text(self, sample: Sample) -> Problem:
        if self.settings.need_caption and not (sample.caption or "").strip():
            return "no caption", ""
        text = sample.caption if self.settings.text == "caption" else "\n".join(texts_of(sample))
        return None if text is None else caption_problem(text, self.settings)

    def _pictures(self, sample: Sample) -> Problem:
        if self.settings.need_image and not sample.images:
            return "no picture", ""
        for i, ref in enumerate(sample.images):
            if isinstance(ref, SlideRegion | SlideBag):
                continue
            try:
                image = load_image(ref)
            except ImageError as exc:
                return exc.message, exc.where or exc.found or ""
            problem = picture_problem(image, self.settings)
            if problem is None and self._clip is not None and sample.caption and i == 0:
                [cosine] = self._clip(image, [sample.caption])
                if cosine < self.settings.min_match:
                    problem = "picture does not fit the caption", f"{cosine:.3f}, at least {self.settings.min_match:g}"
            if problem is not None:
                return problem
        return None


def texts_of(sample: Sample) -> Iterator[str]:
    """All that a sample says: question, options, answer, findings, reasoning, caption."""
    yield from (m.text for m in sample.messages if m.role == "user")
    yield from (c.text for c in sample.choices)
    yield from (t for t in (sample.answer_text, sample.findings, *sample.reasoning, sample.caption) if t)
