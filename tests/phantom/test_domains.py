"""Phantoms of other domains: labels are told apart by structure, and colour says next to nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eosin.core.settings.data import PhantomDomainData
from eosin.phantom.domains.kinds import DOMAINS
from eosin.phantom.domains.picture import DomainCase, render, with_values_of
from eosin.sources.phantom_domains import read_phantom_domain

NUM, TRAIN, SIDE = 176, 96, 96


def pictures(domain: str, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    cases = [DomainCase(domain, seed, n) for n in range(NUM)]
    shown = [np.asarray(Image.open(io.BytesIO(render(c, 0, SIDE)))) for c in cases]
    return shown, np.array([c.label for c in cases])


def score(features: list[np.ndarray], labels: np.ndarray, strength: float) -> float:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    x = np.stack(features)
    return float(model.fit(x[:TRAIN], labels[:TRAIN]).score(x[TRAIN:], labels[TRAIN:]))


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_colour_is_near_chance_and_structure_is_not(domain: str) -> None:
    """80 test pictures of four labels: chance is 0.25, and 0.25 + 3 standard errors is 0.395."""
    shown, labels = pictures(domain, 5)
    assert sorted(set(labels)) == sorted(DOMAINS[domain].labels)
    colours = [
        np.concatenate([np.histogram(p[..., k], 16, (0, 256))[0] / p[..., k].size for k in range(3)]) for p in shown
    ]
    assert score(colours, labels, 1.0) < 0.395
    small = [np.asarray(Image.fromarray(p).convert("L").resize((16, 16))).ravel() / 255 for p in shown]
    assert score(small, labels, 0.1) > 0.5


def test_the_same_case_is_the_same_picture_and_another_is_not() -> None:
    case = DomainCase("oct", 3, 7)
    assert render(case) == render(case) and render(case) != render(case, 1)
    assert render(case) != render(DomainCase("oct", 4, 7))


def test_values_of_another_picture_by_rank() -> None:
    rng = np.random.default_rng(0)
    picture = np.repeat(np.array([[0.1, 0.9], [0.5, 0.3]])[..., None], 3, axis=2)
    other = np.repeat(np.array([[4.0, 3.0], [2.0, 1.0]])[..., None], 3, axis=2)
    made = with_values_of(picture, other, rng)
    assert made[..., 0].tolist() == [[1.0, 4.0], [3.0, 2.0]] and (made[..., 1] == made[..., 0]).all()


def test_grey_domains_are_grey_and_sizes_are_as_asked() -> None:
    for domain in DOMAINS:
        image = Image.open(io.BytesIO(render(DomainCase(domain, 1, 0), 0, 128)))
        assert image.size == (128, 128) and image.mode == "RGB"
        pixels = np.asarray(image).astype(int)
        assert (np.abs(pixels[..., 0] - pixels[..., 2]).max() <= 3) == (domain in ("ct", "oct"))


def test_as_recipe_data_cases_are_split_and_options_shuffled() -> None:
    settings = PhantomDomainData(
        domain="ct", train_cases=8, valid_cases=4, test_cases=4, pictures_per_case=2, side_px=64
    )
    made = read_phantom_domain(settings, 1)
    assert made.card.counts["train"] == dict.fromkeys(sorted(DOMAINS["ct"].labels), 4)
    assert made.card.num_groups == {"train": 8, "valid": 4, "test": 4}
    groups = {s: {x.origin.group for x in made.kept if x.split == s} for s in ("train", "valid", "test")}
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["valid"]
    assert all(s.answer_text == s.label for s in made.kept)
    assert len({s.answer for s in made.kept}) == 4
