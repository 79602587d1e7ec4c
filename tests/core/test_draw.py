"""Seeded parts of the training patients: disjoint, whole groups, with the classes of the whole."""

from __future__ import annotations

from collections import Counter

from eosin.core.draw import part_of
from eosin.core.nouns.sample import Message, Origin, Sample, TextPart

TURNS = tuple(Message(role=r, parts=(TextPart(text="x"),)) for r in ("system", "user"))


def samples_of(cases: int, tiles: int) -> list[Sample]:
    """`cases` patients of four classes with `tiles` samples each."""
    return [
        Sample(
            id=f"{case}-{tile}", messages=TURNS, label=f"class {case % 4}",
            origin=Origin(source="test", patient=f"p{case}"),
        )
        for case in range(cases)
        for tile in range(tiles)
    ]  # fmt: skip


def test_parts_that_do_not_overlap_share_no_patient_and_keep_the_classes() -> None:
    samples = samples_of(40, 3)
    first, second = part_of(samples, (0.0, 0.7), 5), part_of(samples, (0.7, 1.0), 5)
    assert {s.id for s in first} | {s.id for s in second} == {s.id for s in samples}
    assert not {s.origin.patient for s in first} & {s.origin.patient for s in second}
    assert Counter(s.label for s in first) == {f"class {i}": 21 for i in range(4)}
    assert part_of(samples, (0.0, 0.7), 5) == first
    assert part_of(samples, (0.0, 0.7), 6) != first
    assert part_of(samples, None, 5) == samples


def test_a_patient_with_two_classes_stands_in_one_part() -> None:
    samples = samples_of(8, 1) + [
        Sample(id=f"x{i}", messages=TURNS, label="class 3", origin=Origin(source="test", patient=f"p{i}"))
        for i in range(8)
    ]
    parts = [part_of(samples, (i / 4, (i + 1) / 4), 0) for i in range(4)]
    assert sum(map(len, parts)) == len(samples)
    patients = [{s.origin.patient for s in part} for part in parts]
    assert not any(patients[i] & patients[j] for i in range(4) for j in range(i))


def test_samples_without_a_patient_stand_for_themselves() -> None:
    samples = [Sample(id=str(i), messages=TURNS, origin=Origin(source="test")) for i in range(10)]
    assert len(part_of(samples, (0.0, 0.5), 0)) == 5
