"""Every fault that the papers' data is known to have is planted, found and named; clean data raises no alarm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance, ImageOps
from tests.support.audited import CLASSES, changed, clean_sample, clean_samples, encoded, picture
from typer.testing import CliRunner

from eosin.chain.audit.answers import blind_guess, concludes_otherwise
from eosin.chain.audit.run import AuditSettings, audit
from eosin.cli.main import app
from eosin.core.formats import write_samples
from eosin.core.nouns.sample import ImageBytes, Sample, make_choices, user_prompt
from eosin.core.settings.data import PhantomData
from eosin.sources.phantom import read_phantom

QUICK = AuditSettings(crops=False)
Plant = Callable[[list[Sample]], list[Sample]]


def found_in(samples: list[Sample], folder: Path, *others: str, level: str = "fault") -> dict[str, str]:
    """Names and words of what an audit of these samples finds."""
    path = folder / "data.parquet"
    write_samples(samples, path)
    return {f.name: f.said for f in audit(path, others, QUICK).found if f.level == level}


def with_picture(sample: Sample, image: Image.Image, **changes: object) -> Sample:
    return changed(sample, images=(ImageBytes(data=encoded(image)),), **changes)


def origin(sample: Sample, **changes: object) -> Sample:
    return changed(sample, origin=sample.origin.model_dump() | changes)


def test_clean_data_raises_no_alarm(tmp_path: Path) -> None:
    assert found_in(clean_samples(), tmp_path) == {}


def test_clean_phantom_raises_no_alarm(tmp_path: Path) -> None:
    made = read_phantom(PhantomData(train_cases=12, valid_cases=6, test_cases=6, tiles_per_case=2, tile_px=64), 0)
    assert found_in(list(made.kept), tmp_path) == {}


def _one_image_in_train_and_test(samples: list[Sample]) -> list[Sample]:
    test, train = (next(s for s in samples if s.split == name) for name in ("test", "train"))
    return [changed(s, images=train.images) if s is test else s for s in samples]


def _turned_copy(samples: list[Sample]) -> list[Sample]:
    test = next(s for s in samples if s.split == "test")
    turned = ImageOps.mirror(picture(0)).rotate(90)
    return [with_picture(s, ImageEnhance.Brightness(turned).enhance(0.85)) if s is test else s for s in samples]


def _crop(samples: list[Sample]) -> list[Sample]:
    test = next(s for s in samples if s.split == "test")
    part = picture(1, 192).crop((20, 30, 150, 160))
    train = next(s for s in samples if s.split == "train")
    return [with_picture(s, part if s is test else picture(1, 192)) if s in (test, train) else s for s in samples]


def test_a_crop_in_another_split_is_found(tmp_path: Path) -> None:
    write_samples(_crop(clean_samples(20)), tmp_path / "d.parquet")
    assert "nearly the same image in two splits" in {f.name for f in audit(tmp_path / "d.parquet").faults}


def _split_by_question(samples: list[Sample]) -> list[Sample]:
    return [changed(s, split="test" if i % 2 else "train") for i, s in enumerate(samples)]


def _written_text_again(samples: list[Sample]) -> list[Sample]:
    words = (
        "Which of these four statements about the nuclei in the upper left part of this field of view is the right one?"
    )
    options = make_choices(["large and pale nuclei", "small and dark nuclei", "nuclei in rows", "no nuclei"])
    test, train = (next(s for s in samples if s.split == name) for name in ("test", "train"))
    asked = {"messages": user_prompt(words), "choices": options, "answer": "A", "reasoning": (), "label": None}
    return [changed(s, **asked) if s in (test, train) else s for s in samples]


def _always_a(samples: list[Sample]) -> list[Sample]:
    made = []
    for s in samples:
        others = [c.text for c in s.choices if c.letter != s.answer]
        made.append(changed(s, choices=make_choices([s.answer_text or "", *others]), answer="A"))
    return made


def _longest_is_right(samples: list[Sample]) -> list[Sample]:
    made = []
    for i, s in enumerate(samples):
        texts = [
            f"{c.text} {i}" if c.letter != s.answer else f"{c.text} with all the features of it {i}" for c in s.choices
        ]
        made.append(changed(s, choices=make_choices(texts)))
    return made


def _question_tells(samples: list[Sample]) -> list[Sample]:
    return [changed(s, messages=user_prompt(f"Which diagnosis fits {(s.label or '')[:4]} best?")) for s in samples]


def _all_yes(samples: list[Sample]) -> list[Sample]:
    asked = {"choices": make_choices(["yes", "no"]), "reasoning": ()}
    return [changed(s, **asked, answer="B" if i % 8 == 0 else "A") for i, s in enumerate(samples)]


def _says(text: str) -> Plant:
    return lambda samples: [changed(s, reasoning=(text, *s.reasoning)) if i == 3 else s for i, s in enumerate(samples)]


def _ends(text: str) -> Plant:
    return lambda samples: [
        changed(s, reasoning=(s.reasoning[0], text)) if i == 3 else s for i, s in enumerate(samples)
    ]


def _caption(text: str) -> Plant:
    return lambda samples: [changed(s, caption=text) if i == 3 else s for i, s in enumerate(samples)]


def _one_slide_a_class(samples: list[Sample]) -> list[Sample]:
    back = [origin(s, case=None, slide="S1") for s in samples if s.label == CLASSES[0]]
    return [*back, *(s for s in samples if s.label != CLASSES[0])]


def _two_sources(samples: list[Sample]) -> list[Sample]:
    return [origin(s, source="atlas") if s.label == CLASSES[0] else s for s in samples]


def _blank(samples: list[Sample]) -> list[Sample]:
    return [with_picture(samples[0], Image.new("RGB", (96, 96), (240, 240, 240))), *samples[1:]]


def _copy_of_another_patient(samples: list[Sample]) -> list[Sample]:
    return [*samples, clean_sample(900, images=samples[0].images, label=samples[0].label, split="train")]


def _two_answers(samples: list[Sample]) -> list[Sample]:
    first = samples[0]
    other = next(c.letter for c in first.choices if c.letter != first.answer)
    return [*samples, changed(first, id="again", answer=other, reasoning=())]


PLANTED: list[tuple[str, Plant]] = [
    ("same image in two splits", _one_image_in_train_and_test),
    ("nearly the same image in two splits", _turned_copy),
    ("same patient or case in two splits", _split_by_question),
    ("same text in two splits", _written_text_again),
    ("answer position", _always_a),
    ("answer length", _longest_is_right),
    ("answered without the image", _question_tells),
    ("yes/no balance", _all_yes),
    ("statements that no image can show", _says("Two of twelve lymph nodes are involved and the margins are clear.")),
    ("the text names its source", _says("As described in the caption, glands are crowded.")),
    ("template left-overs", _says("The image shows {finding} in the centre.")),
    ("repetition", _says("Glands are crowded and dark here. " * 6)),
    ("mixed languages", _says("La muestra de colon con una lesi\u00f3n que es de las gl\u00e1ndulas y del estroma.")),
    ("mixed languages", _says("\u817a\u4f53\u62e5\u6324\uff0c\u6838\u589e\u5927\u3002" * 8)),
    ("texts are cut off", _caption("Crowded glands are seen. " + "There are many dark nuclei in it " * 3 + "and the")),
    ("reasoning and answer disagree", _ends("So the answer is normal mucosa of an unremarkable kind.")),
    ("a class comes from one group", _one_slide_a_class),
    ("a class comes from one source", _two_sources),
    ("blank images", _blank),
    ("one picture, two patients", _copy_of_another_patient),
    ("one picture, two answers", _two_answers),
    ("no licence", lambda samples: [origin(samples[0], licence="unknown"), *samples[1:]]),
    ("licence forbids derivatives", lambda samples: [origin(samples[0], licence="CC-BY-NC-ND-4.0"), *samples[1:]]),
    ("no patient, case, slide or article", lambda samples: [origin(samples[0], case=None), *samples[1:]]),
    ("images that cannot be read", lambda s: [changed(s[0], images=(ImageBytes(data=b"none"),)), *s[1:]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "plant"), PLANTED, ids=[f"{i}-{name}" for i, (name, _) in enumerate(PLANTED)])
def test_a_planted_fault_is_found_and_named(name: str, plant: Plant, tmp_path: Path) -> None:
    assert name in found_in(plant(clean_samples()), tmp_path)


def test_a_blind_guess_is_no_better_than_chance_on_clean_data_and_far_better_where_the_question_tells() -> None:
    clean, told = blind_guess(clean_samples(), 0), blind_guess(_question_tells(clean_samples()), 0)
    assert clean is not None and told is not None
    assert clean["ci99"][0] < clean["chance"] + 0.05
    assert told["share"] > 0.9 and told["n"] == 120


def test_a_step_that_rules_an_option_out_does_not_conclude_on_it() -> None:
    sample = clean_samples()[0]
    other = next(c for c in sample.choices if c.letter != sample.answer)
    assert concludes_otherwise(changed(sample, reasoning=(f"Goblet cells speak against {other.text}.",))) is None
    assert concludes_otherwise(changed(sample, reasoning=(f"So this is {other.text}.",))) is not None
    assert (
        concludes_otherwise(changed(sample, reasoning=(f"The answer is {other.letter}.",)))
        == f"answer is {other.letter}"
    )


def test_dialogues_of_strangers_letters_that_disagree_tags_and_ids(tmp_path: Path) -> None:
    """What the readers of foreign rows set aside is named as well: a data set is never made clean by dropping."""
    for i in range(4):
        (tmp_path / f"{i}.jpg").write_bytes(encoded(picture(i)))
    options = "\nA. adenoma\nB. carcinoma"
    replies = ["A. carcinoma", "<info>glands</info><think>a</think><answer>A</answer>",
               "<observe>glands</observe><think>b</think><answer>B</answer>", "<think>x</think><answer>A"]  # fmt: skip
    rows = [
        {"id": f"r{i}", "image": f"{i}.jpg", "conversations": [
            {"from": "human", "value": "<image>\nWhich?" + options}, {"from": "gpt", "value": reply}]}
        for i, reply in enumerate(replies)
    ]  # fmt: skip
    rows.append({**rows[1], "conversations": [rows[0]["conversations"][0], {"from": "gpt", "value": "B"}]})
    path = tmp_path / "llava.json"
    path.write_text(json.dumps(rows))
    names = {f.name for f in audit(path).faults}
    assert {"letter and text disagree", "two tag sets", "broken tags", "one id for two samples", "no licence"} <= names


def test_against_another_data_set(tmp_path: Path) -> None:
    exam = clean_samples(10)
    write_samples(exam, tmp_path / "exam.parquet")
    ours = [clean_sample(200 + i) for i in range(10)]
    ours[4] = changed(ours[4], images=exam[2].images)
    found = found_in(ours, tmp_path, str(tmp_path / "exam.parquet"))
    assert [name for name in found if name.endswith("as in exam")] == ["same image as in exam"]


@pytest.mark.parametrize("layout", ["table", "questions", "folder", "parquet"])
def test_layouts_of_strangers(layout: str, tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / "pics" / ("train", "test")[i % 2] / f"class{i % 4 // 2}").mkdir(parents=True, exist_ok=True)
        place = f"{('train', 'test')[i % 2]}/class{i % 4 // 2}/{i}.jpg"
        (tmp_path / "pics" / place).write_bytes(encoded(picture(i // 2 if i < 2 else i)))
    path = tmp_path / "pics"
    if layout != "folder":
        path = tmp_path / "pics" / f"{layout}.{'parquet' if layout == 'parquet' else 'csv'}"
    if layout == "table":
        rows = [
            f"{('train', 'test')[i % 2]}/class{i % 4 // 2}/{i}.jpg,class{i % 4 // 2},p{i},{('train', 'test')[i % 2]}"
            for i in range(8)
        ]
        path.write_text("\n".join(["file,label,patient,split", *rows]))
    elif layout == "questions":
        rows = [
            f"{('train', 'test')[i % 2]}/class{i % 4 // 2}/{i}.jpg,Which {i}?,one,two,A,p{i},{('train', 'test')[i % 2]}"
            for i in range(8)
        ]
        path.write_text("\n".join(["image,question,A,B,answer,patient,split", *rows]))
    elif layout == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = [{"image": {"bytes": encoded(picture(i // 2 if i < 2 else i))}, "question": f"Which {i}?", "answer": "x",
                 "split": ("train", "test")[i % 2]} for i in range(8)]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), path)
    made = audit(path)
    assert len(made.read.samples) == 8
    assert "same image in two splits" in {f.name for f in made.faults}  # pictures 0 and 1 are one


def test_the_page_holds_samples_and_faults_and_no_markup_of_the_data(tmp_path: Path) -> None:
    samples = _says("<script>alert(1)</script> in {place}")(clean_samples(20))
    write_samples(samples, tmp_path / "data.parquet")
    done = CliRunner().invoke(
        app, ["audit", str(tmp_path / "data.parquet"), "--out", str(tmp_path / "page"), "--strict"]
    )
    assert done.exit_code == 1 and "template left-overs" in done.output
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert page.count('<article class="card">') == 20 and "data:image/jpeg" in page
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    told = json.loads((tmp_path / "page" / "audit.json").read_text())
    assert told["faults"] == len([f for f in told["found"] if f["level"] == "fault"]) >= 1


def test_settings_say_what_the_image_is(tmp_path: Path) -> None:
    samples = _says("Immunohistochemistry is positive in the nuclei of the glands.")(clean_samples(20))
    write_samples(samples, tmp_path / "d.parquet")
    name = "statements that no image can show"
    assert name in {f.name for f in audit(tmp_path / "d.parquet").faults}
    assert name not in {f.name for f in audit(tmp_path / "d.parquet", (), AuditSettings(sees="ihc")).faults}
