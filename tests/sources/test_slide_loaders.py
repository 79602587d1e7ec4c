"""Other groups' slides: tables, SlideChat and PathReasoner JSON, SlideBench csv; TRIDENT and CLAM h5, SlideChat csv."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from eosin.chain.recipe.data import grounded
from eosin.core.errors import EosinError
from eosin.core.formats.options import cut_options
from eosin.core.nouns.sample import ImagePart, SlideBag
from eosin.core.settings.data import SlidesData
from eosin.curate import validate
from eosin.slides.features import h5
from eosin.slides.features.bags import read_bag
from eosin.sources.card import Collection
from eosin.sources.slide_bags import slide_name, units_of
from eosin.sources.slide_folder import read_slides

PLACE = h5.TileGeometry(tile_px=256, side_level0=512.0, mpp=0.5, level0_mpp=0.25)


def trident(root: Path, name: str, seed: int = 0, encoder: str | None = "uni") -> Path:
    """A file in TRIDENT's layout; without `encoder` its folder alone tells what it is of, as in TRIDENT's own files."""
    rng = np.random.default_rng(seed)
    file = h5.features_file(h5.coords_folder(root, 0.5, 256, 0), "uni_v1", name)
    coords = np.array([[0, 0], [512, 0], [0, 512]])
    features = rng.normal(size=(3, 8)).astype(np.float32)
    h5.write_bag(file, h5.FeatureBag(name, features, coords, PLACE), encoder_name=encoder)
    h5.write_patches(h5.patches_file(file.parent.parent, name), coords, PLACE, name)
    return file


def clam(root: Path, name: str) -> None:
    (root / "h5_files").mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "h5_files" / f"{name}.h5", "w") as file:
        file["features"] = np.ones((2, 8), np.float32)
        file["coords"] = np.array([[0, 0], [256, 0]])
        file["coords"].attrs.update({"patch_size": 256, "patch_level": 0})


def slidechat_csv(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ",".join([*(str(i) for i in range(4)), "x", "y"])
    path.write_text("\n".join([header, "0.1,0.2,0.3,0.4,0,0", "0.5,0.6,0.7,0.8,224,0", ""]), encoding="utf-8")


def write(root: Path, name: str, rows: Any) -> str:
    text = "\n".join(json.dumps(r) for r in rows) if name.endswith("l") else json.dumps(rows)
    (root / name).write_text(text)
    return name


def talk(slide: Any, question: str, answer: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"image": slide, "conversations": turns, **more}


def read(root: Path, manifest: str, **more: Any) -> Collection:
    return read_slides(SlidesData(root=str(root), manifest=manifest, name="theirs", **more))


NAME = "TCGA-AB-1234-01Z-00-DX1"


def test_slidechat_rows_lead_to_their_feature_files(tmp_path: Path) -> None:
    slidechat_csv(tmp_path / "COAD" / f"{NAME}.csv")
    rows = [talk([f"./COAD/{NAME}.csv"], "<image>\nWhat is seen?", "Irregular glands.", id="q1")]
    found = read(tmp_path, write(tmp_path, "train.json", rows), patch_mpp=0.5, tile_um=112.0)
    [sample] = found.kept
    [ref] = sample.images
    assert isinstance(ref, SlideBag) and ref.path.endswith(f"COAD/{NAME}.csv") and ref.mpp == 0.5
    assert sample.id == "theirs/q1" and sample.answer == "Irregular glands." and sample.question == "What is seen?"
    assert isinstance(sample.messages[0].parts[0], ImagePart)
    assert sample.origin.patient == "TCGA-AB-1234" and sample.origin.slide == NAME


@pytest.mark.parametrize("tag", ["info", "observe"])
def test_pathreasoner_replies_are_cut_at_their_tags(tmp_path: Path, tag: str) -> None:
    trident(tmp_path, NAME)
    think = "<think>1. Necrosis is seen. It is wide.\n2. It fits carcinoma.</think>"
    reply = f"<{tag}>Necrosis.</{tag}>\n{think}\n<answer>carcinoma</answer>"
    manifest = write(tmp_path, "r1.jsonl", [talk(f"{NAME}.h5", "<image> What is it?", reply)])
    [sample] = read(tmp_path, manifest, encoder="uni").kept
    assert sample.findings == "Necrosis." and sample.answer == "carcinoma"
    assert sample.reasoning == ("Necrosis is seen. It is wide.", "It fits carcinoma.")
    assert len(read_bag(sample.images[0])) == 3 and not validate([sample]).dropped


def test_plain_thoughts_are_cut_at_sentences(tmp_path: Path) -> None:
    trident(tmp_path, NAME)
    reply = "<think>Necrosis is seen. It fits carcinoma.</think><answer>carcinoma</answer>"
    [sample] = read(tmp_path, write(tmp_path, "a.json", [talk(NAME, "What?", reply)])).kept
    assert sample.reasoning == ("Necrosis is seen.", "It fits carcinoma.") and sample.findings is None


def test_options_in_the_question_make_it_closed(tmp_path: Path) -> None:
    trident(tmp_path, NAME)
    inline = talk(NAME, "<image>\nWhich grade? A) low B) high", "B", id=1)
    lines = talk(NAME, "<image>\nWhich grade?\nA. low\nB. high", "B. high", id=2)
    torn = talk(NAME, "<image>\nWhich grade?\nA. low\nB. high", "A. high", id=3)
    first, second, third = read(tmp_path, write(tmp_path, "a.json", [inline, lines, torn])).kept
    for sample in (first, second):
        assert [c.text for c in sample.choices] == ["low", "high"] and sample.answer == "B"
        assert sample.question == "Which grade?"
    assert not third.choices and third.answer == "A. high"  # letter and text do not agree: no closed answer


def test_cutting_options() -> None:
    assert cut_options("Vitamin A. Is it there?") == ("Vitamin A. Is it there?", [])
    assert cut_options("Which? (A) one (B) two (C) three") == ("Which?", ["one", "two", "three"])
    assert cut_options("Which?\nA. one\nC. three")[1] == []


def test_unusable_rows_are_dropped_with_their_reason(tmp_path: Path) -> None:
    trident(tmp_path, NAME)
    good = talk(NAME, "<image> What?", "carcinoma", id="good")
    rows = [
        good, "no object", {"id": "a"}, talk("elsewhere.csv", "What?", "x", id="b"), talk([], "What?", "x"),
        talk([NAME, "other"], "What?", "x", id="d"), talk(NAME, "What?", " ", id="e"), dict(good),
        talk(NAME, "What?", "<think>a</think>", id="f"),
        talk(NAME, "What?", "<think>a</think><answer></answer>", id="g"),
        {"id": "h", "image": NAME, "conversations": [{"from": "gpt", "value": "x"}]},
        {"id": "i", "image": NAME, "conversations": [{"from": "narrator", "value": "x"}]},
    ]  # fmt: skip
    found = read(tmp_path, write(tmp_path, "a.json", rows))
    assert [s.id for s in found.kept] == ["theirs/good"] and found.samples.num_in == len(rows)
    assert found.samples.reasons() == {
        "row is not an object": 1, "no dialogue": 1, "no feature file of this slide": 1, "no slide named": 1,
        "more than one slide": 1, "no reply": 1, "exact duplicate": 1, "tags of the reply are broken": 1,
        "empty answer block": 1, "no question": 1, "unknown role": 1,
    }  # fmt: skip


def test_slidebench_rows(tmp_path: Path) -> None:
    trident(tmp_path, NAME)
    (tmp_path / "bench.csv").write_text(
        "ID,Slide,Tumor,Broad Category,Question,A,B,C,D,Answer\n"
        f'1,{NAME},COAD,Diagnosis,"Which, then?",one,two,three,,B\n'
        f"2,{NAME},COAD,Diagnosis,Which?,one,two,three,four,E\n"
        "3,missing,COAD,Diagnosis,Which?,one,two,three,four,A\n"
    )
    found = read(tmp_path, "bench.csv")
    [sample] = found.kept
    assert sample.answer == "B" and [c.text for c in sample.choices] == ["one", "two", "three"]
    assert sample.extra["Tumor"] == "COAD"
    assert found.samples.reasons() == {"answer is none of the options": 1, "no feature file of this slide": 1}


def table(root: Path, rows: list[str], header: str = "slide,label,patient,split,text") -> str:
    (root / "slides.csv").write_text("\n".join([header, *rows, ""]))
    return "slides.csv"


def test_a_table_of_labels(tmp_path: Path) -> None:
    for i in range(4):
        trident(tmp_path, f"s{i}", i)
    rows = ["s0.svs,carcinoma,p1,train,", "s1,adenoma,p2,train,", "s2,carcinoma,p3,test,", "s9,adenoma,p4,test,",
            "s3,,p5,train,"]  # fmt: skip
    found = read(tmp_path, table(tmp_path, rows), group_column="patient", group_kind="patient", split_column="split")
    assert [(s.id, s.answer_text, s.split) for s in found.kept] == [
        ("theirs/s0", "carcinoma", "train"), ("theirs/s1", "adenoma", "train"), ("theirs/s2", "carcinoma", "test"),
    ]  # fmt: skip
    assert {s.origin.patient for s in found.kept} == {"p1", "p2", "p3"}
    assert all(isinstance(s.images[0], SlideBag) and not s.reasoning for s in found.kept)
    assert found.samples.reasons() == {"no feature file of this slide": 1, "no label": 1}
    with pytest.raises(EosinError, match="no column 'diagnosis'") as caught:
        read(tmp_path, "slides.csv", label_column="diagnosis")
    assert "data.label_column" in str(caught.value)


def test_reports_of_a_table_can_be_grounded(tmp_path: Path) -> None:
    for i in range(3):
        trident(tmp_path, f"s{i}", i)
    rows = ["s0,adenocarcinoma,p1,,Irregular glands with desmoplastic stroma and necrosis.",
            "s1,tubular adenoma,p2,,Crowded glands with stratified nuclei.",
            "s2,leiomyoma,p3,,Nothing to see."]  # fmt: skip
    manifest = table(tmp_path, rows)
    settings = SlidesData(root=str(tmp_path), manifest=manifest, report_column="text", reasoning="grounded")
    made, steps = grounded(read_slides(settings), settings, 0)
    assert [s.label for s in made.kept] == ["adenocarcinoma", "tubular adenoma"] and steps[0].num_kept == 2
    assert any("desmoplasia" in step for step in made.kept[0].reasoning)
    assert made.samples.reasons() == {"no finding in the graph": 1}


def test_clam_files_are_found_and_told_why_they_do_not_do(tmp_path: Path) -> None:
    clam(tmp_path, "s0")
    clam(tmp_path, "s1")
    found = read(tmp_path, table(tmp_path, ["s0,a,,,", "s1,b,,,"]))
    sieve = validate(found.kept)
    assert sieve.reasons() == {"scale of the patches not known": 2}
    known = read(tmp_path, "slides.csv", patch_mpp=0.5, tile_um=128.0)
    assert validate(known.kept).reasons() == {"patches without coordinates": 2}  # CLAM states no µm of level 0


def test_the_name_of_trident_folders_is_understood(tmp_path: Path) -> None:
    trident(tmp_path, NAME, encoder=None)
    rows = [talk(NAME, "What?", "x", id=1)]
    found = read(tmp_path, write(tmp_path, "a.json", rows), encoder="uni")
    assert not validate(found.kept).dropped and read_bag(found.kept[0].images[0]).encoder == "uni"
    other = read(tmp_path, "a.json", encoder="conch")
    assert validate(other.kept).reasons() == {"these features are of another encoder": 1}


def test_slides_and_names(tmp_path: Path) -> None:
    assert slide_name("./COAD/TCGA-1.csv") == "TCGA-1" and slide_name("a.b.svs") == "a.b" and slide_name("a.b") == "a.b"
    assert units_of(NAME) == {"slide": NAME, "patient": "TCGA-AB-1234"} and units_of("s1") == {"slide": "s1"}
    trident(tmp_path / "f", f"{NAME}.5c2f")  # a TCGA file name goes on behind the barcode
    (tmp_path / "wsi").mkdir()
    (tmp_path / "wsi" / f"{NAME}.svs").touch()
    manifest = write(tmp_path / "f", "a.json", [talk(f"{NAME}.csv", "What?", "x", id=1)])
    [sample] = read(tmp_path / "f", manifest, slides=str(tmp_path / "wsi")).kept
    assert sample.images[0].slide == str(tmp_path / "wsi" / f"{NAME}.svs")


def test_a_slide_with_two_feature_files_is_not_guessed(tmp_path: Path) -> None:
    trident(tmp_path, NAME)
    slidechat_csv(tmp_path / "COAD" / f"{NAME}.csv")
    rows = [talk(NAME, "What?", "x", id=1), talk(f"COAD/{NAME}", "What?", "x", id=2)]
    found = read(tmp_path, write(tmp_path, "a.json", rows))
    assert [s.id for s in found.kept] == ["theirs/2"]
    assert found.samples.reasons() == {"several feature files of this slide": 1}


def test_settings_of_tables_are_not_ignored(tmp_path: Path) -> None:
    trident(tmp_path, NAME)
    manifest = write(tmp_path, "a.json", [talk(NAME, "What?", "x", id=1)])
    with pytest.raises(EosinError, match="data.hold_out is for a table"):
        read(tmp_path, manifest, hold_out={"slide": ["x"]})


def test_nothing_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no such folder of features"):
        read(tmp_path / "nowhere", "a.csv")
    with pytest.raises(EosinError, match="no such list"):
        read(tmp_path, "a.csv")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(EosinError, match="no feature files"):
        read(tmp_path, "a.json")
    trident(tmp_path, NAME)
    with pytest.raises(EosinError, match="list of rows"):
        read(tmp_path, "a.json")
    write(tmp_path, "a.json", [talk("other", "What?", "x")])
    with pytest.raises(EosinError, match="No row") as caught:
        read(tmp_path, "a.json")
    assert "1 x no feature file of this slide" in str(caught.value)


def test_files_outside_the_folder_are_not_opened(tmp_path: Path) -> None:
    """A list of strangers names them by a path; the slide of that name in the folder is taken, or none."""
    root = tmp_path / "data"
    trident(tmp_path / "elsewhere", "secret")
    outside = next((tmp_path / "elsewhere").rglob("features_*/secret.h5"))
    inside = trident(root, "known")
    (root / "link.h5").symlink_to(outside)
    told = [str(outside), f"../{outside.relative_to(tmp_path)}", "link.h5", "x" * 300 + ".h5", "null\x00.h5",
            "/theirs/known.svs"]  # fmt: skip
    rows = [talk(slide, "<image>\nWhat is seen?", "Glands.", id=str(i)) for i, slide in enumerate(told)]
    found = read(root, write(root, "train.json", rows))
    assert [s.images[0].path for s in found.kept if s.id.endswith("5")] == [str(inside)]  # type: ignore[union-attr]
    assert {s.id[-1] for s in found.kept} <= {"2", "5"}  # a link that the user put in the folder is the user's own
    assert sum(found.samples.reasons().values()) == 6 - len(found.kept)
