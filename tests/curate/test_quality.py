"""Captions and pictures that say nothing are named for what is wrong with them; good ones pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from eosin.core.images import encode_png
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, user_prompt
from eosin.core.settings.curation.sifting import FilterStep
from eosin.curate.quality.captions import caption_problem, letters_share, repetition
from eosin.curate.quality.language import language_of
from eosin.curate.quality.pictures import picture_problem, sharpness
from eosin.curate.steps.base import Context
from eosin.curate.steps.filter import FilterSamples

GOOD = "Invasive ductal carcinoma of the breast with high-grade nuclei and central necrosis (H&E, x200)."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        ("A tumour.", "caption too short"),
        ("12 34 56 78 0.5 0.6 p=0.01 (1) (2) (3)", "few letters"),
        ("mitotic figures are seen " * 4, "repeats itself"),
        ("This is a picture of {organ} with {finding} shown.", "left over: place to fill in"),
        ("<|assistant|> The picture shows a gland of the colon.", "left over: token of a model"),
        ("Glands of the colon<br>with goblet cells &nbsp; in them", "left over: tag of a web page"),
        ("As an AI language model I see glands of the colon", "left over: talk of a language model"),
        ("The gland is, as the given caption says, of the colon", "left over: talk of its source"),
        ("La biopsia muestra una mucosa de colon con glándulas irregulares y un infiltrado en la lámina propia",
         "other language"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_caption(text: str, reason: str | None) -> None:
    found = caption_problem(text, FilterStep(languages=["en"]))
    assert (found and found[0]) == reason


def test_shares_by_hand() -> None:
    assert letters_share("ab 12") == 0.5
    assert repetition(["a", "b", "c", "d", "a", "b", "c", "e"]) == 3 / 8
    assert repetition(["a", "b"]) == 0.0


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GOOD, "en"),
        ("Die Biopsie zeigt eine Schleimhaut mit unregelmäßigen Drüsen und ist nicht bei allen zu sehen", "de"),
        ("La biopsie montre une muqueuse du côlon avec des glandes et un infiltrat dans le chorion", "fr"),
        ("Биопсия показывает слизистую оболочку", "ru"),
        ("結腸粘膜の生検では腺の構造が不規則である", "ja"),
        ("TGF-β and α-SMA staining of the stroma with CD3 in the lamina propria", "en"),
        ("Crypt abscess, colon", None),
    ],
)
def test_languages(text: str, code: str | None) -> None:
    assert language_of(text) == code


def tissue(seed: int = 0) -> Image.Image:
    """Blocks of 8 px in random greys, tinted."""
    grey = np.random.default_rng(seed).integers(30, 220, (16, 16)).repeat(8, 0).repeat(8, 1)
    return Image.fromarray(np.stack([grey, grey * 0.7, grey * 0.9], 2).astype(np.uint8))


def test_what_is_wrong_with_a_picture() -> None:
    wanted = FilterStep(min_sharpness=0.05, without_kinds=[])
    reasons = [
        (picture_problem(p, wanted) or ("fine",))[0]
        for p in (tissue(), tissue().resize((20, 20)), tissue().resize((900, 70)), Image.new("RGB", (99, 99), "pink"),
                  tissue().filter(ImageFilter.GaussianBlur(3)))
    ]  # fmt: skip
    assert reasons == ["fine", "picture too small", "picture too long", "picture blank", "picture blurred"]


def test_sharpness_does_not_depend_on_contrast() -> None:
    grey = np.asarray(tissue().convert("L"), np.float32)
    assert sharpness(grey) == pytest.approx(sharpness(50 + grey * 0.3), rel=1e-4)
    assert 0.5 < sharpness(grey) < 2  # half of the pixels stand at an edge of two independent greys
    checks = np.indices((64, 64)).sum(0) % 2 * 2.0 - 1  # L * g = -8 g, so that the ratio of variances is 64
    assert sharpness(checks.astype(np.float32)) == pytest.approx(64, rel=0.01)


def test_an_injected_clip_says_whether_words_fit(tmp_path: Path) -> None:
    def clip(image: Image.Image, texts: list[str]) -> list[float]:
        return [0.9 if "ductal" in t else 0.05 for t in texts]

    def sample(name: str, caption: str | None) -> Sample:
        image = ImageBytes(data=encode_png(tissue()))
        return Sample(id=name, images=(image,), messages=user_prompt("q"), caption=caption, origin=Origin(source="t"))

    step = FilterSamples(FilterStep(min_match=0.2, without_kinds=[]), Context(tools={"clip": clip}), tmp_path)
    assert step.in_main
    fits, not_so, without = step.run(
        0, [sample("a", GOOD), sample("b", "A dog runs over a green meadow"), sample("c", None)]
    )
    assert not isinstance(fits, Dropped) and not isinstance(without, Dropped)
    assert isinstance(not_so, Dropped) and not_so.reason == "picture does not fit the caption"
