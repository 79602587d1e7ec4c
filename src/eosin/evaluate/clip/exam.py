"""One exam of a CLIP model: zero-shot, few-shot and retrieval on held-out samples, written as one artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eosin.core.images import RegionReader
from eosin.core.nouns.outcome import Filtered
from eosin.core.nouns.sample import Sample
from eosin.core.settings.clip import ClipExam
from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import Artifact
from eosin.evaluate.clip.baselines import beside_zero_shot
from eosin.evaluate.clip.beside import Beside
from eosin.evaluate.clip.embed import Embedded, embed_samples
from eosin.evaluate.clip.few_shot import few_shot
from eosin.evaluate.clip.prompts import ClassPrompts
from eosin.evaluate.clip.retrieval import retrieval
from eosin.evaluate.clip.zero_shot import zero_shot

if TYPE_CHECKING:
    from eosin.models.clip.clip import Clip

KIND = "clip-eval"


def examine_clip(
    clip: Clip, train: Sequence[Sample], held_out: Sequence[Sample], settings: ClipExam, out: Path, *,
    read_region: RegionReader | None = None, record: Mapping[str, Any] | None = None,
    parents: tuple[Artifact, ...] = (),
) -> dict[str, Any]:  # fmt: skip
    """Examine a model and write summary.json, predictions.jsonl and dropped.jsonl.

    Parts that the samples cannot serve are left out: zero-shot and few-shot without labels, retrieval without captions.

    Args:
        train: what few-shot learns from. held_out: what is asked.
    """
    beside = None if settings.few_shot is None else Beside(settings.few_shot.encoder)

    def embed(samples: Sequence[Sample]) -> Embedded:
        return embed_samples(clip, samples, read_region, batch_size=settings.batch_size, look=beside)

    asked = embed(held_out).require("examine")
    summary: dict[str, Any] = {"n": len(asked.samples), "dropped": Filtered((), asked.dropped).reasons()}
    rows: tuple[dict[str, Any], ...] = ()
    known_class = labelled(asked)
    labels = sorted({str(s.label) for s in (*train, *known_class.samples) if s.label})
    if len({s.label for s in known_class.samples}) > 1:
        file = Path(settings.prompts) if settings.prompts else None
        prompts = ClassPrompts.of(labels, file=file, words=settings.class_words, templates=settings.templates)
        found = zero_shot(clip, known_class, prompts, settings.seed)
        summary |= {"zero_shot": found.summary, "prompts": prompts.as_json()}
        rows = found.rows
        held = {s.id for s in asked.samples}
        taught = [s for s in train if s.label and s.id not in held]  # never learned from what is asked
        if settings.baselines:
            summary["zero_shot"] |= beside_zero_shot(
                taught, known_class.samples, rows, list(prompts.words), seed=settings.seed, read_region=read_region
            )
        if beside is not None and settings.few_shot is not None and len({s.label for s in taught}) > 1:
            known = embed(taught)
            summary["few_shot"] = few_shot(
                beside.features(known), [str(s.label) for s in known.samples], beside.features(known_class),
                [str(s.label) for s in known_class.samples], settings.few_shot,
            )  # fmt: skip
    if settings.retrieval and any(s.caption for s in asked.samples):
        summary["retrieval"] = retrieval(clip, asked)
    write_exam(out, summary, rows, asked, record=record, parents=parents)
    return summary


def write_exam(
    out: Path, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], seen: Embedded, *,
    record: Mapping[str, Any] | None = None, parents: tuple[Artifact, ...] = (),
) -> None:  # fmt: skip
    """Write figures, predictions and what was set aside, as one artifact."""
    with store.writing(out, KIND, parents=parents, record=record) as writer:
        store.write_json(writer.dir / "summary.json", summary)
        for name, lines in (("predictions", rows), ("dropped", [vars(d) for d in seen.dropped])):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (writer.dir / f"{name}.jsonl").write_text(text, "utf-8")
        writer.counts |= {"n": len(seen.samples), "dropped": len(seen.dropped)}


def labelled(seen: Embedded) -> Embedded:
    """Those with a label."""
    has = np.asarray([bool(s.label) for s in seen.samples], dtype=bool)
    return Embedded(tuple(s for s, ok in zip(seen.samples, has, strict=True) if ok), seen.vectors[has], seen.dropped)
