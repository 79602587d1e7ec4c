"""The first step of a curation: samples from their source into shards, and what cannot be taken set aside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import ImageBytes, Sample
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.curate.engine.shards import Place

STEP = "read"
SHARD_BYTES = 64 * 2**20
Outcome = Kept[Sample] | Dropped
UNKNOWN = {"", "unknown", "none", "n/a"}


def read_into(outcomes: Iterable[Outcome], place: Place, recipe: CurationRecipe, report: Callable[[int], None]) -> int:
    """Write what a source gives as shards; shards that an earlier run wrote are passed over. Gives their number."""
    number = 0
    for number, part in enumerate(_parts(_checked(outcomes, recipe), recipe.shard_samples)):
        if not place.has(number):
            place.write(number, part)
        report(number + 1)
    return number + 1


def _parts(outcomes: Iterable[Outcome], size: int) -> Iterator[list[Outcome]]:
    """Outcomes in lists of at most `size`, or about 64 MiB of pictures. At least one list, which may be empty."""
    part: list[Outcome] = []
    num_bytes, given = 0, False
    for outcome in outcomes:
        part.append(outcome)
        if isinstance(outcome, Kept):
            num_bytes += sum(len(r.data) for r in outcome.value.images if isinstance(r, ImageBytes))
        if len(part) >= size or num_bytes >= SHARD_BYTES:
            yield part
            part, num_bytes, given = [], 0, True
    if part or not given:
        yield part


def _checked(outcomes: Iterable[Outcome], recipe: CurationRecipe) -> Iterator[Outcome]:
    """Let each id pass once; set aside what has no licence, and texts that are too long."""
    seen: dict[int, int] = {}
    for outcome in outcomes:
        if isinstance(outcome, Dropped):
            yield outcome
            continue
        sample = outcome.value
        key, whole = _number(sample.id.encode("utf-8", "surrogatepass")), _whole(sample)
        if key in seen:
            same = seen[key] == whole
            detail = "the same sample stands earlier" if same else "another sample with this id stands earlier"
            yield Dropped(sample.id, "exact duplicate" if same else "duplicate id", detail, STEP)
            continue
        seen[key] = whole
        if (length := _length(sample)) > recipe.max_text_chars:
            detail = f"{length:,} letters, at most {recipe.max_text_chars:,}"
            yield Dropped(sample.id, "text too long", detail, STEP)
        elif recipe.unknown_licence == "drop" and sample.origin.licence.strip().lower() in UNKNOWN:
            yield Dropped(sample.id, "no licence", f"the data set {sample.origin.source} names none", STEP)
        else:
            yield outcome


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "big")


def _whole(sample: Sample) -> int:
    total = hashlib.blake2b(digest_size=16)
    for ref in sample.images:
        total.update(ref.data if isinstance(ref, ImageBytes) else ref.model_dump_json().encode())
    total.update(sample.model_dump_json(exclude={"images"}).encode("utf-8", "surrogatepass"))
    return int.from_bytes(total.digest(), "big")


def _length(sample: Sample) -> int:
    own = sum(len(m.text) for m in sample.messages) + sum(len(c.text) for c in sample.choices)
    told = (sample.answer, sample.caption, sample.findings, sample.label, *sample.reasoning)
    return own + sum(len(t) for t in told if t)
