"""Feature files: TRIDENT's layout to the letter, CLAM's, SlideChat's, GigaPath's, zarr; nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.slides.encoders.records import record_of
from eosin.slides.features import h5
from eosin.slides.features.files import convert, read_features, read_zarr
from eosin.slides.features.h5 import FeatureBag, TileGeometry, magnification, write_bag, write_patches
from eosin.slides.features.h5_read import read_h5

h5py = pytest.importorskip("h5py", reason="feature files need eosin[slides]")

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(5, 8)).astype(np.float32)
COORDS = np.array([[0, 0], [256, 0], [512, 0], [0, 256], [7000, 123456]], np.int64)
PLACE = TileGeometry(tile_px=256, side_level0=512, mpp=0.5, level0_mpp=0.25)


def bag(**changes: Any) -> FeatureBag:
    return FeatureBag(**{"name": "a.b", "features": FEATURES, "coords": COORDS, "geometry": PLACE, **changes})


def csv_rows(extra: str = "") -> str:
    pairs = zip(FEATURES, COORDS, strict=True)
    return "\n".join(",".join([*(f"{v:.9g}" for v in f), str(c[0]), str(c[1])]) + extra for f, c in pairs)


# ---- TRIDENT -------------------------------------------------------------------------------------------------------


def test_folders_and_attributes_are_tridents_own(tmp_path: Path) -> None:
    folder = h5.coords_folder(tmp_path, 0.5, 256, 0)
    assert folder == tmp_path / "20x_256px_0px_overlap"
    file = h5.features_file(folder, "uni_v1", "a.b")
    assert file == folder / "features_uni_v1" / "a.b.h5"
    assert h5.patches_file(folder, "a.b") == folder / "patches" / "a.b_patches.h5"
    write_bag(file, bag(), encoder_name="uni")
    write_patches(h5.patches_file(folder, "a.b"), COORDS, PLACE, "a.b")
    trident = {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20,
               "overlap": 0, "name": "a.b", "savetodir": "20x_256px_0px_overlap"}  # fmt: skip
    with h5py.File(file) as held, h5py.File(h5.patches_file(folder, "a.b")) as corners:
        assert held["features"].shape == (5, 8) and held["features"].dtype == np.float32
        assert held["coords"].shape == (5, 2) and held["coords"].dtype == np.int64
        assert np.array_equal(held["features"][()], FEATURES) and np.array_equal(held["coords"][()], COORDS)
        for about in (held["coords"].attrs, corners["coords"].attrs):
            assert {k: about[k] for k in trident} == trident
        assert held["features"].attrs["name"] == "a.b"
        assert held["features"].attrs["savetodir"] == "features_uni_v1"


@pytest.mark.parametrize(
    ("mpp", "power"), [(0.5, 20), (0.499, 20), (0.2525, 40), (0.25, 40), (1.0, 10), (2.0, 5), (8, 1.25), (0.4, 25)]
)
def test_a_scale_is_called_by_its_nominal_power(mpp: float, power: float) -> None:
    assert magnification(mpp) == power and f"{magnification(mpp):g}" == f"{power:g}"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    failed = (((512, 512), "damaged"), ((1024, 0), "not encoded: é"))
    extra = {"tissue_fraction": np.linspace(0, 1, 5, dtype=np.float32), "flags": np.arange(5, dtype=np.uint8)}
    write_bag(tmp_path / "features_x" / "s.h5", bag(failed=failed, extra=extra))
    back = read_h5(tmp_path / "features_x" / "s.h5")
    assert np.array_equal(back.features, FEATURES) and back.coords is not None and np.array_equal(back.coords, COORDS)
    assert back.geometry == PLACE and back.failed == failed and back.layout == "trident" and back.encoder == "x"
    assert np.array_equal(back.extra["flags"], extra["flags"])
    centres = back.centres_um
    assert centres is not None and centres[1].tolist() == [(256 + 256) * 0.25, 64.0]


def test_the_same_bag_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_bag(tmp_path / name / "20x" / "features_x" / "s.h5", bag())
    a, b = (tmp_path / n / "20x" / "features_x" / "s.h5" for n in ("one", "two"))
    assert a.read_bytes() == b.read_bytes()


def test_a_file_of_tridents_own_making_is_read(tmp_path: Path) -> None:
    """As TRIDENT writes it: no scale in microns, no patch_size_level0 in its oldest files."""
    file = tmp_path / "20x_256px_0px_overlap" / "features_conch_v15" / "s.h5"
    file.parent.mkdir(parents=True)
    with h5py.File(file, "w") as held:
        held["features"], held["coords"] = FEATURES[None], COORDS
        held["coords"].attrs.update({"patch_size": np.int64(256), "level0_magnification": 40,
                                     "target_magnification": 20, "overlap": 16, "name": "s"})  # fmt: skip
    back = read_h5(file)
    assert back.features.shape == (5, 8) and back.encoder == "conch_v15" and back.layout == "trident"
    assert back.geometry == TileGeometry(256, 512.0, None, None, 16)
    assert back.centres_um is None  # no microns are made up


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), h5.whole_file(tmp_path / "s.h5") as file:
        file.create_dataset("features", data=FEATURES)
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


# ---- CLAM ----------------------------------------------------------------------------------------------------------


def test_clams_features_find_the_size_of_their_tiles_in_its_patches_file(tmp_path: Path) -> None:
    (tmp_path / "patches").mkdir()
    (tmp_path / "features" / "h5_files").mkdir(parents=True)
    with h5py.File(tmp_path / "patches" / "s.h5", "w") as held:
        held["coords"] = COORDS
        held["coords"].attrs.update({"patch_size": 256, "patch_level": 1, "downsample": np.array([4.0, 4.0])})
    file = tmp_path / "features" / "h5_files" / "s.h5"
    with h5py.File(file, "w") as held:
        held["features"], held["coords"] = FEATURES, COORDS.astype(np.int32)
    back = read_h5(file)
    assert back.layout == "clam" and back.geometry.side_level0 == 1024 and back.geometry.tile_px == 256
    assert back.coords is not None and back.coords.dtype == np.int64


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": FEATURES}, "holds no features"),
        ({"features": FEATURES, "coords": COORDS[:3]}, "do not match"),
        ({"features": FEATURES[0]}, "one row a tile"),
        ({"features": FEATURES[:0], "coords": COORDS[:0]}, "holds no tile"),
        ({"features": FEATURES * np.nan, "coords": COORDS}, "not finite"),
        ({"features": FEATURES, "coords": COORDS + np.nan}, "coordinates are not finite"),
    ],
)
def test_a_bag_that_cannot_be_used_says_why_and_where(
    tmp_path: Path, content: dict[str, np.ndarray], message: str
) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as held:
        for key, value in content.items():
            held[key] = value
    with pytest.raises(EosinError, match=message) as caught:
        read_features(tmp_path / "s.h5")
    assert "s.h5" in str(caught.value)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    write_bag(tmp_path / "whole.h5", bag())
    data = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 3])
    (tmp_path / "empty.h5").write_bytes(b"")
    for name in ("cut.h5", "empty.h5"):
        with pytest.raises(EosinError, match="cannot be read"):
            read_features(tmp_path / name)
    for name in ("none.h5", "none.csv", "none.pt"):
        with pytest.raises(EosinError, match="no such feature file|needs the package"):
            read_features(tmp_path / name)
    with pytest.raises(EosinError, match="no feature file"):
        read_features(tmp_path / "picture.png")


def test_features_of_another_encoder_scale_or_normalisation_are_refused(tmp_path: Path) -> None:
    uni = record_of("uni").model_copy(update={"dim": 8})
    for name, change, message in (
        ("right", {}, None),
        ("other", {"encoder": "virchow2"}, "another encoder"),
        ("scale", {"geometry": TileGeometry(256, 1024, 1.0, 0.25)}, "not trained for this scale"),
    ):
        file = tmp_path / name / f"{name}.h5"
        write_bag(
            file, bag(encoder="uni", **{"geometry": PLACE, **change}) if "encoder" not in change else bag(**change)
        )
        if message is None:
            assert len(read_features(file, encoder=uni).features) == 5
        else:
            with pytest.raises(EosinError, match=message):
                read_features(file, encoder=uni)
    told = json.loads(uni.model_dump_json()) | {"mean": [0.5, 0.5, 0.5]}
    with h5py.File(tmp_path / "right" / "right.h5", "a") as held:
        held["features"].attrs["encoder_record"] = json.dumps(told)
    with pytest.raises(EosinError, match="another mean"):
        read_features(tmp_path / "right" / "right.h5", encoder=uni)
    with pytest.raises(EosinError, match="dimension"):
        read_features(tmp_path / "scale" / "scale.h5", encoder=record_of("uni").model_copy(update={"mpp": (1.0,)}))


# ---- SlideChat csv -------------------------------------------------------------------------------------------------


def test_slidechats_csv_takes_numbered_columns_and_corners(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("0,1,2,3,4,5,6,7,x,y,tile\n" + csv_rows(",t"))
    back = read_features(tmp_path / "s.csv")
    assert np.array_equal(back.features, FEATURES) and back.layout == "slidechat"
    assert back.coords is not None and np.array_equal(back.coords, COORDS)


def test_slidechats_csv_without_corners_or_numbers_in_its_header(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("name,a,b\nt1,1.5,2\nt2,3,4e1\n")
    back = read_features(tmp_path / "s.csv")
    assert back.features.tolist() == [[1.5, 2], [3, 40]] and back.coords is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no lines"), ("0,1\n", "no lines"), ("0,1\n1,2\n3\n", "cut off"), ("0,1\n1,x\n", "no number"),
     ("a,b\nx,y\n", "holds numbers"), ("0,1\n1,nan\n", "not finite")],
)  # fmt: skip
def test_a_broken_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(EosinError, match=message):
        read_features(tmp_path / "s.csv")


# ---- GigaPath pt ---------------------------------------------------------------------------------------------------


class Evil:
    """Would make a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def test_gigapaths_pt_is_read_without_unpickling(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"tile_embeds": torch.from_numpy(FEATURES).half(), "coords": torch.from_numpy(COORDS).float()},
               tmp_path / "s.pt")  # fmt: skip
    back = read_features(tmp_path / "s.pt")
    assert back.layout == "gigapath" and np.allclose(back.features, FEATURES, atol=2e-3)
    assert back.coords is not None and np.array_equal(back.coords, COORDS)
    torch.save(torch.from_numpy(FEATURES), tmp_path / "bare.pt")
    assert read_features(tmp_path / "bare.pt").coords is None
    torch.save({"tile_embeds": Evil(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(EosinError, match="cannot be read safely"):
        read_features(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
    torch.save({"other": torch.zeros(2)}, tmp_path / "none.pt")
    with pytest.raises(EosinError, match="no features"):
        read_features(tmp_path / "none.pt")


# ---- zarr ----------------------------------------------------------------------------------------------------------


def test_a_zarr_store_that_asks_for_pickle_is_refused(tmp_path: Path) -> None:
    array = tmp_path / "s.zarr" / "tables" / "t" / "X"
    array.mkdir(parents=True)
    (array / ".zarray").write_text('{"filters": [{"id": "pickle", "protocol": 5}], "dtype": "|O"}')
    with pytest.raises(EosinError, match="asks for pickle"):
        read_features(tmp_path / "s.zarr")


def test_a_spatialdata_store_as_wsidata_writes_it(tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    import anndata
    import geopandas
    import pandas
    from shapely import box
    from spatialdata.models import ShapesModel, TableModel

    anndata.settings.allow_write_nullable_strings = True  # pandas 3 has no other text
    boxes = [box(x, y, x + 512, y + 512) for x, y in COORDS]
    frame = geopandas.GeoDataFrame({"tile_id": np.arange(5), "geometry": boxes})
    order = np.array([4, 2, 0, 1, 3])
    obs = pandas.DataFrame({"tile_id": order, "library_id": pandas.Categorical(["tiles"] * 5)}, index=order.astype(str))
    table = TableModel.parse(
        anndata.AnnData(X=FEATURES[order], obs=obs), region="tiles", region_key="library_id", instance_key="tile_id"
    )
    attrs = {"tile_spec": {"tiles": {"width": 256, "stride_width": 256, "mpp": 0.5}}, "slide_properties": {"mpp": 0.25}}
    held = spatialdata.SpatialData(shapes={"tiles": ShapesModel.parse(frame)}, tables={"uni_tiles": table}, attrs=attrs)
    held.write(tmp_path / "s.zarr")
    back = read_zarr(tmp_path / "s.zarr")
    assert back.encoder == "uni" and back.geometry == TileGeometry(256, 512.0, 0.5, 0.25, 0)
    assert np.array_equal(back.features, FEATURES[order])
    assert back.coords is not None and np.array_equal(back.coords, COORDS[order])


# ---- converting ----------------------------------------------------------------------------------------------------


def test_converting_keeps_numbers_and_sets_bad_files_aside(tmp_path: Path) -> None:
    record = record_of("plip").model_copy(update={"dim": 8})
    (tmp_path / "good.csv").write_text("0,1,2,3,4,5,6,7,x,y\n" + csv_rows())
    (tmp_path / "short.csv").write_text("0,1,2,3,4,5,6,7,x,y\n1,2\n")
    (tmp_path / "bare.csv").write_text("0,1,2,3,4,5,6,7\n" + "1,2,3,4,5,6,7,8\n")
    files = [tmp_path / n for n in ("good.csv", "short.csv", "bare.csv")]
    made, dropped = convert(files, tmp_path / "out", record, PLACE)
    assert [m.relative_to(tmp_path / "out").as_posix() for m in made] == ["20x_256px_0px_overlap/features_plip/good.h5"]
    assert {Path(d.id).name: d.reason for d in dropped} == {
        "short.csv": "A line of this table is cut off.",
        "bare.csv": "TRIDENT's layout needs coordinates, and these features have none.",
    }
    back = read_features(made[0], encoder=record)
    assert np.array_equal(back.features, FEATURES) and back.geometry == PLACE and back.encoder == "plip"
    assert h5.patches_file(made[0].parents[1], "good").is_file()
