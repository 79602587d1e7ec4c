"""Documents and captions in a recipe: the pairs of a phantom's book train a small model, and its exam is held."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from tests.support import forked

from eosin.core.nouns.outcome import Filtered, Kept
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, user_prompt
from eosin.core.settings.documents import CaptionsData, ChoosingSettings
from eosin.documents.work.samples import samples_of
from eosin.sources.captions.questions import shortened, with_questions
from eosin.sources.captions.read import read_captions
from eosin.train.clip.pairs import group_key


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 20 + seed).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _captions(path: Path, **more: str) -> list[tuple[str, str]]:
    made = read_captions(CaptionsData(path=str(path), **more))  # type: ignore[arg-type]
    return sorted((s.caption or "", s.images[0].kind) for s in made.kept)


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(1))
    (tmp_path / "t.csv").write_text("image,caption\na.png,A gland.\n../out.png,Outside.\na.png,\n")
    made = read_captions(CaptionsData(path=str(tmp_path / "t.csv")))
    assert [s.caption for s in made.kept] == ["A gland."]
    assert sorted(d.reason for d in made.dropped) == ["image outside the data's folder", "no caption"]


def test_a_folder_as_hugging_face_lays_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(1))
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "A crypt."}) + "\n")
    assert _captions(tmp_path) == [("A crypt.", "file")]


def test_parquet_with_pictures(tmp_path: Path) -> None:
    image = [{"bytes": _png(1), "path": None}, {"bytes": _png(2), "path": None}]
    pq.write_table(pa.table({"image": image, "text": ["One.", "Two."]}), tmp_path / "p.parquet")
    assert _captions(tmp_path) == [("One.", "bytes"), ("Two.", "bytes")]


def test_webdataset_tars_also_cut_ones(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))

    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for i in range(3):
            add(tar, f"{i:03d}.png", _png(i))
            add(tar, f"{i:03d}.txt", f"Caption {i}.".encode())
        add(tar, "../../evil.png", _png(9))
        add(tar, "../../evil.json", json.dumps({"caption": "Named badly, read all the same."}).encode())
    assert [c for c, _ in _captions(tmp_path)][:3] == ["Caption 0.", "Caption 1.", "Caption 2."]
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[: len(whole) // 2])
    made = read_captions(CaptionsData(path=str(tmp_path)))
    assert made.kept and "tar cut off or damaged" in made.samples.reasons()
    assert not (tmp_path.parent.parent / "evil.png").exists()


def test_questions_of_captions_hold_the_own_one_and_three_of_other_articles() -> None:
    def sample(i: int) -> Sample:
        return Sample(id=f"s{i}", images=(ImageBytes(data=b"x"),), messages=user_prompt("?"),
                      caption=f"Figure {i}. Gland number {i}. More of it.",
                      origin=Origin(source="t", article=f"a{i // 2}"))  # fmt: skip

    asked = with_questions(Filtered(tuple(sample(i) for i in range(8)), ()), seed=0)
    assert len(asked.kept) == 8
    for i, one in enumerate(asked.kept):
        assert one.answer_text == f"Gland number {i}" and len(one.choices) == 4
        twin = f"Gland number {i ^ 1}"
        assert twin not in [c.text for c in one.choices]
    assert len({one.answer for one in asked.kept}) > 1
    assert shortened("Abb. 2. \u00dcbersicht (HE, x100). Mehr.") == "\u00dcbersicht (HE, x100)"


@pytest.mark.slow
def test_the_pairs_of_a_book_train_the_small_model(tmp_path: Path) -> None:
    """Continued pretraining on figures and captions of three PHANTOM books, then the exam on articles held out."""
    pytest.importorskip("torch")
    pytest.importorskip("reportlab")
    from eosin.phantom.documents.series import write_documents

    write_documents(tmp_path / "books", 4, 21)
    recipe = {
        "data": {"source": "documents", "path": str(tmp_path / "books"), "name": "books", "questions": "captions",
                 "valid_fraction": 0.25, "test_fraction": 0.25, "previews": False},
        "prompt": {"instruction": False, "answer": "letter"},
        "model": {"kind": "tiny", "image_px": 56, "vocab_size": 400,
                  "vision": {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
                  "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 2, "num_heads": 2,
                           "num_kv_heads": 1}},
        "train": {"batch_size": 4, "log_every": 2},
        "stages": {"pretrain": {"steps": 12, "learning_rate": 3e-3, "exam": False}, "sft": {"steps": 2}},
        "base_exam": False,
        "exams": {"heldout": {"max_new_tokens": 8, "probes": [], "baselines": "none", "bootstrap": 100}},
    }  # fmt: skip
    (tmp_path / "books.yaml").write_text(yaml.safe_dump(recipe))
    out = tmp_path / "run"
    done = forked.eosin("run", tmp_path / "books.yaml", "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((out / "summary.json").read_text())
    losses = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    pretrain = [row["loss"] for row in losses if row.get("stage") == "pretrain" and "loss" in row]
    assert pretrain[-1] < pretrain[0]
    card = json.loads((out / "samples" / "card.json").read_text())
    assert card["split_unit"] == "article" and card["counts"]["test"] >= 4 and card["groups"]["test"] == 1
    assert summary


def test_panels_apart_and_their_whole_figure_belong_together(tmp_path: Path) -> None:
    """One group for contrastive training; each panel has its picture, its caption and what that says."""
    (tmp_path / "figures").mkdir()
    picture = np.random.default_rng(0).integers(0, 255, (80, 160, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "figures" / "1.png")
    panels: list[dict[str, Any]] = [{"letter": "a", "box_px": [0, 0, 80, 80], "caption": "Colon, H&E", "how": "grid"},
              {"letter": "b", "box_px": [80, 0, 160, 80], "caption": "Liver, no fibrosis", "how": "grid",
               "kind": {"name": "plot", "score": 0.9}}]  # fmt: skip
    row: dict[str, Any] = {
        "caption": "Fig. (a) Colon, H&E. (b) Liver, no fibrosis.", "how": "below", "permission": "", "licence": "",
        "references": [], "notes": [], "px": [160, 80], "image": "figures/1.png", "panels": panels,
        "kind": {"name": "histology H&E", "score": 0.9},
    }  # fmt: skip
    figures = [{**row, "number": str(n), "label": f"Fig. {n}", "place": {"page": n}} for n in (1, 2)]
    about = {"name": "book.pdf", "file": "book.pdf", "kind": "pdf", "article": "book", "title": "",
             "licence": "CC0-1.0", "retracted": ""}  # fmt: skip
    record = {"about": about, "figures": figures}
    made = list(samples_of(tmp_path, record, ChoosingSettings(panels="both")))
    found = [m.value for m in made if isinstance(m, Kept)]
    assert len(found) == len(made) == 6
    assert [s.extra.get("panel", {}).get("letter") for s in found] == [None, "a", "b"] * 2
    assert found[1].caption == "Colon, H&E" and found[1].extra["panel"]["said"]["stain"] == "H&E"
    assert found[2].extra["panel"]["said"]["stain"] is None and found[2].origin.organ != found[1].origin.organ
    groups = [group_key(s) for s in found]
    assert None not in groups and len(set(groups[:3])) == len(set(groups[3:])) == 1 and groups[0] != groups[3]
    chosen = list(samples_of(tmp_path, record, ChoosingSettings(panels="apart", kinds=["histology H&E"])))
    assert [m.value.id if isinstance(m, Kept) else f"{m.id}: {m.detail}" for m in chosen] == [
        "documents/book.pdf/0001-1/a", "documents/book.pdf/0001-1/b: plot at 0.90",
        "documents/book.pdf/0002-2/a", "documents/book.pdf/0002-2/b: plot at 0.90",
    ]  # fmt: skip
    twice = [{**f, "panels": [{**p, "letter": "a"} for p in panels]} for f in figures[:1]]
    made = list(samples_of(tmp_path, {"about": about, "figures": twice}, ChoosingSettings(panels="apart")))
    assert [m.value.id[-2:] for m in made if isinstance(m, Kept)] == ["/1", "/2"], "one letter said twice"
