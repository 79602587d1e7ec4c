"""Slides of one case: grouped by table, samples or barcode; asked about together, each place on its own slide."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.scripted import scripted_engine, scripted_room, write_slides
from tests.serve.served import serving
from tests.serve.test_slide_questions import events, post

from eosin.chain.room.cases import read_cases
from eosin.core.errors import EosinError
from eosin.core.formats import write_samples
from eosin.core.nouns.cases import tcga_case
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, SlideBag, user_prompt
from eosin.serve.corrections.archive import files_of
from eosin.serve.corrections.body import Region
from eosin.serve.corrections.samples import samples_of

NAMES = ("b1.tif", "b2.tif", "deep/b3.tif", "alone.tif", "TCGA-AA-3844-01A.tif", "TCGA-AA-3844-01B.tif")
CASES = {"b1": "case 7", "b2.tif": "case 7", "deep/b3.tif": "case 7"}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[tuple[str, dict[str, str], Any]]:
    """Address, keys by name, and what is served. The model reads three slides at a time."""
    slides = write_slides(tmp_path / "slides", *NAMES)
    made = scripted_room(tmp_path / "c.sqlite", knowledge=False)
    with serving(scripted_engine(), made, slides=slides, cases=CASES) as (url, app):
        yield url, {s.name: k for k, s in app.state.shelf.slides.items()}, made


def test_the_list_says_which_slides_are_of_one_case(room: tuple[str, dict[str, str], Any]) -> None:
    told = json.loads(urllib.request.urlopen(f"{room[0]}/slides").read())["slides"]
    tcga = "TCGA-AA-3844"
    assert {s["name"]: s["case"] for s in told} == {
        "b1": "case 7", "b2": "case 7", "deep/b3": "case 7", "alone": None, f"{tcga}-01A": tcga, f"{tcga}-01B": tcga,
    }  # fmt: skip
    assert (tcga_case("tcga-ab-1234.svs"), tcga_case("TCGA-AB-12345"), tcga_case("my-TCGA-AB-1234")) == (
        "TCGA-AB-1234", None, None,
    )  # fmt: skip


def test_slides_of_a_case_are_asked_about_together(room: tuple[str, dict[str, str], Any]) -> None:
    url, keys, made = room
    body = {"question": "What is it?", "slides": [keys["b2"], keys["deep/b3"]], "asked": uuid.uuid4().hex}
    told = events(f"{url}/slides/{keys['b1']}/ask", body)
    assert [n for n, _ in told][-1] == "done"
    assert {d["text"] for n, d in told if n == "looking"} == {f"slide {k} of 3: finding tissue" for k in (1, 2, 3)}
    reading = made.store.reading(told[-1][1]["id"])
    assert [s["name"] for s in reading["slides"]] == ["b1", "b2", "deep/b3"] and reading["case"] == "case 7"
    assert reading["num_patches"] == 3 * 54  # 9 x 6 patches of 64 µm on each
    for one in reading["statements"]:
        assert {b["slide"] for b in one["evidence"]["boxes"]} == {keys[n] for n in ("b1", "b2", "deep/b3")}
        assert "each slide" in one["evidence"]["note"]
    sample_images = json.loads(made.store.image(reading["id"]))
    assert [Path(i["slide"]).name for i in sample_images] == ["b1.tif", "b2.tif", "b3.tif"]


@pytest.mark.parametrize(
    ("more", "others", "word"),
    [
        ({"box": [0, 0, 9, 9]}, ["b2"], "one slide"),
        ({}, ["alone"], "one case"),
        ({}, ["b1"], "different"),
        ({}, ["b2", "deep/b3", "alone"], "one case"),
    ],
)
def test_what_is_no_case_is_refused(
    room: tuple[str, dict[str, str], Any], more: dict[str, Any], others: list[str], word: str
) -> None:
    url, keys, made = room
    status, text = post(
        f"{url}/slides/{keys['b1']}/ask", {"question": "?", "slides": [keys[n] for n in others], **more}
    )
    assert status == 400 and word in text


def test_a_model_of_one_slide_says_so(room: tuple[str, dict[str, str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    url, keys, made = room
    monkeypatch.setattr(type(made.reader), "max_slides", 1)
    status, text = post(f"{url}/slides/{keys['b1']}/ask", {"question": "?", "slides": [keys["b2"]]})
    assert status == 400 and "one slide at a time: ask slide by slide" in text
    assert post(f"{url}/slides/{keys['b1']}/ask", {"question": "?", "slides": ["f" * 16]})[0] == 404


def test_a_correction_of_a_case_keeps_each_region_on_its_slide(room: tuple[str, dict[str, str], Any]) -> None:
    url, keys, made = room
    body = {"question": "What is it?", "slides": [keys["b2"]], "stream": False}
    reading = json.loads(post(f"{url}/slides/{keys['b1']}/ask", body)[1])
    square = [[10, 10], [50, 10], [50, 50], [10, 50]]
    statements = [{"id": s["id"], "block": s["block"], "text": s["text"]} for s in reading["statements"]]
    statements[0]["regions"] = [{"points": square}, {"points": square[::-1], "slide": keys["b2"]}]
    own = {"key": uuid.uuid4().hex, "reader": "AB", "answer": "adenoma", "is_signed": True, "statements": statements}
    assert post(f"{url}/readings/{reading['id']}/corrections", own)[0] == 200
    files = files_of(made.store, Grammar.of("info/think/answer", numbered_steps=True))
    for name, first in (("b1", square[0]), ("b2", square[3])):
        shapes = json.loads(files[f"annotations/{name}.geojson"])["features"]
        mine = [f for f in shapes if f["properties"]["name"].startswith("s1:")]
        assert [f["geometry"]["coordinates"][0][0] for f in mine] == [first]
        assert len(shapes) > 1  # the model's own places of the other statements, on this slide
    [sample] = samples_of(made.store).kept
    assert len(sample.images) == 2 and sample.origin.case == "case 7"
    assert "slide" not in Region(points=square).model_dump()  # as it was kept before there were cases


def test_cases_are_read_from_a_table_and_from_samples(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("slide,case,site\na.svs, 1 ,x\nb.svs,1,y\nc.svs,,z\n")
    assert read_cases(table) == {"a.svs": "1", "b.svs": "1"}
    table.write_text("slide,case\na,1\na,2\n")
    with pytest.raises(EosinError, match="two cases"):
        read_cases(table)
    table.write_text("file,case\na,1\n")
    with pytest.raises(EosinError, match=r"other columns|columns"):
        read_cases(table)
    made = [
        Sample(id=f"s{k}", images=(SlideBag(path=f"/f/{k}.h5", slide=f"/s/slide{k}.svs"),), messages=user_prompt("?"),
               origin=Origin(source="toy", case="A" if k < 2 else None))
        for k in range(3)
    ]  # fmt: skip
    write_samples(made, tmp_path / "samples" / "train.parquet")
    assert read_cases(tmp_path / "samples") == {"slide0": "A", "slide1": "A"}
    assert read_cases(tmp_path / "samples" / "train.parquet") == read_cases(tmp_path / "samples")
