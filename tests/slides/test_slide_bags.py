"""A bag reference becomes patches: places in µm, clusters taken out, and the true reason where it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eosin.core.errors import ImageError
from eosin.core.images import load_image, load_picture
from eosin.core.nouns.sample import SlideBag
from eosin.slides.features.bags import BagCache, read_bag
from eosin.slides.features.h5 import FeatureBag, TileGeometry, write_bag
from eosin.slides.features.regions import SlideRegions


def _file(path: Path, num: int = 6, **changes: object) -> SlideBag:
    rng = np.random.default_rng(0)
    coords = np.stack([np.arange(num) * 256, np.arange(num) % 2 * 256], 1).astype(np.int64)
    bag = FeatureBag(
        "s1", rng.standard_normal((num, 4)).astype(np.float32), coords,
        TileGeometry(tile_px=128, side_level0=256, mpp=1.0, level0_mpp=0.5),
    )  # fmt: skip
    write_bag(path, replace(bag, **changes), encoder_name="toy")  # type: ignore[arg-type]
    return SlideBag(path=str(path), encoder="toy")


def test_places_and_scale_are_those_of_the_file(tmp_path: Path) -> None:
    bag = read_bag(_file(tmp_path / "s1.h5"))
    assert bag.tile_um == 128 and bag.mpp == 1.0 and bag.encoder == "toy" and len(bag) == 6
    # the second tile's corner is (256, 256) px of level 0 at 0.5 µm/px; its centre lies 64 µm further
    assert bag.centres_um[1].tolist() == [192.0, 192.0]
    assert bag.numbers.tolist() == [0, 1, 2, 3, 4, 5]


def test_patches_of_hidden_clusters_are_not_shown(tmp_path: Path) -> None:
    ref = _file(tmp_path / "s1.h5")
    np.save(tmp_path / "clusters.npy", np.array([0, 1, 2, 0, 1, 2]))
    hidden = ref.model_copy(update={"clusters": str(tmp_path / "clusters.npy"), "without_clusters": (1,)})
    for bag in (read_bag(hidden), BagCache(2**20).get(hidden), load_picture(hidden, SlideRegions())):
        assert bag.numbers.tolist() == [0, 2, 3, 5]  # type: ignore[union-attr]
    everything = hidden.model_copy(update={"without_clusters": (0, 1, 2)})
    with pytest.raises(ImageError, match="every patch"):
        read_bag(everything)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"coords": None}, "without coordinates"), ({"geometry": TileGeometry()}, "scale")],
)
def test_what_a_file_lacks_is_named(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    from eosin.slides.features.bags import patch_bag
    from eosin.slides.features.h5_read import read_h5

    ref = _file(tmp_path / "s1.h5")
    with pytest.raises(ImageError, match=reason):
        patch_bag(replace(read_h5(tmp_path / "s1.h5"), **changes), ref)  # type: ignore[arg-type]


def test_other_encoders_missing_files_and_pixels_are_refused(tmp_path: Path) -> None:
    ref = _file(tmp_path / "s1.h5")
    with pytest.raises(ImageError, match="another encoder") as caught:
        read_bag(ref.model_copy(update={"encoder": "uni"}))
    assert caught.value.found == "toy" and "uni" in (caught.value.next_step or "")
    with pytest.raises(ImageError):
        read_bag(ref.model_copy(update={"path": str(tmp_path / "none.h5")}))
    with pytest.raises(ImageError, match="no pixels"):
        load_image(ref)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    ref = _file(tmp_path / "s1.h5")
    cache = BagCache(2**20)
    assert len(cache.get(ref)) == 6 and cache.get(ref) is cache.get(ref)
    (tmp_path / "s1.h5").unlink()
    _file(tmp_path / "s1.h5", num=4)
    assert len(cache.get(ref)) == 4


def test_damaged_clusters_and_odd_paths_have_their_reason(tmp_path: Path) -> None:
    ref = _file(tmp_path / "s1.h5")
    clusters = tmp_path / "clusters.npy"
    np.save(clusters, np.zeros(6, int))
    whole = clusters.read_bytes()
    hidden = ref.model_copy(update={"clusters": str(clusters), "without_clusters": (1,)})
    assert len(read_bag(hidden)) == 6
    huge = whole.replace(b"(6,)", b"(9999999999,)").replace(b"         ", b"", 1)
    for content in (b"", b"PK\x03\x04", whole[:20], whole[:-8], huge, b"\x93NUMPY\x01\x00\x02\x00()"):
        clusters.write_bytes(content)
        with pytest.raises(ImageError, match="clusters of this slide not readable"):
            read_bag(hidden)
    np.savez(tmp_path / "several.npz", a=np.zeros(6), b=np.zeros(6))
    with pytest.raises(ImageError, match="clusters of this slide not readable"):
        read_bag(hidden.model_copy(update={"clusters": str(tmp_path / "several.npz")}))
    np.save(clusters, np.zeros(5, int))
    with pytest.raises(ImageError, match="clusters of another bag"):
        read_bag(hidden)
    for path in ("null\0.h5", "x" * 300 + ".h5"):
        with pytest.raises(ImageError, match="cannot be reached"):
            BagCache(2**20).get(SlideBag(path=path))
