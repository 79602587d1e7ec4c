"""Phantom slides as samples: real TIFFs through the real slides pipeline, each shown as the bag of its patches.

The truth of a slide stands beside it (GeoJSON). Findings, diagnosis and place of the lesions come from there; the
reasoning is written by `eosin.curate.grounding` from what the knowledge graph says of them.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Entity, Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.core.settings.data import PhantomSlidesData, QuestionKind
from eosin.core.store.artifacts import read_json, write_json
from eosin.phantom.slides.plan import ARTEFACTS
from eosin.phantom.slides.series import SlideJob, write_slides
from eosin.phantom.tiles.scenes import DIAGNOSES, NORMAL
from eosin.phantom.tiles.tile import ORGAN, PhantomCase, case_rng, cases
from eosin.slides.encoders.colour_texture import ColourTexture
from eosin.slides.encoders.encoder import EncoderRecord, MakeEncoder, record_of
from eosin.slides.features.run import FeatureSettings, run
from eosin.sources.card import Collection
from eosin.sources.phantom import CARD as TILES
from eosin.sources.phantom import LICENCE

STEP = "source"
CARD = TILES.model_copy(
    update={
        "name": "phantom-slides",
        "title": "PHANTOM: procedurally generated whole slides of the colon, six diagnoses",
    }
)
# Far apart, as those of tiles, and other cases than theirs.
_FIRST = {"train": 3_000_000, "valid": 4_000_000, "test": 5_000_000}
# Names of the graph for classes that it calls otherwise.
CONCEPT_NAMES = {NORMAL: "normal tissue"}
# Findings that are asked about, each of which some slides show and others do not.
ASKED = ("necrosis", "mitoses", "crowded glands", "irregular glands", "mucin pools", "crypt abscess", "spindle cells",
         "desmoplastic stroma", "dense inflammation")  # fmt: skip
_DIAGNOSIS = ("What is the diagnosis?", "Which diagnosis does this slide show?", "Which option fits best?")
_FINDINGS = ("Which findings does this slide show?", "Describe the findings of this slide.")
_FINDING = ("Does this slide show {name}?", "Look for {name}: can you see any?")
_PLACE = ("In which part of the slide does the lesion lie?",)
PLACES = ("upper left", "upper right", "lower left", "lower right")


def read_phantom_slides(
    settings: PhantomSlidesData, seed: int, folder: Path, *, console: Console | None = None
) -> Collection:
    """All splits. What is in `folder` already is not made again.

    Args:
        seed: of the run; `settings.seed` goes first where it is given.
        folder: where slides and features stand.

    Raises:
        EosinError: the folder holds slides of other settings; the disk is full; no slide has features.
    """
    chosen = settings.seed if settings.seed is not None else seed
    folder = Path(folder).resolve()
    split_of = dict(_cases(settings, chosen))
    tile_encoder(settings)
    jobs = {case: _job(case, settings, folder, chosen) for case in split_of}
    _claim(folder, settings, chosen)
    write_slides(list(jobs.values()), workers=settings.workers, report=_reporter(console))
    features, dropped = _features(settings, [j.out for j in jobs.values()], folder, console)
    made: list[Kept[Sample] | Dropped] = []
    for case, split in split_of.items():
        name = jobs[case].out.stem
        if name in features:
            made += _samples(case, split, jobs[case], features[name], settings)
        elif name not in {d.id for d in dropped}:
            made.append(Dropped(name, "no features", str(jobs[case].out), STEP))
    found = filtered(made)
    samples = Filtered(found.kept, (*dropped, *found.dropped))
    return Collection(card=CARD.model_copy(update={"mpp": settings.mpp}).counted(samples.kept), samples=samples)


# ---- slides and features -------------------------------------------------------------------------------------------


def _cases(settings: PhantomSlidesData, seed: int) -> Iterator[tuple[PhantomCase, str]]:
    for split, num in (("train", settings.train_cases), ("valid", settings.valid_cases), ("test", settings.test_cases)):
        for case in cases(num, seed, _FIRST[split]):
            yield case, split


def _job(case: PhantomCase, settings: PhantomSlidesData, folder: Path, seed: int) -> SlideJob:
    rng = case_rng(case, 14)
    spoilt = rng.random() < settings.artefact_share
    artefacts = tuple(sorted(rng.choice([a for a in ARTEFACTS if a != "border"], 2, replace=False)) if spoilt else ())
    return SlideJob(
        folder / f"{case.id}.tiff", case.number, seed, settings.size_px, settings.mpp, settings.lesion_um,
        settings.page_px, tuple(map(str, artefacts)), settings.finding_share,
    )  # fmt: skip


_OF_SLIDES = ("size_px", "mpp", "lesion_um", "page_px", "artefact_share", "finding_share")


def _claim(folder: Path, settings: PhantomSlidesData, seed: int) -> None:
    """Note what the slides depend on, or see that those that stand there depend on the same."""
    mark = folder / "slides.json"
    new = {"seed": seed, **{k: getattr(settings, k) for k in _OF_SLIDES}}
    if not mark.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(mark, new)
        return
    defaults = {k: PhantomSlidesData.model_fields[k].default for k in _OF_SLIDES}
    old = {**defaults, **read_json(mark)}  # of an older version, which had fewer settings
    if old != new:
        differing = ", ".join(f"{k}: there {old.get(k)!r}, here {v!r}" for k, v in new.items() if old.get(k) != v)
        raise EosinError("This folder holds phantom slides of other settings.", found=differing, where=folder,
                         next_step="start the run in another folder (nothing is overwritten)")  # fmt: skip


def _reporter(console: Console | None) -> Any:
    def tell(done: int, total: int) -> None:
        if console is not None and (done % 50 == 0 or done == total):
            console.print(f"slides: {done} of {total} written")

    return tell


def tile_encoder(settings: PhantomSlidesData) -> tuple[EncoderRecord, MakeEncoder | None]:
    """The record of the patch encoder, and how it is made where its tiles are not those of its record.

    Raises:
        EosinError: a size of tiles other than the encoder was trained for.
    """
    record = record_of(settings.encoder)
    if settings.tile_px is None or settings.tile_px == record.tile_px:
        return record, None
    if record.library != "eosin":
        raise EosinError(
            f"The encoder {record.name} takes tiles of one size.", expected=f"tile_px {record.tile_px}",
            found=str(settings.tile_px), where="data.tile_px",
        )  # fmt: skip
    record = record.model_copy(update={"tile_px": settings.tile_px, "input_px": settings.tile_px})
    return record, functools.partial(ColourTexture, record, settings.tile_mpp or settings.mpp)


def _features(
    settings: PhantomSlidesData, slides: Sequence[Path], folder: Path, console: Console | None
) -> tuple[dict[str, Path], tuple[Dropped, ...]]:
    """Feature file of each slide, by name, and the slides that have none."""
    record, make = tile_encoder(settings)
    chosen = FeatureSettings(
        encoder=settings.encoder, weights=settings.weights, mpp=settings.tile_mpp or settings.mpp, workers=1
    )
    summary = run(slides, folder / "features", chosen, console, record=record, make_encoder=make)
    if not summary.done:
        raise EosinError("No slide has features.", found=str(Counter(d.reason for d in summary.dropped)), where=folder)
    return {d.name: d.file for d in summary.done}, summary.dropped


# ---- samples -------------------------------------------------------------------------------------------------------


def _samples(
    case: PhantomCase, split: str, job: SlideJob, features: Path, settings: PhantomSlidesData
) -> Iterator[Kept[Sample] | Dropped]:
    truth = json.loads(job.truth.read_text("utf-8"))
    if settings.visible_only and truth["lesions"] and not any(x["visible"] for x in truth["lesions"]):
        yield Dropped(case.id, "no lesion can be seen", f"{len(truth['lesions'])} lie under ink or in a tear", STEP)
        return
    kinds = settings.questions if split == "train" else settings.exam_questions
    for kind in dict.fromkeys(kinds):
        yield from map(Kept, _QUESTIONS[kind](_Slide(case, split, job, features, truth, settings)))


class _Slide:
    """A slide with its truth, and what all its samples have in common."""

    def __init__(
        self, case: PhantomCase, split: str, job: SlideJob, features: Path, truth: Mapping[str, Any],
        settings: PhantomSlidesData,
    ) -> None:  # fmt: skip
        self.case, self.job, self.truth = case, job, truth
        bag = SlideBag(path=str(features), encoder=settings.encoder, slide=str(job.out))
        origin = Origin(
            source=CARD.name, licence=LICENCE, case=case.id, slide=case.id, modality="histology", organ=ORGAN,
            stain="H&E", mpp=settings.mpp,
        )  # fmt: skip
        self.common = {
            "images": (bag,), "label": case.diagnosis, "entities": tuple(self.entities()), "origin": origin,
            "split": split,
        }  # fmt: skip

    def rng(self, kind: str) -> Any:
        """Random numbers of one kind of question about this slide."""
        return case_rng(self.case, 15, sum(kind.encode()))

    def entities(self) -> Iterator[Entity]:
        """What the slide shows or does not show. What the normal mucosa around a lesion shows is no finding."""
        background = _BACKGROUND if self.case.diagnosis != NORMAL else frozenset()
        for name, f in self.truth["findings"].items():
            if not (f["present"] and name in background):
                yield Entity(name=name, polarity="present" if f["present"] else "absent", count=f.get("count"))
        for name in _LOOKED_FOR.get(self.case.diagnosis, ()):
            if name not in self.truth["findings"]:
                yield Entity(name=name, polarity="absent")
        yield Entity(name=self.case.diagnosis, kind="diagnosis")

    def sample(self, kind: str, number: int | str, text: str, **values: Any) -> Sample:
        """A sample about this slide."""
        extra = {
            "phantom": True, "question": kind, "truth": str(self.job.truth), "entities_complete": True,
            **values.pop("extra", {}),
        }  # fmt: skip
        name = f"{self.case.id}-{kind}" + (f"-{number}" if number != "" else "")
        fields = {"id": name, "messages": user_prompt(text), "extra": extra, **values, **self.common}
        return Sample.model_validate(fields)


# Looked for in every slide of a diagnosis, because what they would stand for is the next-best diagnosis.
_LOOKED_FOR = {
    "adenocarcinoma": ("mucin pools",),
    "mucinous adenocarcinoma": ("cribriform glands",),
    "tubular adenoma": ("necrosis",),
    "active colitis": ("necrosis",),
}
_BACKGROUND = frozenset({"round glands", "goblet cells", "basal nuclei"})


def _ask_diagnosis(slide: _Slide) -> Iterator[Sample]:
    rng = slide.rng("diagnosis")
    order = [DIAGNOSES[i] for i in rng.permutation(len(DIAGNOSES))]
    answer = chr(ord("A") + order.index(slide.case.diagnosis))
    yield slide.sample("diagnosis", "", str(rng.choice(_DIAGNOSIS)), choices=make_choices(order), answer=answer)


def _ask_finding(slide: _Slide) -> Iterator[Sample]:
    """Whether something is there: one finding that is, where any is, and one that is not."""
    rng = slide.rng("finding")
    there = {n for n, f in slide.truth["findings"].items() if f["present"]}
    for answer, names in (("yes", [n for n in ASKED if n in there]), ("no", [n for n in ASKED if n not in there])):
        if names:
            name = str(rng.choice(names))
            text = str(rng.choice(_FINDING)).format(name=name)
            choices = make_choices(["yes", "no"] if rng.random() < 0.5 else ["no", "yes"])
            letter = next(c.letter for c in choices if c.text == answer)
            yield slide.sample("finding", name.replace(" ", "_"), text, choices=choices, answer=letter,
                               extra={"asked": name})  # fmt: skip


def _ask_findings(slide: _Slide) -> Iterator[Sample]:
    """An open question; its answer is written from the findings when the reasoning is."""
    yield slide.sample("findings", "", str(slide.rng("findings").choice(_FINDINGS)))


def _ask_place(slide: _Slide) -> Iterator[Sample]:
    """Where the lesion lies, for slides with one that is clearly in one quarter."""
    seen = [x for x in slide.truth["lesions"] if x["visible"]]
    if len(seen) != 1:
        return
    side = slide.job.size_px * slide.job.mpp
    x, y = seen[0]["x_um"] / side - 0.5, seen[0]["y_um"] / side - 0.5
    if min(abs(x), abs(y)) < 0.04:
        return
    rng = slide.rng("place")
    order = [PLACES[i] for i in rng.permutation(len(PLACES))]
    place = f"{'upper' if y < 0 else 'lower'} {'left' if x < 0 else 'right'}"
    answer = chr(ord("A") + order.index(place))
    yield slide.sample("place", "", _PLACE[0], choices=make_choices(order), answer=answer, extra={"place": place})


_QUESTIONS: Mapping[QuestionKind, Callable[[_Slide], Iterator[Sample]]] = {
    "diagnosis": _ask_diagnosis,
    "finding": _ask_finding,
    "findings": _ask_findings,
    "place": _ask_place,
}
