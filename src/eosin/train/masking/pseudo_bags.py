"""Pseudo-bag masking: slides from which a cluster of patches was taken out, with targets that fit what is left.

PathReasoner-R1 (arXiv 2601.21617), section on pseudo-bag masking; `train.bag_clusters` has the published rule and
`train.bag_deltas` the measurement. What is Eosin's own: coordinates are kept, findings whose evidence was taken out
become "not assessable" (`train.not_assessable`), and random clusters of the same sizes as a control.

Copies are made here, at the stage, from samples that were split before, and stand beside the whole ones.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from eosin.core.draw import subset
from eosin.core.errors import EosinError, ImageError
from eosin.core.images import load_picture
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.prompt import gold_reply
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.masking import PseudoBags
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Engine
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.resources.encoder import SentenceEncoder
from eosin.scoring.terms.base import Resources
from eosin.scoring.terms.entities import gold_concept
from eosin.train.masking.bag_clusters import I64, clusters_of, digest_of, draw, eligible, probabilities, write_clusters
from eosin.train.masking.bag_deltas import Delta, Measurement, Question, entity_spec
from eosin.train.masking.not_assessable import (
    NOT_ASSESSABLE,
    STEP,
    Lost,
    concepts_named,
    rewrite,
    with_entities,
    with_option,
)

if TYPE_CHECKING:
    from eosin.train.stages.base import StageContext

console = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class MeasuredSlide:
    """A slide with its clusters, what each is worth, and its chance of being taken out."""

    question: Question
    file: Path
    delta: Delta
    chances: dict[int, float]

    def as_row(self) -> dict[str, Any]:
        """For summary.json."""
        sizes = Counter(self.question.labels.tolist())
        return {
            "slide": self.question.slide, "num_patches": len(self.question.labels),
            "sample_id": self.question.sample.id, "whole": round(self.delta.whole, 4),
            "clusters": [
                {"cluster": c, "size": n, "eligible": c in self.chances,
                 "delta": round(self.delta.losses[c], 4) if c in self.chances else None,
                 "p": round(self.chances.get(c, 0.0), 4), "lost": list(self.delta.lost.get(c, ()))}
                for c, n in sorted(sizes.items())
            ],
        }  # fmt: skip


def with_pseudo_bags(
    samples: Sequence[Sample],
    settings: PseudoBags,
    ctx: StageContext,
    *,
    engine: Engine | None = None,
    ask: bool = True,
) -> tuple[list[Sample], dict[str, Any]]:
    """The samples, and behind them masked copies of a share of those that show one slide.

    Args:
        engine: answers the measurement; by default the stage's starting model, greedy.
        ask: without it nothing is generated: only slides whose replies are on disk give copies.

    Returns:
        All samples, and the facts for stage.json. `pseudo_bags/` in the stage's folder holds the replies, the
        clusters, summary.json (what was measured on each slide) and dropped.jsonl.

    Raises:
        EosinError: no sample shows one slide as a bag.
    """
    whole = [with_option(s) for s in samples] if settings.lost_answer == NOT_ASSESSABLE else list(samples)
    usable = [s for s in whole if len(s.images) == 1 and isinstance(s.images[0], SlideBag)]
    if not usable:
        raise EosinError(
            "Pseudo-bags need slides shown as bags of patches.", expected="samples with one bag and no other picture",
            found=f"{len(whole)} samples, none of them so", where=f"stages.{ctx.name}.pseudo_bags",
        )  # fmt: skip
    folder = ctx.folder / "pseudo_bags"
    folder.mkdir(parents=True, exist_ok=True)
    slides, dropped = _slides(usable, settings, ctx, folder)
    told = partial(console.print, markup=False)
    measurement = Measurement(
        (lambda: engine or _own_engine(ctx)), checkpoint_of(ctx), ctx.grammar,
        Decoding(max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size),
        folder / "replies.jsonl", ctx.prompt.instruction, settings.reward,
        None if settings.encoder is None else SentenceEncoder(settings.encoder), lambda text: told(f"  {text}"),
    )  # fmt: skip
    measured: dict[str, MeasuredSlide] = {}
    for (path, question, file), delta in zip(slides, measurement.run([q for _, q, _ in slides], ask=ask), strict=True):
        if delta is None:
            dropped.append(Dropped(question.slide, "entity reward not known", question.sample.id, STEP))
        else:
            chances = probabilities(delta.losses, settings.tau, settings.uniform)
            measured[path] = MeasuredSlide(question, file, delta, chances)
    copies, facts = _copies(usable, measured, settings, ctx, dropped)
    facts = {"settings": settings.model_dump(), "num_samples": len(whole), "num_usable": len(usable),
             **facts, **measurement.counts}  # fmt: skip
    if ask:  # a look at the mask leaves a run's record as it is
        _write(folder, facts, measured, dropped)
    told(f"  pseudo-bags: {_said(facts, settings)}")
    return [*whole, *copies], facts


def _said(facts: dict[str, Any], settings: PseudoBags) -> str:
    """What was made, in one line."""
    parts = [f"{facts['num_copies']} copies of {facts['num_chosen']} chosen samples"]
    if settings.targets == "as they are":
        return f"{parts[0]}, their targets as they are"
    parts.append(f"{facts['num_changed']} with findings that became not assessable")
    if facts["set_aside"]:
        parts.append(f"{sum(facts['set_aside'].values())} set aside")
    if facts["num_linked"]:
        parts.append(f"{facts['num_linked']} have their findings from their text")
    if facts["num_without_findings"]:
        parts.append(f"{facts['num_without_findings']} name no finding, so nothing of theirs can become so")
    return ", ".join(parts)


def _write(folder: Path, facts: dict[str, Any], measured: dict[str, MeasuredSlide], dropped: Sequence[Dropped]) -> None:
    store.write_json(folder / "summary.json", {**facts, "slides": [m.as_row() for m in measured.values()]})
    lines = [json.dumps(asdict(d), ensure_ascii=False) + "\n" for d in dropped]
    store.write_text_atomic(folder / "dropped.jsonl", "".join(lines))


def _own_engine(ctx: StageContext) -> Engine:
    from eosin.engines.transformers_engine import TransformersEngine

    return TransformersEngine(ctx.loaded)


def checkpoint_of(ctx: StageContext) -> str:
    """Digest of the checkpoint that the stage starts from; of a hub model its name."""
    own = next((p for p in ctx.parents if p.manifest.get("kind") == "checkpoint"), None)
    return own.digest if own is not None else str(ctx.loaded.source)


# ---- slides ---------------------------------------------------------------------------------------------------------


def _slides(
    samples: Sequence[Sample], settings: PseudoBags, ctx: StageContext, folder: Path
) -> tuple[list[tuple[str, Question, Path]], list[Dropped]]:
    """Feature file, question and clusters of each slide; slides that cannot be used with the reason."""
    by_slide: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_slide[sample.images[0].path].append(sample)  # type: ignore[union-attr]
    chosen = subset(list(by_slide), settings.max_slides, settings.seed)
    found: list[tuple[str, Question, Path]] = []
    dropped: list[Dropped] = []
    for path in chosen:
        telling = _most_telling(by_slide[path], settings, ctx)
        if telling is None:
            dropped.append(Dropped(Path(path).stem, "no question with gold entities", path, STEP))
            continue
        load = partial(_bag, telling, ctx)
        try:
            bag = load()
        except ImageError as exc:
            dropped.append(Dropped(Path(path).stem, exc.message, exc.found or path, STEP))
            continue
        labels = clusters_of(bag, settings.num_clusters, settings.seed, settings.mode)
        may_go = tuple(eligible(labels, settings.min_share))
        question = Question(telling, bag.name, load, digest_of(bag), labels, may_go)
        found.append((path, question, write_clusters(folder / "clusters", bag.name, labels)))
    return found, dropped


def _bag(sample: Sample, ctx: StageContext) -> PatchBag:
    picture = load_picture(sample.images[0], ctx.read_region)
    if not isinstance(picture, PatchBag):
        raise ImageError("not a bag of patches", where=sample.id)
    return picture


def _most_telling(samples: Sequence[Sample], settings: PseudoBags, ctx: StageContext) -> Sample | None:
    """The question of a slide under which most gold entities count. What a question itself names counts nowhere, but
    for the published reward."""
    reward = load_rewards([entity_spec(settings.reward)], ctx.grammar)
    best: tuple[int, Sample] | None = None
    for sample in samples:
        outcome = reward.score(item_from_sample(sample, gold_reply(sample, ctx.grammar, ctx.prompt.answer)))
        num = int(str(outcome.events.get("entities", {}).get("num_gold", 0)))
        if num and (best is None or num > best[0]):
            best = (num, sample)
    return best[1] if best else None


# ---- copies ---------------------------------------------------------------------------------------------------------


def _copies(
    samples: Sequence[Sample], measured: dict[str, MeasuredSlide], settings: PseudoBags, ctx: StageContext,
    dropped: list[Dropped],
) -> tuple[list[Sample], dict[str, Any]]:  # fmt: skip
    """Masked copies of a share of the samples whose slide was measured, and what became of the others."""
    known = [s for s in samples if s.images[0].path in measured]  # type: ignore[union-attr]
    chosen = subset(known, round(settings.share * len(known)), settings.seed)
    copies: list[Sample] = []
    notes: Counter[str] = Counter()
    lost_names: Counter[str] = Counter()
    for sample in chosen:
        slide = measured[sample.images[0].path]  # type: ignore[union-attr]
        cluster = draw(slide.chances, settings.seed, sample.id)
        if cluster is None:
            dropped.append(Dropped(sample.id, "nothing would remain: the bag is kept", slide.question.slide, STEP))
            continue
        if settings.targets == "as they are":
            copies.append(_without(sample, slide, cluster))
            continue
        known_findings = with_entities(sample)
        lost, how = what_is_lost(known_findings, slide, cluster, settings)
        made = rewrite(known_findings, lost, ctx.grammar, settings.lost_answer)
        if isinstance(made, Dropped):
            dropped.append(made)
            continue
        kept = made.value if sample.entities else made.value.model_copy(update={"entities": ()})
        copies.append(_without(kept, slide, cluster))
        notes["linked"] += known_findings is not sample and bool(known_findings.entities)
        notes["without_findings"] += not known_findings.entities
        notes[f"evidence_{how}"] += 1
        notes["changed"] += bool(lost)
        notes["diagnosis_lost"] += lost.diagnosis
        lost_names.update(Resources().links.label_of(c) for c in lost.concepts)
    facts = {
        "num_measured": len(measured), "num_chosen": len(chosen), "num_copies": len(copies),
        "num_changed": notes["changed"], "num_diagnosis_lost": notes["diagnosis_lost"],
        "num_linked": notes["linked"], "num_without_findings": notes["without_findings"],
        "by_evidence": {k.removeprefix("evidence_"): n for k, n in notes.items() if k.startswith("evidence_")},
        "lost": dict(lost_names.most_common()), "set_aside": dict(Counter(d.reason for d in dropped).most_common()),
    }  # fmt: skip
    return copies, facts


def _without(sample: Sample, slide: MeasuredSlide, cluster: int) -> Sample:
    """The sample with its bag without a cluster, under a name of its own."""
    bag = sample.images[0].model_copy(update={"clusters": str(slide.file), "without_clusters": (cluster,)})
    origin = sample.origin.model_copy(update={"parents": (*sample.origin.parents, sample.id)})
    return sample.model_copy(update={"id": f"{sample.id}#without-{cluster}", "images": (bag,), "origin": origin})


# ---- evidence -------------------------------------------------------------------------------------------------------


def what_is_lost(sample: Sample, slide: MeasuredSlide, cluster: int, settings: PseudoBags) -> tuple[Lost, str]:
    """Which gold findings lost their evidence with a cluster, and how that is known: "truth" or "measured".

    Raises:
        EosinError: truth is asked for, and the sample has none.
    """
    file = Path(str(sample.extra.get("truth") or ""))
    has_truth = bool(sample.extra.get("truth")) and file.is_file()
    if settings.evidence == "truth" and not has_truth:
        raise EosinError(
            "This sample does not say where its findings lie.", expected='extra["truth"]: a GeoJSON file with lesions',
            found=str(sample.extra.get("truth")), where=sample.id, next_step="pseudo_bags.evidence=measured",
        )  # fmt: skip
    if has_truth and settings.evidence != "measured":
        gone = slide.question.labels == cluster
        return lost_by_truth(sample, slide.question.load(), gone, store.read_object(file), settings.lost_share), "truth"
    return lost_by_measure(sample, slide.delta, cluster), "measured"


def lost_by_measure(sample: Sample, delta: Delta, cluster: int) -> Lost:
    """What the model named with the whole bag and no longer without the cluster. The diagnosis is lost where no
    present finding is left of those that it had named."""
    lost = concepts_named(delta.lost[cluster], sample)
    found = [n for n in delta.matched if not n.startswith("no ")]
    gone = bool(found) and set(found) <= set(delta.lost[cluster])
    return Lost(lost, gone)


def lost_by_truth(sample: Sample, bag: PatchBag, gone_N: I64, truth: dict[str, Any], share: float) -> Lost:
    """What lay in patches that were taken out: at least `share` of the patches over lesions that show it.

    Args:
        gone_N: bool (N,), True where a patch was taken out.
        truth: of a phantom slide: `lesions` with x_um, y_um, radius_um, visible and findings. What the tissue between
            them shows is everywhere, and never lost; nor is what is absent.
    """
    lesions = [x for x in truth.get("lesions", []) if x["visible"]]
    over = [_over(bag, x) for x in lesions]
    links = Resources().links
    lost = set()
    for entity in sample.entities:
        shows = [o for o, x in zip(over, lesions, strict=True) if x["findings"].get(entity.name, {}).get("present")]
        if entity.polarity == "present" and _share_gone(shows, gone_N) >= share:
            lost.add(gold_concept(entity, links))
    return Lost(frozenset(lost), _share_gone(over, gone_N) >= share)


def _over(bag: PatchBag, lesion: dict[str, Any]) -> I64:
    """Mask (N,) of the patches whose centre lies in the disc of a lesion; where none does, of those it touches."""
    away = np.hypot(*(bag.centres_um - [lesion["x_um"], lesion["y_um"]]).T)
    inside = away < lesion["radius_um"]
    return np.asarray(inside if inside.any() else away < lesion["radius_um"] + bag.tile_um / 2)


def _share_gone(masks: Sequence[I64], gone_N: I64) -> float:
    """Share of the patches under any of the masks that were taken out; 0 where there is none."""
    union = np.logical_or.reduce(masks) if masks else np.zeros(len(gone_N), bool)
    return float((union & gone_N).sum() / union.sum()) if union.any() else 0.0
