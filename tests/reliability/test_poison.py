"""Planted faults of the papers: each is raised by the product itself. docs/reliability.md has the table.

Those that need a model or a server have their tests beside the rooms that raise them; the table names them.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from eosin.core.formats.options import option_notes
from eosin.core.nouns.outcome import Dropped, Filtered, Unparsed
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import BoxPixels, Entity, ImageBytes, Origin, Sample, make_choices, user_prompt
from eosin.curate import clean
from eosin.curate.validate import validate
from eosin.evaluate.exams.reading.drafts import Draft, finish
from eosin.scoring import ScoreItem, load_rewards

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"


def _png(seed: int, orientation: int | None = None, size: tuple[int, int] = (96, 64)) -> bytes:
    """A picture that differs from seed to seed in large areas, so that near copies are told from other pictures."""
    image = Image.new("L", (12, 8))
    image.putdata([(seed * 7919 + i * i * 131 + i * 97 * seed) % 256 for i in range(96)])
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.resize(size, Image.Resampling.BICUBIC).convert("RGB").save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def _sample(name: str, png: bytes, case: str, split: str | None = None, **more: object) -> Sample:
    return Sample.model_validate({
        "id": name, "images": (ImageBytes(data=png),), "messages": user_prompt("What is shown?"),
        "choices": make_choices(["adenoma", "normal mucosa"]), "answer": "A", "split": split,
        "origin": Origin(source="poison", case=case), **more,
    })  # fmt: skip


def _nearly(png: bytes) -> bytes:
    """The same picture, saved again with loss: other bytes, the same to the eye."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def test_leaked_test_images_are_taken_out_of_training() -> None:
    """PathVLM-R1: 437 pictures stood in both train and test."""
    samples = [
        _sample("train/own", _png(1), "c1", "train"),
        _sample("train/copy", _png(2), "c2", "train", choices=make_choices(["necrosis", "mucin"])),
        _sample("train/nearly", _nearly(_png(3)), "c3", "train"),
        _sample("test/2", _png(2), "c4", "test"), _sample("test/3", _png(3), "c5", "test"),
    ]  # fmt: skip
    cleaned = clean(samples)
    told = {d.id: d.reason for d in cleaned.dropped}
    assert [s.id for s in cleaned.samples if s.split == "test"] == ["test/2", "test/3"]
    assert [s.id for s in cleaned.samples if s.split == "train"] == ["train/own"]
    assert told == {"train/copy": "image stands in test", "train/nearly": "image nearly stands in test"}


def test_corrupted_letters_are_set_aside() -> None:
    """A letter that is no option, and a letter whose text is another option's: neither is guessed."""
    options = ("adenoma", "normal mucosa")
    drafts = [
        Draft(id=str(i), question="Which?", options=options, answer=answer, origin={"source": "p", "case": str(i)})
        for i, answer in enumerate(("A", "E", "B. adenoma", "normal mucosa"))
    ]
    read = finish(drafts)
    assert [s.answer for s in read.kept] == ["A", "B"]
    assert {d.id: d.reason for d in read.dropped} == {
        "1": "answer not among the choices", "2": "answer not among the choices"
    }  # fmt: skip


def test_tags_of_another_grammar_are_told() -> None:
    """PathReasoner-R1: the data wrote <info>, the reward read <observe>; format was always 0."""
    grammar = Grammar.of("info/think/answer")
    read = grammar.parse("<observe>Glands.</observe><think>1. Crowded.</think><answer>A</answer>")
    assert isinstance(read, Unparsed)
    marked = _sample("1", _png(1), "c", reasoning=("<observe>Crowded glands.</observe>",))
    (dropped,) = validate([marked]).dropped
    assert dropped.reason == "tag of a reply in the text" and "<observe>" in dropped.detail


def test_a_list_of_entities_earns_nothing_more() -> None:
    """PathReasoner-R1's soft term pays for listing; the hardened one does not."""
    names = ["necrosis", "mitoses", "mucin", "haemorrhage", "fibrosis", "oedema", "calcification", "ulcer"]
    gold = tuple(Entity(name=n) for n in names[:2])
    scores = {}
    for rule in ("soft", "hardened"):
        rewards = load_rewards([{"name": "entities", "rule": rule}], "think/answer")
        for kind, said in (("honest", names[:1]), ("list", names[:1] + names[2:])):
            reply = f"<think>There is {', '.join(said)}.</think><answer>A</answer>"
            item = ScoreItem(id="1", reply=reply, answer="A", choices={"A": "x", "B": "y"}, entities=gold)
            scores[rule, kind] = rewards.score(item).total
    assert scores["hardened", "list"] <= scores["hardened", "honest"]


def test_options_in_the_text_are_told() -> None:
    """A row whose options cannot be read, and whose answer is a letter: an open question that nobody can answer."""
    lone = Sample(id="1", messages=user_prompt("Which of these (A or B)?", 0), answer="B", origin=Origin(source="p"))
    (note,) = option_notes([lone])
    assert "options that cannot be read" in note and "1" in note
    (dropped,) = validate([lone]).dropped
    assert dropped.reason == "empty choices" and "the letter B" in dropped.detail


@pytest.mark.parametrize("orientation", [6, 8])
def test_boxes_of_an_unturned_picture_are_set_aside(orientation: int) -> None:
    """A picture of 96 x 64 px that EXIF turns is shown as 64 x 96; a box at x 80 was drawn on the unturned one."""
    box = BoxPixels(x0=76, y0=10, x1=90, y1=20)
    turned = _sample("turned", _png(1, orientation), "c", entities=(Entity(name="mitosis", boxes=(box,)),))
    plain = _sample("plain", _png(1), "d", entities=(Entity(name="mitosis", boxes=(box,)),))
    checked: Filtered[Sample] = validate([turned, plain])
    assert [s.id for s in checked.kept] == ["plain"]
    (dropped,) = checked.dropped
    assert isinstance(dropped, Dropped) and dropped.reason == "box outside the image"
    assert "within 64 x 96 px" in dropped.detail and "mitosis" in dropped.detail


def _rows() -> list[list[str]]:
    block = PAGE.read_text("utf-8").partition("## Poison")[2].partition("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in block.splitlines() if line.startswith("| ")]
    return [[c.strip() for c in r] for r in rows if not r[0].strip().startswith("fault")]


def test_messages_of_the_table_are_those_of_the_code() -> None:
    """Each quoted message stands in the source, and each row names a test; test_docs.py looks the test up."""
    source = " ".join(re.sub(r'"\s+f?"', "", p.read_text("utf-8")) for p in (ROOT / "src").rglob("*.py"))
    rows = _rows()
    assert len(rows) >= 9
    for row in rows:
        assert len(row) == 4 and re.search(r"`tests/[\w/]+\.py::\w+`", row[3]), row
        quoted = re.findall(r'"([^"]+)"', row[2])
        assert quoted, row
        for message in quoted:
            assert all(part.strip() in source for part in message.split("...") if part.strip()), message
