"""Copies are dropped once each; contradictions wholly; look-alikes across groups are reported."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_samples import picture, sample
from PIL import Image

from eosin.core.images import decode
from eosin.core.nouns.sample import ImageBytes, ImageFile, SlideRegion, make_choices, user_prompt
from eosin.core.nouns.units import BoxLevel0
from eosin.curate import dedupe
from eosin.curate.hashes import bit_count, dhash, image_digest, near_pairs, remembering


def test_ids_stand_once() -> None:
    one = sample("a")
    result = dedupe([one, one, sample("a", 5), sample("b")]).samples
    assert [s.id for s in result.kept] == ["a", "b"]
    assert result.kept[0] is one
    assert [(d.id, d.reason) for d in result.dropped] == [("a", "exact duplicate"), ("a", "duplicate id")]


def test_the_same_image_and_question_under_two_ids_whatever_the_order_of_options() -> None:
    turned = sample("b", 7, choices=make_choices(["gland", "fat"]), answer="B", messages=user_prompt("Which class?"))
    result = dedupe([sample("a", 7), turned]).samples
    assert [s.id for s in result.kept] == ["a"]
    assert [(d.reason, d.detail) for d in result.dropped] == [("same image and question", "as a")]


def test_several_questions_about_one_image_are_kept() -> None:
    other = sample("b", 7, choices=make_choices(["benign", "malignant"]))
    opened = sample("c", 7, choices=(), answer="fat")
    opened_again = sample("d", 7, choices=(), answer="fat", messages=user_prompt("Name the tissue."))
    assert len(dedupe([sample("a", 7), other, opened, opened_again]).samples.kept) == 4


def test_contradicting_labels_of_one_image_are_all_dropped() -> None:
    result = dedupe([sample("a", 7), sample("b", 7, answer="B"), sample("c", 7), sample("d", 8)]).samples
    assert [s.id for s in result.kept] == ["d"]
    assert result.reasons() == {"same image, different answers": 3}
    assert result.num_in == 4


def test_look_alikes_across_groups_are_reported_and_kept() -> None:
    result = dedupe(
        [sample("a", 7, case="1"), sample("b", 7, 3, case="2"), sample("c", 7, 5, case="1"), sample("d", 9, case="3")]
    )
    assert len(result.samples.kept) == 4
    assert {(p.first, p.second, p.distance) for p in result.near} == {("a", "b", 0), ("b", "c", 0)}
    assert {(p.first_group, p.second_group) for p in result.near} == {
        ("case:1", "case:2"),
        ("case:2", "case:1"),
    }
    assert dedupe(result.samples.kept, perceptual=False).near == ()


def test_blank_tiles_are_no_look_alikes() -> None:
    from eosin.core.images import encode_png

    blank = [encode_png(Image.new("RGB", (64, 64), (240 + i, 240, 240))) for i in range(3)]
    group = [sample(f"s{i}", images=(ImageBytes(data=b),), case=str(i)) for i, b in enumerate(blank)]
    assert dedupe(group).near == ()
    assert dhash(decode(blank[0])) is None


def test_images_that_cannot_be_read_are_left_to_validate() -> None:
    gone = [sample(n, images=(ImageFile(path="/nowhere/a.png"),)) for n in "ab"]
    assert len(dedupe(gone).samples.kept) == 2


def test_dhash_by_hand() -> None:
    rising = np.tile(np.arange(0, 90, 10, dtype=np.uint8), (8, 1))
    assert dhash(Image.fromarray(rising)) == 0
    assert dhash(Image.fromarray(rising[:, ::-1].copy())) == 2**64 - 1
    one = rising.copy()
    one[0, 0] = 50  # brighter than its right neighbour: the first bit
    assert dhash(Image.fromarray(one)) == 1 << 63


def test_dhash_survives_jpeg_and_brightness_and_tells_pictures_apart() -> None:
    import io

    original = decode(picture(11))
    buffer = io.BytesIO()
    original.save(buffer, "JPEG", quality=80)
    first, second, other = (dhash(i) for i in (original, decode(buffer.getvalue()), decode(picture(12))))
    assert first is not None
    assert second is not None
    assert other is not None
    assert (first ^ second).bit_count() <= 2
    assert (first ^ other).bit_count() > 10


hashes = st.lists(st.integers(0, 2**64 - 1), max_size=20)


@given(hashes, hashes, st.integers(0, 40))
def test_near_pairs_are_all_pairs_by_definition(left: list[int], right: list[int], distance: int) -> None:
    expected = [
        (i, j, d) for i, a in enumerate(left) for j, b in enumerate(right) if (d := (a ^ b).bit_count()) <= distance
    ]
    assert sorted(near_pairs(left, right, distance)) == expected


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_bit_count_also_without_the_new_numpy(values: list[int]) -> None:
    expected = [v.bit_count() for v in values]
    array = np.array(values, dtype=np.uint64)
    assert bit_count(array).tolist() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "bitwise_count", raising=False)
        assert bit_count(array).tolist() == expected


def test_near_pairs_over_many_blocks() -> None:
    values = [int(v) for v in np.random.default_rng(0).integers(0, 2**63, 2500)]
    assert near_pairs(values, values, 0) == [(i, i, 0) for i in range(2500)]


def test_digests_of_regions_and_of_nothing() -> None:
    def region(x: int) -> SlideRegion:
        return SlideRegion(path="s.svs", box=BoxLevel0(x0=x, y0=0, x1=x + 9, y1=9))

    a, b = (sample(f"s{x}", images=(region(x),)) for x in (0, 1))
    assert image_digest(a) != image_digest(b)
    assert image_digest(a) == image_digest(sample("other", images=(region(0),)))
    assert image_digest(sample("n", images=(), messages=user_prompt("?", 0))) is None


def test_remembering_asks_once_for_each_id() -> None:
    asked: list[str] = []

    def count(s):  # type: ignore[no-untyped-def]
        asked.append(s.id)
        return 1

    remembered = remembering(count)
    assert [remembered(sample(n)) for n in "aab"] == [1, 1, 1]
    assert asked == ["a", "b"]
