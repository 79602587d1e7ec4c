"""Near texts and near pictures among others: what is found, what is not, and which one stays."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from planted_pictures import jpeg, stained, texture

from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, user_prompt
from eosin.curate.copies.choose import Edge, choose
from eosin.curate.copies.groups import Groups
from eosin.curate.copies.marks import DIMS
from eosin.curate.copies.pictures import Pictures, _votes, measure_pictures
from eosin.curate.copies.texts import Bands, band_keys, bucket_pairs, jaccard, runs
from eosin.curate.steps.split import group_key


def test_runs_of_words_are_those_of_the_text_alone() -> None:
    values, offsets = runs(["The crypt is branched here", "crypt is BRANCHED", "", "one two"], 3)
    assert offsets.tolist() == [0, 3, 4, 4, 5]
    assert values[1] == values[3]  # "crypt is branched", whatever stands around it
    assert len(set(values.tolist())) == 4
    _, none = runs(["one two"], 3, min_words=3)
    assert none.tolist() == [0, 0]


def test_bands_find_pairs_at_the_threshold_and_the_sets_decide() -> None:
    rng = random.Random(3)
    words = [f"w{i}" for i in range(4000)]
    base = [[rng.choice(words) for _ in range(62)] for _ in range(300)]
    changed = []
    for text in base[:100]:  # one word of 62 in the middle: 57 of 60 runs stay, J = 57 / 63
        copy = list(text)
        copy[30] = "other"
        changed.append(copy)
    texts = [" ".join(t) for t in base + changed]
    values, offsets = runs(texts, 3)
    sets = [np.unique(values[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    assert jaccard(sets[0], sets[300]) == pytest.approx(57 / 63)
    found = {(int(i), int(j)) for i, j in bucket_pairs(band_keys(values, offsets, Bands.for_threshold(0.9)))}
    assert len(found & {(i, 300 + i) for i in range(100)}) >= 97
    assert len(found) < 150


def test_bands_are_as_long_as_128_minima_allow() -> None:
    shape = Bands.for_threshold(0.8)
    assert shape.rows * shape.bands <= 128
    assert 1 - (1 - 0.8**shape.rows) ** shape.bands >= 0.99


def test_of_copies_the_most_protected_stays_and_each_that_goes_is_near_one_that_stays() -> None:
    edges = [Edge(0, 1, 0.9, "near"), Edge(1, 2, 0.95, "near"), Edge(2, 3, 0.9, "near")]
    gone = choose(edges, [2, 2, 0, 2])
    assert {n: stays for n, (stays, _) in gone.items()} == {1: 2, 3: 2}  # 0 is near only 1, which goes: it stays


def test_groups_are_joined_over_any_chain() -> None:
    groups: Groups[str] = Groups()
    for a, b in (("a", "b"), ("c", "d"), ("b", "c"), ("a", "d")):
        groups.join(a, b)
    assert len({groups.root(x) for x in "abcd"}) == 1 and groups.root("e") == "e" and groups.num_joined == 3


def test_a_name_known_beyond_its_source_makes_one_group() -> None:
    def group(**origin: str) -> str | None:
        return group_key(Sample(id="x", messages=user_prompt("q", 0), origin=Origin(**origin)))

    assert group(source="a", article="PMC1234") == group(source="b", article="pmc1234")
    assert group(source="a", slide="TCGA-AB-1234-01Z") == group(source="b", case="TCGA-AB-1234")
    assert group(source="a", patient="17") != group(source="b", patient="17")


def shown(name: str, data: bytes) -> Sample:
    return Sample(id=name, images=(ImageBytes(data=data),), messages=user_prompt("q"), origin=Origin(source="t"))


def test_crops_turns_flips_encodings_and_stains_are_found_and_nothing_else() -> None:
    base = [texture(i) for i in range(14)]
    changed = {
        0: base[0].crop((20, 30, 130, 140)), 1: base[1].transpose(Image.Transpose.ROTATE_90), 2: jpeg(base[2]),
        3: base[3].transpose(Image.Transpose.FLIP_LEFT_RIGHT), 4: stained(base[4]),
        5: jpeg(stained(base[5].crop((0, 0, 120, 120)).transpose(Image.Transpose.TRANSPOSE))),
        6: base[6].rotate(20, Image.Resampling.BICUBIC).crop((30, 30, 130, 130)),
    }  # fmt: skip
    pictures = (
        base + list(changed.values()) + [Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "white")]
    )
    samples = [
        Sample(
            id=str(i), images=(ImageBytes(data=encode_png(p)),), messages=user_prompt("q"), origin=Origin(source="t")
        )
        for i, p in enumerate(pictures)
    ]
    held = Pictures(
        [pa.table(measure_pictures(samples[:9], crops=True)), pa.table(measure_pictures(samples[9:], crops=True))]
    )
    found = {(i, j) for i, j, _ in held.verified(held.candidates(crops=True))}
    assert found == {(i, 14 + n) for n, i in enumerate(changed)}  # two blank pictures are no copies
    whole = {(i, j) for i, j, _ in held.verified(held.candidates(crops=False)) if i in (1, 2, 3, 4)}
    assert whole == {(1, 15), (2, 16), (3, 17), (4, 18)}


def test_a_sample_without_a_readable_picture_is_compared_with_none(tmp_path: Path) -> None:
    broken = Sample(
        id="b", images=(ImageBytes(data=b"no picture"),), messages=user_prompt("q"), origin=Origin(source="t")
    )
    none = Sample(id="n", messages=user_prompt("q", 0), origin=Origin(source="t"))
    held = Pictures([pa.table(measure_pictures([broken, none], crops=True))])
    assert held.candidates(crops=True).tolist() == []


def test_pairs_of_a_bucket_are_those_of_every_size() -> None:
    """Buckets of one to seven rows in two columns, against the plain loop; 0 counts for nothing."""
    rng = np.random.default_rng(4)
    keys = rng.integers(0, 9, (40, 2), dtype=np.uint64)
    plain = {
        (i, j)
        for column in keys.T for i in range(40) for j in range(i + 1, 40)
        if column[i] == column[j] != 0
    }  # fmt: skip
    assert sorted(map(tuple, bucket_pairs(keys).tolist())) == sorted(plain)
    large = bucket_pairs(np.ones((5, 1), np.uint64), most=3)
    assert large.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4]]
    assert bucket_pairs(np.zeros((0, 3), np.uint64)).shape == bucket_pairs(np.zeros((4, 1), np.uint64)).shape == (0, 2)


def test_votes_of_a_pair_are_its_best_matches() -> None:
    """Mark 7 of picture 2 is counted once, by its better match; 0.9 + 0.5 by hand."""
    pictures = np.array([[1, 2], [1, 2], [1, 2], [0, 2]])
    pairs, votes = _votes(pictures, np.array([7, 8, 7, 7]), np.array([0.9, 0.5, 0.2, 0.1], np.float32))
    assert pairs.tolist() == [[0, 2], [1, 2]] and votes == pytest.approx([0.1, 1.4])


def test_pictures_with_many_common_marks_are_no_candidates() -> None:
    """Sixty pictures with forty marks of one kind, in the same cells; two share five others. Those two are one pair."""
    rng = np.random.default_rng(7)
    words = rng.normal(size=(60, 48, DIMS)).astype(np.float16)
    words[:, :40] *= np.float16(0.6)
    words[41, 40:45] = words[5, 40:45]
    rows = {
        "thumb": pa.array([bytes(64 * 64)] * 60, pa.binary()), "thumb_width": pa.array([64] * 60, pa.int32()),
        "places": pa.array([np.zeros((48, 3), np.float32).tobytes()] * 60, pa.binary()),
        "words": pa.array([w.tobytes() for w in words], pa.binary()),
    }  # fmt: skip
    assert Pictures([pa.table(rows)]).candidates(crops=True).tolist() == [[5, 41]]
