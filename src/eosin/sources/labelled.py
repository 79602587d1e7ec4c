"""From labelled images to samples: what a labelled folder and a labelled table have in common."""

from __future__ import annotations

import difflib
import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, ImageError
from eosin.core.formats.rows import make_sample, unique
from eosin.core.images import digest_of, read_bytes
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Entity, ImageBytes, ImageFile, ImageRef, Sample, make_choices, user_prompt
from eosin.core.nouns.splits import Split, read_split
from eosin.core.settings.data import LabelledData
from eosin.sources.card import Card, Collection
from eosin.sources.files import is_missing
from eosin.sources.grouping import assign_groups, refuse_shared_groups, split_warnings

STEP = "source"
MAX_CLASSES = 26
QUESTIONS = (
    "Which tissue class does this tile show?",
    "What kind of tissue is this?",
    "Which of these classes fits the image best?",
)
CLOSINGS = (
    "These features fit {name}.",
    "This is the pattern of {name}.",
    "Together this points to {name}.",
)
PLAIN = "The tile shows {name}."


@dataclass(frozen=True)
class LabelledImage:
    """One image of a labelled source, before it becomes a sample.

    Attributes:
        name: its name within the source, unique; it becomes the end of the sample id.
        units: patient, case, slide, article as far as known.
        split: split in the source's own words, or None.
        columns: what `hold_out` can look at.
    """

    name: str
    path: Path
    label: str
    units: Mapping[str, str] = field(default_factory=dict)
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


def nearest(word: str, among: Sequence[str]) -> str | None:
    """The most similar of several names, or None where none is similar."""
    lower = {a.casefold(): a for a in among}
    hits = difflib.get_close_matches(word.casefold(), list(lower), n=1, cutoff=0.55)
    return lower[hits[0]] if hits else None


def collect(images: Sequence[LabelledImage], dropped: Sequence[Dropped], settings: LabelledData) -> Collection:
    """Samples of labelled images, with options, answers, reasoning, captions and splits.

    Raises:
        EosinError: fewer than two or more than 26 classes; names in the settings that the data does not have;
            a split without groups; a group in two splits.
    """
    images, unlabelled = _with_labels(images, settings)
    _check_labels(images, settings)
    classes = sorted({_text(i.label, settings) for i in images})
    splits, more_dropped = _splits(images, settings)
    outcomes = unique(_sample(image, classes, splits[image.name], settings) for image in images if image.name in splits)
    made = filtered(outcomes)
    refuse_shared_groups(made.kept, "hold out by the group itself, or mend the split column")
    capped = _cap(made.kept, settings)
    samples: Filtered[Sample] = Filtered(
        capped.kept, (*dropped, *unlabelled, *more_dropped, *made.dropped, *capped.dropped)
    )
    if not samples.kept:
        raise EosinError(
            "No image of this source could be used.", where=settings.root,
            found=", ".join(f"{n} x {reason}" for reason, n in samples.reasons().items()),
        )  # fmt: skip
    return Collection(card=card_of(samples.kept, settings), samples=samples, warnings=split_warnings(samples.kept))


def _text(label: str, settings: LabelledData) -> str:
    return settings.class_text.get(label, label)


def _with_labels(images: Sequence[LabelledImage], settings: LabelledData) -> tuple[list[LabelledImage], list[Dropped]]:
    """Images with a class. "NaN" and "N/A" are none, unless class_text says what they mean."""
    kept: list[LabelledImage] = []
    dropped: list[Dropped] = []
    for image in images:
        if image.label in settings.class_text or not is_missing(image.label):
            kept.append(image)
        else:
            dropped.append(Dropped(f"{settings.name}/{image.name}", "no label", repr(image.label), STEP))
    return kept, dropped


def _check_spelling(texts: Sequence[str], settings: LabelledData) -> None:
    """Options are compared without case: classes that differ in nothing else cannot stand in one question."""
    alike: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        alike[text.strip().casefold()].append(text)
    twice = [names for names in alike.values() if len(names) > 1]
    if twice:
        merged = ", ".join(f"{n!r}: {names[0]!r}" for names in twice for n in names[1:])
        raise EosinError(
            "Some classes differ only in case or blanks.", expected="one spelling of a class",
            found="; ".join(" and ".join(map(repr, names)) for names in twice), where=settings.root,
            next_step=f"merge them in the recipe's data: class_text: {{{merged}}}",
        )  # fmt: skip


def _check_labels(images: Sequence[LabelledImage], settings: LabelledData) -> None:
    labels = sorted({i.label for i in images})
    texts = sorted({_text(label, settings) for label in labels})
    for name, allowed in (("class_text", labels), ("descriptions", sorted({*labels, *texts}))):
        for key in getattr(settings, name):
            if key not in allowed:
                near = nearest(key, allowed)
                raise EosinError(
                    f"The recipe's data.{name} names a class that the data does not have.",
                    expected=", ".join(allowed), found=key, where=settings.root,
                    next_step=f"write {near!r} instead" if near else f"remove the line {key!r}",
                )  # fmt: skip
    _check_spelling(texts, settings)
    if not 2 <= len(texts) <= MAX_CLASSES:
        raise EosinError(
            "A question needs at least two classes." if len(texts) < 2 else "There are too many classes.",
            expected=f"2 to {MAX_CLASSES} classes",
            found=f"{len(texts)}: {', '.join(texts[:30])}" if texts else "none",
            where=settings.root,
            next_step="check the label column or the folder names; class_text can merge classes",
        )


def _splits(images: Sequence[LabelledImage], settings: LabelledData) -> tuple[dict[str, Split | None], list[Dropped]]:
    """Split of every image by its name. Images whose own split word is unknown are dropped."""
    splits: dict[str, Split | None] = {}
    dropped: list[Dropped] = []
    held = {"test": settings.hold_out, "valid": settings.hold_out_valid}
    _check_hold_out(images, settings)
    for image in images:
        if image.name in splits:
            continue  # a second row of one name is dropped later; the first one's split counts
        split: Split | None = None
        if image.split is not None:
            try:
                split = read_split(image.split.strip() or "nothing")
            except ValueError as exc:
                dropped.append(Dropped(f"{settings.name}/{image.name}", "unknown split", str(exc), STEP))
                continue
        for name, columns in held.items():
            if any(image.columns.get(c) in values for c, values in columns.items()):
                split = read_split(name)
        splits[image.name] = split
    _draw_fractions(images, splits, settings)
    says_something = settings.hold_out or settings.hold_out_valid or any(splits.values())
    if says_something:
        splits = {name: split or "train" for name, split in splits.items()}
    return splits, dropped


def _check_hold_out(images: Sequence[LabelledImage], settings: LabelledData) -> None:
    for setting in ("hold_out", "hold_out_valid"):
        for column, values in getattr(settings, setting).items():
            known = sorted({c for i in images for c in i.columns})
            if column not in known:
                near = nearest(column, known)
                raise EosinError(
                    f"data.{setting} names a column that the data does not have.",
                    expected=", ".join(known) or "no column is known", found=column, where=settings.root,
                    next_step=f"write {setting}: {{{near or '...'}: [...]}}",
                )  # fmt: skip
            present = sorted({i.columns[column] for i in images if column in i.columns})
            absent = [v for v in values if v not in present]
            if absent:
                raise EosinError(
                    f"data.{setting} names values that do not stand in column {column!r}.",
                    expected="some of " + ", ".join(present[:20]) + (" ..." if len(present) > 20 else ""),
                    found=", ".join(absent), where=settings.root,
                )  # fmt: skip


def _draw_fractions(images: Sequence[LabelledImage], splits: dict[str, Split | None], settings: LabelledData) -> None:
    """Fill `splits` in place for images without one, by whole groups."""
    if not (settings.valid_fraction or settings.test_fraction):
        return
    open_images = [i for i in images if i.name in splits and splits[i.name] is None]
    groups = [_group(i, settings) for i in open_images]
    if None in groups:
        raise EosinError(
            "A split by image is refused: tiles of one slide would stand on both sides.",
            expected="the patient, case or slide of every image",
            found=f"{groups.count(None)} images without one",
            where=settings.root,
            next_step="set group_column (table), pattern or groups_csv (folder); "
            "one_group_per_file: true says that no two files belong together",
        )
    drawn = assign_groups(
        [g for g in groups if g is not None],
        [_text(i.label, settings) for i in open_images],
        valid_fraction=settings.valid_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
    )
    for image, group in zip(open_images, groups, strict=True):
        splits[image.name] = drawn[group or ""]


def _units(image: LabelledImage, settings: LabelledData) -> dict[str, str]:
    units = dict(image.units)
    if settings.one_group_per_file and not units:
        units["case"] = image.name
    return units


def _group(image: LabelledImage, settings: LabelledData) -> str | None:
    units = _units(image, settings)
    return next((f"{k}:{units[k]}" for k in ("patient", "case", "slide", "article") if k in units), None)


def _sample(
    image: LabelledImage, classes: Sequence[str], split: Split | None, settings: LabelledData
) -> Kept[Sample] | Dropped:
    sample_id = f"{settings.name}/{image.name}"
    try:
        data = read_bytes(ImageFile(path=str(image.path)))
    except ImageError as exc:
        return Dropped(sample_id, exc.message, str(image.path), STEP)
    ref: ImageRef
    if settings.embed_images:
        ref = ImageBytes(data=data)
    else:
        ref = ImageFile(path=str(image.path), sha256=hashlib.sha256(data).hexdigest())
    name = _text(image.label, settings)
    rng = random.Random(f"{settings.seed}:{sample_id}")
    options = list(classes)
    rng.shuffle(options)
    extra = {**image.extra, **({"source_label": image.label} if image.label != name else {})}
    fields = {
        "id": sample_id,
        "images": (ref,),
        "messages": user_prompt(rng.choice(settings.questions or QUESTIONS)),
        "choices": make_choices(options),
        "answer": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[options.index(name)],
        "label": name,
        "entities": (Entity(name=name, kind="class"),),
        "split": split,
        "extra": extra,
        **_words(image.label, name, settings, rng),
        "origin": {
            "source": settings.name, "licence": settings.licence, "modality": settings.modality,
            "organ": settings.organ, "stain": settings.stain, "mpp": settings.mpp,
            "digest": digest_of([data]), **_units(image, settings),
        },
    }  # fmt: skip
    return make_sample(fields, sample_id)


def _words(label: str, name: str, settings: LabelledData, rng: random.Random) -> dict[str, Any]:
    """Findings, reasoning and caption, from the user's descriptions where there are any."""
    wordings = settings.descriptions.get(label) or settings.descriptions.get(name)
    if not wordings:
        plain = PLAIN.format(name=name)
        return {"reasoning": (plain,), "caption": plain}
    wording = rng.choice(wordings).strip()
    closing = rng.choice(CLOSINGS).format(name=name)
    steps = [s.strip() for s in re.split(r"(?<=[.!?])\s+", wording) if s.strip()]
    return {"findings": wording, "reasoning": (*steps, closing), "caption": f"{wording} {closing}"}


def _cap(samples: Sequence[Sample], settings: LabelledData) -> Filtered[Sample]:
    limit = settings.max_train_per_class
    if limit is None:
        return Filtered(tuple(samples), ())
    by_class: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if sample.split in (None, "train"):
            by_class[sample.label or ""].append(sample.id)
    chosen: set[str] = set()
    for label, ids in sorted(by_class.items()):
        random.Random(f"cap:{settings.seed}:{label}").shuffle(ids)
        chosen.update(ids[:limit])
    return filtered(
        Kept(s)
        if s.split not in (None, "train") or s.id in chosen
        else Dropped(s.id, "more than max_train_per_class", s.label or "", STEP)
        for s in samples
    )


def card_of(samples: Sequence[Sample], settings: LabelledData) -> Card:
    """The card of a labelled source, with the counts of its samples."""
    group = next((s.origin.group for s in samples if s.origin.group), None)
    unit = "file" if settings.one_group_per_file else group.split(":")[0] if group else None
    card = Card(
        name=settings.name, title=settings.title, licence=settings.licence, citation=settings.citation,
        homepage=settings.homepage, split_unit=unit, modality=settings.modality, organ=settings.organ,
        stain=settings.stain, mpp=settings.mpp,
    )  # fmt: skip
    return card.counted(samples)
