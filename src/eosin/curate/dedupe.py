"""The same sample twice: by id, by exact images with the same question; similar images are reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from eosin.core.formats.rows import Outcome
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Sample
from eosin.curate.hashes import HashOf, first_image_hash, image_digest, near_pairs

STEP = "dedupe"
_PLAIN_OPTIONS = frozenset({"yes", "no", "true", "false"})


@dataclass(frozen=True)
class NearPair:
    """Two samples of different groups whose first images look alike. `distance` is in bits of 64."""

    first: str
    second: str
    first_group: str
    second_group: str
    distance: int


@dataclass(frozen=True)
class Deduped:
    """What is left, and near pairs across groups: a slide scanned twice, or a wrong group."""

    samples: Filtered[Sample]
    near: tuple[NearPair, ...]


def dedupe(
    samples: Sequence[Sample],
    *,
    max_distance: int = 2,
    perceptual: bool = True,
    hash_of: HashOf = first_image_hash,
) -> Deduped:
    """Drop exact copies; report near copies across groups.

    Dropped are: a later sample with an id that stands already; a later sample with the same encoded images,
    the same question matter (options; the text, where there are none) and the same answer; and all samples
    that ask the same of the same images and answer differently, because none of them is known to be right.
    A sample that a mixture shows again (`repeat_of`) stays with the one that it repeats.

    Args:
        max_distance: near means that at most so many of 64 hash bits differ.
        perceptual: whether to compute perceptual hashes at all.
        hash_of: perceptual hash of a sample; pass a remembering one to share work between steps.
    """
    by_id = filtered(_unique_ids(samples))
    digests = [image_digest(s) for s in by_id.kept]
    contradicting = _contradicting(by_id.kept, digests)
    kept = filtered(_unique_images(by_id.kept, digests, contradicting))
    result = Filtered(kept.kept, (*by_id.dropped, *kept.dropped))
    return Deduped(result, near_across_groups(result.kept, max_distance, hash_of) if perceptual else ())


def _unique_ids(samples: Sequence[Sample]) -> list[Outcome]:
    seen: dict[str, Sample] = {}
    outcomes: list[Outcome] = []
    for sample in samples:
        first = seen.get(sample.id)
        if first is None:
            seen[sample.id] = sample
            outcomes.append(Kept(sample))
        else:
            reason = "exact duplicate" if first == sample else "duplicate id"
            outcomes.append(Dropped(sample.id, reason, "", STEP))
    return outcomes


def _matter(sample: Sample, digest: str) -> tuple[object, ...]:
    """What is asked of which images, whatever the order of options and the wording of a closed question.

    Where the options are yes and no, the wording says what is asked.
    """
    return (digest, question_matter(sample))


def question_matter(sample: Sample) -> frozenset[str] | tuple[str, ...]:
    """What is asked, without the pictures: the options, or the texts where there are none or they are yes and no."""
    options = frozenset(c.text for c in sample.choices)
    if options and not {o.strip().casefold() for o in options} <= _PLAIN_OPTIONS:
        return options
    return tuple(m.text for m in sample.messages)


def repeat_of(sample: Sample) -> str | None:
    """The id of the sample that this one repeats, as a mixture that shows scarce samples again names it; else None."""
    name, sign, number = sample.id.rpartition("~")
    return name if sign and number.isdecimal() and sample.origin.parents[-1:] == (name,) else None


def _contradicting(samples: Sequence[Sample], digests: Sequence[str | None]) -> set[tuple[object, ...]]:
    answers: dict[tuple[object, ...], set[str | None]] = defaultdict(set)
    for sample, digest in zip(samples, digests, strict=True):
        if digest is not None and sample.choices:
            answers[_matter(sample, digest)].add(sample.answer_text)
    return {matter for matter, given in answers.items() if len(given) > 1}


def _unique_images(
    samples: Sequence[Sample], digests: Sequence[str | None], contradicting: set[tuple[object, ...]]
) -> list[Outcome]:
    seen: dict[tuple[object, ...], str] = {}
    outcomes: list[Outcome] = []
    for sample, digest in zip(samples, digests, strict=True):
        if digest is None:
            outcomes.append(Kept(sample))
            continue
        matter = _matter(sample, digest)
        if matter in contradicting:
            outcomes.append(Dropped(sample.id, "same image, different answers", str(sample.answer_text), STEP))
            continue
        own = repeat_of(sample) or sample.id
        first = seen.setdefault((*matter, sample.answer_text), own)
        if first == own:
            outcomes.append(Kept(sample))
        else:
            outcomes.append(Dropped(sample.id, "same image and question", f"as {first}", STEP))
    return outcomes


def near_across_groups(
    samples: Sequence[Sample],
    max_distance: int,
    hash_of: HashOf = first_image_hash,
) -> tuple[NearPair, ...]:
    """Pairs of samples from different groups whose first images look alike, nearest first."""
    hashed = [(s, h) for s in samples if s.origin.group is not None and (h := hash_of(s)) is not None]
    hashes = [h for _, h in hashed]
    pairs = []
    for i, j, distance in near_pairs(hashes, hashes, max_distance):
        a, b = hashed[i][0], hashed[j][0]
        if i < j and a.origin.group != b.origin.group:
            pairs.append(NearPair(a.id, b.id, a.origin.group or "", b.origin.group or "", distance))
    return tuple(sorted(pairs, key=lambda p: p.distance))
