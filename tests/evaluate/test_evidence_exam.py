"""Evidence as a part of an exam: rows, figures, maps, what is left out, and going on after a kill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.core.settings.exam import EvidenceSettings, ExamSettings
from eosin.engines.base import MockEngine, Request
from eosin.evaluate.evidence.maps import lesion_rings
from eosin.evaluate.evidence.run import answer_span, with_answer
from eosin.evaluate.evidence.tests import Attribution, AttributionTarget
from eosin.evaluate.exam.exam import run_exam
from eosin.slides.annotations.geojson import Shape, write_geojson
from eosin.slides.annotations.geojson_read import read_geojson
from eosin.slides.features.h5 import FeatureBag, TileGeometry, write_bag
from eosin.slides.features.regions import SlideRegions

GRAMMAR = Grammar.of("think/answer")
SIDE, LEVEL0_MPP = 5, 0.25  # patches a side; each is 64 px at 0.5, so 128 px of level 0 and 32 µm
SETTINGS = ExamSettings(
    probes=["blank"], bootstrap=200,
    evidence=EvidenceSettings(fractions=[0.2, 0.4], num_random=3, num_maps=2, methods=["gradient", "rollout"]),
)  # fmt: skip


class Lesions:
    """A model that depends on the patches of the lesion alone: log p = -0.1 - 4 x share of them that is gone."""

    def __init__(self) -> None:
        self.num_scored = 0

    def scores(self, asked: AttributionTarget, methods: Sequence[str]) -> Attribution:
        self.num_scored += 1
        own = asked.bag.features[:, 0].astype(float)
        notes = {"rollout": "decoder only"}
        return Attribution({"gradient": own, "rollout": -own}, self.logprobs([asked])[0], 2, len(own) + 1, notes)

    def logprobs(self, asked: Sequence[AttributionTarget]) -> list[float]:
        return [-0.1 - 4 * (1 - float(a.bag.features[:, 0].sum()) / 4) for a in asked]


def make_sample(folder: Path, case: int, *, truth: bool = True) -> Sample:
    """A slide of 5 x 5 patches whose upper left 2 x 2 are the lesion, with its truth in pixels of level 0."""
    y, x = np.divmod(np.arange(SIDE * SIDE), SIDE)
    lesion = (x < 2) & (y < 2)
    features = np.stack([lesion, np.full(25, case)], 1).astype(np.float32)
    bag = FeatureBag(
        f"s{case}", features, np.stack([x, y], 1) * 128, TileGeometry(64, 128, 0.5, LEVEL0_MPP), encoder="toy"
    )
    write_bag(folder / "features" / f"s{case}.h5", bag)
    ring = np.array([[0, 0], [256, 0], [256, 256], [0, 256], [0, 0]], dtype=float)
    write_geojson(folder / f"s{case}.geojson", [Shape([[ring]], "Lesion"), Shape([[ring * 2]], "Tissue")])
    return Sample(
        id=f"slide/{case}",
        images=(SlideBag(path=str(folder / "features" / f"s{case}.h5"), encoder="toy"),),
        messages=user_prompt("What is it?"),
        choices=make_choices(["adenoma", "normal"]),
        answer="A",
        label="adenoma",
        origin=Origin(source="toy", case=str(case)),
        extra={"truth": str(folder / f"s{case}.geojson")} if truth else {},
    )


def says(request: Request) -> str:
    return "broken" if request.id == "slide/3" else "<think>glands</think><answer>adenoma</answer>"


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    (tmp_path / "features").mkdir()
    return [make_sample(tmp_path, i, truth=i != 5) for i in range(12)]


def exam(samples: list[Sample], out: Path, model: Any, settings: ExamSettings = SETTINGS) -> dict[str, Any]:
    return run_exam(MockEngine(says), samples, GRAMMAR, settings, out, read_region=SlideRegions(), evidence=model)


def test_figures_rows_and_maps(samples: list[Sample], tmp_path: Path) -> None:
    found = exam(samples, tmp_path / "exam", Lesions())["evidence"]
    assert found["n"] == 11 and found["skipped"] == {"the reply states no answer": 1}
    assert found["not_pointed"] == {"no truth": 1}
    assert found["notes"] == {"rollout": "decoder only"}
    # Of 25 patches 4 are the lesion: 16 % at random, all of them by the right scores: ratio 6.25 in every case.
    assert found["pointing"]["n"] == 10
    assert found["pointing"]["gradient"]["lesion"]["ratio"]["value"] == pytest.approx(6.25)
    assert found["pointing"]["rollout"]["lesion"]["ratio"]["value"] == 0
    assert found["pointing"]["random"]["expected"] == pytest.approx(0.16)
    # Five patches taken out by the right scores hold all four of the lesion: log p falls by 4.
    gradient, rollout = (found["deletion"][m]["logprob"] for m in ("gradient", "rollout"))
    assert [f["value"] for f in gradient["falls"]] == pytest.approx([4, 4])
    assert [f["value"] for f in rollout["falls"]] == pytest.approx([0, 0])
    assert gradient["area_minus_random"]["ci95"][0] > 1.5
    rows = [json.loads(x) for x in (tmp_path / "exam" / "evidence.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and sum("skipped" in r for r in rows) == 1
    assert {r["patch"] for r in rows[0]["top"]["gradient"]} == {0, 1, 5, 6}
    assert rows[0]["num_slide_tokens"] == 26 and rows[0]["answer"] == "adenoma"
    assert len(found["maps"]) == 2
    for row in found["maps"]:
        with Image.open(tmp_path / "exam" / "evidence" / row["picture"]) as picture:
            assert picture.width > 200
        shapes = read_geojson(tmp_path / "exam" / "evidence" / row["geojson"]).kept
        best = next(s for s in shapes if s.measurements["Rank"] == 1)
        assert best.kind == "Evidence 5" and best.parts[0][0].max() <= 256
        assert np.ptp(best.parts[0][0][:, 0]) == pytest.approx(128)


def test_an_exam_without_evidence_keeps_its_key(samples: list[Sample], tmp_path: Path) -> None:
    """The key of an exam that measures none is that of exams of before there was any."""
    plain = SETTINGS.model_copy(update={"evidence": None})
    assert exam(samples, tmp_path / "exam", Lesions(), plain)["evidence"] is None
    assert not (tmp_path / "exam" / "evidence.jsonl").exists()
    assert "evidence" not in plain.model_dump(exclude={"evidence"})
    other = exam(samples, tmp_path / "other", None)
    assert other["evidence"] == {"n": 0, "reason": "the weights of this engine's model are not at hand"}


def test_a_killed_exam_goes_on(samples: list[Sample], tmp_path: Path) -> None:
    class Stops(Lesions):
        def scores(self, asked: AttributionTarget, methods: Sequence[str]) -> Attribution:
            if self.num_scored == 4:
                raise KeyboardInterrupt
            return super().scores(asked, methods)

    with pytest.raises(KeyboardInterrupt):
        exam(samples, tmp_path / "exam", Stops())
    model = Lesions()
    whole = exam(samples, tmp_path / "exam", model)
    assert model.num_scored == 11 - 4
    assert whole == exam(samples, tmp_path / "at once", Lesions())


def test_the_gold_answer_in_the_models_own_form(samples: list[Sample]) -> None:
    for own, gold in (("normal", "adenoma"), ("B. normal", "A. adenoma"), ("normal (B)", "adenoma (A)"), ("B", "A")):
        reply = f"<think>x</think><answer> {own}</answer>"
        span = answer_span(reply, GRAMMAR)
        assert span is not None and reply[slice(*span)] == own
        changed, place = with_answer(reply, span, samples[0])
        assert changed == f"<think>x</think><answer> {gold}</answer>" and changed[slice(*place)] == gold
    assert answer_span("<think>x</think><answer></answer>", GRAMMAR) is None
    assert answer_span("<answer>a</answer>", GRAMMAR) is None


def test_settings_are_checked() -> None:
    for wrong in ({"fractions": [0.4, 0.2]}, {"fractions": [0.0]}, {"methods": []}, {"methods": ["gradient"] * 2}):
        with pytest.raises(ValueError):
            EvidenceSettings.model_validate(wrong)


def test_the_blank_probe_of_a_slide_keeps_its_places(samples: list[Sample], tmp_path: Path) -> None:
    """What the engine is shown: the bag itself in the exam, and in the probe the same places with features 0."""
    seen: list[Any] = []

    def watches(request: Request) -> str:
        seen.append(request.images[0])
        return says(request)

    plain = SETTINGS.model_copy(update={"evidence": None})
    run_exam(MockEngine(watches), samples[:2], GRAMMAR, plain, tmp_path / "exam", read_region=SlideRegions())
    shown, blank = seen[0], seen[2]
    assert shown.features[:, 0].sum() == 4 and not blank.features.any()
    np.testing.assert_array_equal(shown.centres_um, blank.centres_um)


def test_a_bag_is_never_shrunk(samples: list[Sample]) -> None:
    from eosin.models.pictures import shrink

    bag = SlideRegions().bag(samples[0].images[0])  # type: ignore[arg-type]
    assert shrink(bag, 100) is bag
    assert shrink(Image.new("RGB", (200, 100)), 5000).size == (100, 50)


def test_a_truth_with_a_damaged_outline_is_no_truth(tmp_path: Path) -> None:
    """A lesion that cannot be read would make every pointing test wrong, so none is made from such a file."""
    ring = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]

    def feature(kind: str, coordinates: list[Any], name: str = "Lesion") -> dict[str, Any]:
        geometry = {"type": kind, "coordinates": coordinates}
        return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}

    def written(*features: dict[str, Any]) -> Path:
        (tmp_path / "truth.geojson").write_text(json.dumps(features))
        return tmp_path / "truth.geojson"

    whole = written(feature("Polygon", [ring]), feature("Point", [1, 1]), feature("Polygon", [ring], "Tissue"))
    (rings,) = lesion_rings(whole, 0.5)
    assert rings[0].max() == 50
    with pytest.raises(EosinError, match="outlines of this slide") as caught:
        lesion_rings(written(feature("Polygon", [ring]), feature("Polygon", [ring[:3]])), 0.5)
    assert caught.value.found == "1 x a ring of fewer than four positions"
