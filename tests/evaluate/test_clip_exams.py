"""Zero-shot, few-shot and retrieval by hand; chunked ranks against all products at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, ImageFile, Origin, Sample, user_prompt
from eosin.core.settings.clip import ClipExam, FewShot
from eosin.evaluate.clip.embed import Embedded, embed_samples
from eosin.evaluate.clip.exam import examine_clip
from eosin.evaluate.clip.few_shot import draw, few_shot
from eosin.evaluate.clip.prompts import ClassPrompts
from eosin.evaluate.clip.retrieval import retrieval
from eosin.evaluate.clip.zero_shot import figures, pooled, slide_zero_shot, zero_shot
from eosin.models.clip.clip import Tokens
from eosin.models.clip.ranks import chance_at, ranks_both_ways, recalls_at

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class ColourClip:
    """A model whose vectors can be checked by hand: a picture is its mean colour, a text the colours that it names."""

    dim = 3
    context_length = 8

    def embed_images(self, pictures, batch_size: int = 64) -> np.ndarray:
        rows = np.stack([np.asarray(p, dtype=np.float32).mean((0, 1)) for p in pictures])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts, batch_size: int = 256) -> np.ndarray:
        rows = np.asarray([np.sum([v for k, v in COLOURS.items() if k in t] or [(1, 1, 1)], axis=0) for t in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def tokens(self, texts) -> Tokens:
        return Tokens(None, sum(len(t.split()) + 2 > self.context_length for t in texts), 0)  # type: ignore[arg-type]


def picture(
    rgb, case: str, label: str | None, number: int, caption: str | None = None, slide: str | None = None
) -> Sample:
    image = Image.fromarray(np.full((16, 16, 3), np.asarray(rgb) * 200 + 20, dtype=np.uint8))
    return Sample(
        id=f"s{number}", images=(ImageBytes(data=encode_png(image)),), messages=user_prompt("?"), label=label,
        caption=caption, origin=Origin(source="t", case=case, slide=slide),
    )  # fmt: skip


def test_zero_shot_by_hand(tmp_path: Path) -> None:
    samples = [
        picture((1, 0, 0), "a", "red", 0), picture((1, 0, 0.1), "a", "red", 1), picture((0, 1, 0), "b", "red", 2),
        picture((0, 1, 0), "c", "green", 3), picture((0, 0, 1), "d", "blue", 4),
    ]  # fmt: skip
    seen = embed_samples(ColourClip(), samples)
    found = zero_shot(ColourClip(), seen, ClassPrompts.of(["red", "green", "blue"]))
    assert [r["predicted"] for r in found.rows] == ["red", "red", "green", "green", "blue"]
    assert found.summary["accuracy"] == pytest.approx(4 / 5)
    assert found.summary["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    # F1: red 2*2/(3+2), green 2*1/(1+2), blue 1
    assert found.summary["macro_f1"] == pytest.approx((0.8 + 2 / 3 + 1) / 3)
    rows = {c["name"]: c for c in found.summary["classes"]}
    assert rows["red"]["recall"] == pytest.approx(2 / 3) and rows["green"]["precision"] == pytest.approx(0.5)
    assert found.summary["num_clusters"] == 4


def test_prompts_are_averaged_and_a_class_without_them_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prompts.yaml"
    file.write_text("classes: {warm: [red, green], cold: [blue]}\ntemplates: ['{} tissue']\n")
    prompts = ClassPrompts.of(["warm", "cold"], file=file)
    vectors, num_cut = prompts.vectors(ColourClip())
    assert np.allclose(vectors, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], atol=1e-6) and num_cut == 0
    with pytest.raises(EosinError, match="no prompts") as caught:
        ClassPrompts.of(["warm", "hot"], file=file)
    assert "hot" in str(caught.value.found)
    for text, words in (
        ("classes: {a: word}", "no file of prompts"),
        ("classes: {a: [x]}\ntemplates: [no place]", "once"),
    ):
        file.write_text(text)
        with pytest.raises(EosinError, match=words):
            ClassPrompts.of(["a"], file=file)


def test_a_class_of_the_file_without_samples_is_a_choice_all_the_same(tmp_path: Path) -> None:
    """The exam of a split that lacks a class must not become easier than that of another split."""
    file = tmp_path / "prompts.yaml"
    file.write_text("classes: {warm: [red], cold: [blue], leaf: [green]}\ntemplates: ['{} tissue']\n")
    seen = embed_samples(ColourClip(), [picture((1, 0, 0), "a", "warm", 0), picture((0, 1, 0), "b", "cold", 1)])
    found = zero_shot(ColourClip(), seen, ClassPrompts.of(["cold", "warm"], file=file)).summary
    assert [c["name"] for c in found["classes"]] == ["cold", "warm", "leaf"]
    assert found["balanced_accuracy"] == 0.5 and found["chance"] == pytest.approx(1 / 3)
    assert found["classes"][2]["recall"] is None and found["confusion"][0][:3] == [0, 0, 1]


def test_a_label_without_prompts_is_refused() -> None:
    seen = embed_samples(ColourClip(), [picture((1, 0, 0), "a", "purple", 0)])
    with pytest.raises(EosinError, match="prompts for every class"):
        zero_shot(ColourClip(), seen, ClassPrompts.of(["red", "green"]))


def test_intervals_are_wider_by_case_than_by_image() -> None:
    gold, said = ["a"] * 20 + ["b"] * 20, ["a"] * 10 + ["b"] * 30
    by_case = figures(gold, said, [f"c{i // 10}" for i in range(40)], ["a", "b"], 0)
    by_image = figures(gold, said, [f"i{i}" for i in range(40)], ["a", "b"], 0)
    width = [f["ci95"][1] - f["ci95"][0] for f in (by_case, by_image)]
    assert width[0] > 1.5 * width[1]


def test_slides_by_their_best_tiles() -> None:
    scores = np.asarray([[0.9, 0.1], [0.1, 0.5], [0.1, 0.5], [0.1, 0.5]], np.float32)
    assert np.allclose(pooled(scores, 1), [0.9, 0.5]) and np.allclose(pooled(scores, 9), [0.3, 0.4])
    with pytest.raises(EosinError):
        pooled(scores[:0], 1)
    mostly_green = [
        picture((1, 0, 0), "a", "red", 0, slide="A"),
        *(picture((0, 0.6, 0.55), "a", "red", i, slide="A") for i in (1, 2, 3)),
    ]
    other = [picture((0, 1, 0), "b", "green", 4, slide="B"), picture((1, 0, 0), "c", "red", 5, slide="C"),
             picture((0, 1, 0), "c", "green", 6, slide="C")]  # fmt: skip
    seen = embed_samples(ColourClip(), [*mostly_green, *other])
    found = slide_zero_shot(ColourClip(), seen, ClassPrompts.of(["red", "green"]), top_k=(1, 4))
    assert found["num_slides"] == 2 and found["left_out"] == 1
    assert found["by_k"]["top_1"]["accuracy"] == 1.0, "one red tile decides"
    assert found["by_k"]["top_4"]["accuracy"] == 0.5


def test_few_shot_is_logistic_regression_on_seeded_subsets() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = ["a"] * 40 + ["b"] * 40 + ["c"] * 5
    X = rng.normal(size=(85, 4)) + np.repeat([[0, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0]], [40, 40, 5], axis=0)
    test, gold = X[::2] + 0.1, labels[::2]
    found = few_shot({"x": X}, labels, {"x": test}, gold, FewShot(shots=[2, 8], num_subsets=3))
    names = np.asarray(labels)
    for size, shots in zip(found["sizes"], (2, 8), strict=False):
        for i, score in enumerate(size["features"]["x"]["all"]):
            chosen = draw(labels, shots, 42 + i)
            counts = {c: int((names[chosen] == c).sum()) for c in "abc"}
            assert counts == {"a": shots, "b": shots, "c": min(shots, 5)}
            model = LogisticRegression(C=1.0, max_iter=1000).fit(X[chosen], names[chosen])
            said = model.predict(test)
            assert score == pytest.approx(np.mean([(said[np.asarray(gold) == c] == c).mean() for c in "abc"]))
    assert found["sizes"][1]["short_classes"] == ["c"] and found["sizes"][2]["shots"] is None
    assert not np.array_equal(draw(labels, 8, 42), draw(labels, 8, 43))


def dense_ranks(pictures: np.ndarray, captions: np.ndarray, same: list[str]) -> tuple[list[int], list[int]]:
    """By all products at once, one query after the other."""
    products, keys = pictures @ captions.T, np.asarray(same)
    ways = []
    for table in (products, products.T):
        rows = []
        for i, row in enumerate(table):
            right = keys == keys[i]
            rows.append(1 + int((row[~right] >= row[right].max()).sum()))
        ways.append(rows)
    return ways[0], ways[1]


@pytest.mark.parametrize("tile", [7, 64, 4096])
def test_ranks_by_tiles_are_those_of_all_products(tile: int) -> None:
    """Whole numbers, so that products are exact and ties are many."""
    rng = np.random.default_rng(1)
    pictures, captions = (rng.integers(-3, 4, (300, 6)).astype(np.float32) for _ in range(2))
    same = [f"caption {i % 211}" for i in range(300)]
    found = ranks_both_ways(pictures, captions, same, tile=tile)
    expected = dense_ranks(pictures, captions, same)
    assert found.captions.tolist() == expected[0] and found.pictures.tolist() == expected[1]


def test_a_model_that_says_one_thing_finds_nothing() -> None:
    same_vector = np.tile(np.float32([[1, 0]]), (30, 1))
    found = ranks_both_ways(same_vector, same_vector, [str(i) for i in range(30)])
    assert set(found.captions.tolist()) == {30} and recalls_at(found.pictures)["r@1"] == 0


def test_recalls_and_chance_by_hand() -> None:
    found = recalls_at(np.asarray([1, 1, 3, 6, 30]))
    assert (found["r@1"], found["r@5"], found["r@10"], found["r@20"]) == (0.4, 0.6, 0.8, 0.8)
    assert found["median_rank"] == 3 and found["mean_recall"] == pytest.approx(0.65)
    assert chance_at(list("abcdefghij"), 5) == pytest.approx(0.5)
    # two of four right: 1 - (2/4)(1/3); one of four right: 2/4
    assert chance_at(["x", "x", "y", "z"], 2) == pytest.approx((2 * (1 - 1 / 6) + 2 * 0.5) / 4)


def test_a_picture_that_fails_is_reported_and_never_a_zero_vector(tmp_path: Path) -> None:
    fine = [picture(v, f"c{i}", k, i, caption=f"a {k} thing") for i, (k, v) in enumerate(COLOURS.items())]
    broken = fine[0].model_copy(update={"id": "bad", "images": (ImageFile(path=str(tmp_path / "none.png")),)})
    wordless = fine[0].model_copy(update={"id": "mute", "caption": None})
    seen = embed_samples(ColourClip(), [broken, *fine, wordless])
    assert [s.id for s in seen.samples] == ["s0", "s1", "s2", "mute"] and [d.id for d in seen.dropped] == ["bad"]
    found = retrieval(ColourClip(), seen)
    assert found["n"] == 3 and found["dropped"] == {"image file missing": 1, "no caption": 1}
    assert found["image_to_text"]["r@1"] == 1.0 and found["text_to_image"]["median_rank"] == 1
    with pytest.raises(EosinError, match="nothing to classify"):
        Embedded((), np.empty((0, 3), np.float32), seen.dropped).require("classify")


def test_equal_captions_are_right() -> None:
    samples = [picture((1, 0, 0), "a", None, 0, "a red one"), picture((0, 1, 0), "b", None, 1, "a green one"),
               picture((1, 0.2, 0), "c", None, 2, "A  red one")]  # fmt: skip
    found = retrieval(ColourClip(), embed_samples(ColourClip(), samples))
    assert found["different_captions"] == 2 and found["image_to_text"]["r@1"] == 1.0


def test_an_exam_writes_what_it_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train, test = (
        [picture(np.clip(np.asarray(COLOURS[k]) + rng.uniform(0, 0.1, 3), 0, 1), f"{part}{i}", k, 100 * part + i,
                 f"{k} {i}")
         for i, k in enumerate(list(COLOURS) * 6)]
        for part in (1, 2)
    )  # fmt: skip
    settings = ClipExam(few_shot=FewShot(shots=[2], num_subsets=2, encoder="colour-texture"))
    summary = examine_clip(ColourClip(), train, test, settings, tmp_path / "exam")  # type: ignore[arg-type]
    assert summary["zero_shot"]["balanced_accuracy"] == 1.0 and summary["retrieval"]["n"] == 18
    beside = summary["zero_shot"]["baselines"]
    assert beside["colour_histogram"]["balanced_accuracy"] == 1.0 and beside["majority"]["accuracy"] == 1 / 3
    against = summary["zero_shot"]["against_baselines"]
    assert against["difference"] == 0.0 and against["beats"] is False and against["n"] == 18
    assert set(summary["few_shot"]["sizes"][0]["features"]) == {
        "clip", "colour_histogram", "colour_texture", "colour-texture + colour_histogram",
    }  # fmt: skip
    best = summary["few_shot"]["sizes"][0]["features"]["colour-texture + colour_histogram"]
    assert best["balanced_accuracy"] == 1.0, "the classes are colours"
    assert len((tmp_path / "exam" / "predictions.jsonl").read_text().splitlines()) == 18
    from eosin.report.sections.clip import clip_lines, clip_section

    assert any("zero-shot" in line for line in clip_lines(summary))
    assert any("does not beat its best baseline" in line for line in clip_lines(summary))
    shown = clip_section("clip", summary)
    assert "does not beat" in shown["zero_shot"]["verdict"]
    assert {"Majority class", "Colour histogram"} <= {b["name"] for b in shown["zero_shot"]["baselines"]}
    assert "<svg" in shown["few_shot"]["chart"] and len(shown["zero_shot"]["classes"]) == 3


def test_without_training_labels_nothing_stands_beside_zero_shot(tmp_path: Path) -> None:
    test = [picture(COLOURS[k], f"case{i}", k, i) for i, k in enumerate(list(COLOURS) * 4)]
    for name, train, settings in (
        ("none", [], ClipExam()),
        ("one", [picture((1, 0, 0), f"t{i}", "red", 50 + i) for i in range(3)], ClipExam()),
        ("off", [picture(COLOURS[k], f"t{k}", k, 60 + i) for i, k in enumerate(COLOURS)], ClipExam(baselines=False)),
    ):
        summary = examine_clip(ColourClip(), train, test, settings, tmp_path / name)  # type: ignore[arg-type]
        assert "baselines" not in summary["zero_shot"], name
