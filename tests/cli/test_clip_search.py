"""The index on disk against all products, its filters, and the verbs of `eosin clip` from samples to a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats import write_parquet
from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, ImageFile, Origin, Sample, user_prompt
from eosin.core.settings.clip import TinyClip
from eosin.evaluate.clip.embed import Embedded
from eosin.evaluate.search.index import Index, identity_of, nearest, write_index
from eosin.models.clip.load import new_clip, save_clip

TINY = TinyClip.model_validate(
    {"image_px": 16, "dim": 8, "context_length": 12, "vision": {"layers": 1, "width": 16, "heads": 2, "patch_size": 8},
     "text": {"layers": 1, "width": 16, "heads": 2}}
)  # fmt: skip
MODEL = {"name": "m", "digest": "d" * 64, "dim": 32}


def sample(number: int) -> Sample:
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    return Sample(
        id=f"s{number}", images=(ImageBytes(data=encode_png(image)),), messages=user_prompt("?"),
        caption=f"gland {number % 7}", label="ab"[number % 5 % 2], split="test" if number % 3 else "train",
        origin=Origin(source="t", slide=f"{number % 5:02}", organ="Colon" if number % 4 else "Skin", licence="CC0-1.0"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(600, 32)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def index(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("search") / "index"
    write_index(Embedded(tuple(sample(i) for i in range(600)), vectors, ()), MODEL, place)
    return place


def test_exact_search_is_the_order_of_all_products(index: Path, vectors: np.ndarray) -> None:
    opened = Index(index, MODEL)
    for query in vectors[:5] * 2 - vectors[5:10]:
        order = np.argsort(-(vectors @ query), kind="stable")[:8]
        hits = opened.search(query, 8, exact=True)
        assert [h.row for h in hits] == order.tolist() and [h.sample.id for h in hits] == [f"s{i}" for i in order]
        assert np.allclose([h.score for h in hits], vectors[order] @ query, atol=1e-5)


def test_the_graph_finds_nearly_all_of_the_nearest(index: Path, vectors: np.ndarray) -> None:
    pytest.importorskip("usearch")
    assert (index / "graph.usearch").is_file()
    opened, found = Index(index, MODEL), []
    for query in np.random.default_rng(1).normal(size=(40, 32)).astype(np.float32):
        exact = {h.row for h in opened.search(query, 10, exact=True)}
        hits = opened.search(query, 10)
        found.append(len(exact & {h.row for h in hits}) / 10)
        assert np.allclose([h.score for h in hits], [vectors[h.row] @ query for h in hits], atol=1e-4)
    assert np.mean(found) > 0.95


def test_filters_leave_what_they_name(index: Path, vectors: np.ndarray) -> None:
    opened = Index(index, MODEL)
    hits = opened.search(vectors[0], 10, where={"slide": "03", "organ": "colon"})
    rows = np.asarray([i for i in range(600) if i % 5 == 3 and i % 4])
    assert [h.row for h in hits] == nearest(vectors, vectors[0], 10, rows)[0].tolist()
    assert {h.sample.origin.slide for h in hits} == {"03"} and {h.sample.origin.organ for h in hits} == {"Colon"}
    with pytest.raises(EosinError, match="no such filter"):
        opened.search(vectors[0], 3, where={"colour": "red"})
    with pytest.raises(EosinError, match="leaves nothing") as caught:
        opened.search(vectors[0], 3, where={"slide": "99"})
    assert "00, 01" in str(caught.value.expected)


def test_an_index_of_another_model_is_refused(index: Path) -> None:
    for other in ({**MODEL, "digest": "e" * 64}, {**MODEL, "dim": 64}, {"name": "m", "digest": None, "dim": 32}):
        with pytest.raises(EosinError, match="is of another model"):
            Index(index, other)


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["clip", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_verbs_from_samples_to_a_page(tmp_path: Path) -> None:
    save_clip(new_clip(TINY, 0), tmp_path / "model")
    broken = sample(900).model_copy(update={"images": (ImageFile(path=str(tmp_path / "none.png")),)})
    data = tmp_path / "samples.parquet"
    write_parquet([*(sample(i) for i in range(30)), broken], data)
    told = run("zero-shot", tmp_path / "model", data, "--out", tmp_path / "zero", "--top-k", "1,2")
    assert "balanced accuracy" in told and "  a: n 12" in told and (tmp_path / "zero" / "predictions.jsonl").is_file()
    assert "few-shot, 2 a class" in run("few-shot", tmp_path / "model", data, "--shots", "2", "--subsets", "2")
    assert "R@5" in run("retrieve", tmp_path / "model", data)
    told = run("embed", tmp_path / "model", data, "--out", tmp_path / "index")
    assert "30 embedded" in told and "image file missing" in told
    told = run("search", tmp_path / "model", tmp_path / "index", "--words", "gland 3", "-n", "4", "--where", "slide=02",
               "--html", tmp_path / "page.html")  # fmt: skip
    assert len([line for line in told.splitlines() if "  s" in line]) == 4
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "gland 3" in page and "slide=02" in page
    picture = tmp_path / "query.png"
    picture.write_bytes(sample(7).images[0].data)  # type: ignore[union-attr]
    first = run("search", tmp_path / "model", tmp_path / "index", "--image", picture, "--exact").splitlines()[0]
    assert "1.000" in first and " s7 " in first, "a picture is most like itself"
    run("export", tmp_path / "model", tmp_path / "hf")
    assert (tmp_path / "hf" / "config.json").is_file() and (tmp_path / "hf" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search", "MODEL", "INDEX"], "Say what to look for"),
        (["search", "MODEL", "INDEX", "--words", "x", "--image", "y.png"], "Say what to look for"),
        (["search", "MODEL", "INDEX", "--slide", "y.svs"], "Say what to look for"),
        (["search", "MODEL", "INDEX", "--words", "x", "--where", "slide"], "field=value"),
        (["search", "MODEL", "NOWHERE", "--words", "x"], "no whole artifact"),
        (["export", "MODEL", "OUT", "--form", "onnx"], "no such form"),
    ],
)
def test_mistakes_are_named(words: list[str], told: str, tmp_path: Path, index: Path) -> None:
    save_clip(new_clip(TINY.model_copy(update={"dim": 32}), 0), tmp_path / "model")
    write_index(Embedded((sample(0),), np.eye(32, dtype=np.float32)[:1], ()),
                {"name": "model", "digest": _digest(tmp_path / "model"), "dim": 32}, tmp_path / "index")  # fmt: skip
    places = {k: tmp_path / k.lower() for k in ("MODEL", "INDEX", "NOWHERE", "OUT")}
    with pytest.raises(EosinError, match=told):
        CliRunner().invoke(app, ["clip", *(str(places.get(w, w)) for w in words)], catch_exceptions=False)


def _digest(folder: Path) -> str:
    from eosin.core.store import artifacts as store

    return store.open_artifact(folder).digest


@pytest.mark.parametrize(
    ("splits", "more"), [((None, None), ()), (("train", None), ()), (("train", "test"), ("--split", "train"))]
)
def test_few_shot_never_learns_from_what_it_asks(
    splits: tuple[str | None, ...], more: tuple[str, ...], tmp_path: Path
) -> None:
    """Samples without a split used to stand on both sides: features of the colours were then right on all of them."""
    save_clip(new_clip(TINY, 0), tmp_path / "model")
    data = tmp_path / "samples.parquet"
    write_parquet([sample(i).model_copy(update={"split": splits[i % 2]}) for i in range(20)], data)
    words = ["clip", "few-shot", str(tmp_path / "model"), str(data), "--shots", "2", "--subsets", "2", *more]
    with pytest.raises(EosinError, match="learn from samples that it is asked about"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_model_in_files_is_known_by_its_weights_and_not_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other weights in the same place answered from an index of the old; the same place, written otherwise, did not."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"first")
    old, row = identity_of(str(folder), 32), Embedded((sample(0),), np.eye(32, dtype=np.float32)[:1], ())
    write_index(row, old, tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    assert len(Index(tmp_path / "index", identity_of("downloaded", 32))) == 1
    assert identity_of(f"plip@{folder}", 32)["digest"] == old["digest"]
    assert identity_of("ViT-B-16@downloaded/model.safetensors", 32)["digest"] == old["digest"]
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(EosinError, match="another model"):
        Index(tmp_path / "index", identity_of(str(folder), 32))
    held = {"name": str(folder), "digest": None, "dim": 32}
    write_index(row, held, tmp_path / "by_name")
    assert len(Index(tmp_path / "by_name", identity_of(str(folder), 32))) == 1, "an index of before still opens"


@pytest.mark.parametrize("verb", ["zero-shot", "few-shot", "retrieve", "embed"])
def test_a_place_that_is_taken_is_refused_before_anything_is_embedded(verb: str, tmp_path: Path) -> None:
    """An hour of embeddings was lost at the very end."""
    (tmp_path / "taken").mkdir()
    words = ["clip", verb, str(tmp_path / "no_model"), str(tmp_path / "no_samples"), "--out", str(tmp_path / "taken")]
    with pytest.raises(EosinError, match="never overwrites"):
        CliRunner().invoke(app, words, catch_exceptions=False)
