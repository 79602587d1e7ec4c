"""Training samples whose images stand in valid or test, exactly or nearly, are taken out of training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from eosin.core.errors import ImageError
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Sample
from eosin.curate.hashes import HashOf, content_of, first_image_hash, near_pairs

STEP = "decontaminate"


def decontaminate(
    samples: Sequence[Sample],
    *,
    exams: Sequence[Sample] = (),
    max_distance: int = 2,
    perceptual: bool = True,
    hash_of: HashOf = first_image_hash,
) -> Filtered[Sample]:
    """Drop training samples that show an image of an exam. Samples of valid and test are never touched.

    Exact means: one of the encoded images is the same, byte for byte. Near means: the 64-bit difference
    hashes of the first images differ in at most `max_distance` bits (nearly flat images are left out).

    Args:
        samples: with their splits; a sample without a split counts as training.
        exams: further samples to protect, such as the questions of a benchmark.
        hash_of: perceptual hash of a sample; pass a remembering one to share work between steps.
    """
    protected = [s for s in samples if s.split in ("valid", "test")] + list(exams)
    training = [s for s in samples if s.split not in ("valid", "test")]
    exact = {digest: s for s in protected for digest in image_keys(s)}
    verdicts: dict[int, Dropped] = {}
    for i, sample in enumerate(training):
        hit = next((exact[k] for k in image_keys(sample) if k in exact), None)
        if hit is not None:
            verdicts[i] = Dropped(sample.id, f"image stands in {_split(hit)}", f"as {hit.id}", STEP)
    if perceptual:
        rest = [i for i in range(len(training)) if i not in verdicts]
        verdicts |= _near(training, rest, protected, max_distance, hash_of)
    by_identity = {id(training[i]): verdict for i, verdict in verdicts.items()}
    return filtered(by_identity.get(id(s), Kept(s)) if s.split not in ("valid", "test") else Kept(s) for s in samples)


def _split(sample: Sample) -> str:
    return sample.split or "an exam"


def image_keys(sample: Sample) -> list[str]:
    """One key for each readable image."""
    keys = []
    for ref in sample.images:
        try:
            keys.append(hashlib.sha256(content_of(ref)).hexdigest())
        except ImageError:
            continue
    return keys


def _near(
    training: Sequence[Sample],
    rest: Sequence[int],
    protected: Sequence[Sample],
    max_distance: int,
    hash_of: HashOf,
) -> dict[int, Dropped]:
    left = [(i, h) for i in rest if (h := hash_of(training[i])) is not None]
    right = [(s, h) for s in protected if (h := hash_of(s)) is not None]
    verdicts: dict[int, Dropped] = {}
    for i, j, distance in near_pairs([h for _, h in left], [h for _, h in right], max_distance):
        index, hit = left[i][0], right[j][0]
        detail = f"as {hit.id}, {distance} of 64 bits differ"
        verdicts.setdefault(index, Dropped(training[index].id, f"image nearly stands in {_split(hit)}", detail, STEP))
    return verdicts
