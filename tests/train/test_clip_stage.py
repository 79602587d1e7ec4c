"""A clip stage: exact resume, pairs and their groups, augmentation that keeps captions true, odd captions counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from eosin.core.errors import EosinError
from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, ImageFile, Origin, Sample, user_prompt
from eosin.core.settings.clip import ClipStage, TinyClip
from eosin.core.store import artifacts as store
from eosin.models.clip.load import load_clip, new_clip
from eosin.train.clip.augment import allowed, augment_pairs, names_colour, names_side
from eosin.train.clip.job import ClipContext, Job
from eosin.train.clip.pairs import Pairs, batch_of, group_key, pairs_of
from eosin.train.data.augment import AugmentSettings, rng_of
from eosin.train.stages.clip import run

TINY = TinyClip.model_validate(
    {"image_px": 16, "dim": 8, "context_length": 12, "vision": {"layers": 1, "width": 16, "heads": 2, "patch_size": 8},
     "text": {"layers": 1, "width": 16, "heads": 2}}
)  # fmt: skip


def sample(number: int, caption: str | None = "a gland", **origin: str) -> Sample:
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    return Sample(id=f"s{number}", images=(ImageBytes(data=encode_png(image)),), messages=user_prompt("?"),
                  caption=caption, origin=Origin(source="t", **origin))  # fmt: skip


def context(folder: Path, num: int = 20) -> ClipContext:
    folder.mkdir()
    train = [sample(i, f"gland number {i}", case=f"c{i // 2}") for i in range(num)]
    valid = [sample(100 + i, f"gland number {i}", case=f"v{i}") for i in range(6)]
    return ClipContext("clip", folder, new_clip(TINY, 0), True, train, valid, seed=3)


SETTINGS = {
    "steps": 7, "batch_size": 8, "chunk_size": 4, "augment": True, "learning_rate": 1e-2, "log_every": 1,
    "valid_every": 2, "save_every": 3, "keep": "best",
}  # fmt: skip


class KilledError(Exception):
    pass


@pytest.mark.parametrize("more", [{}, {"lora": {"r": 2}, "loss": "siglip"}])
def test_a_killed_stage_goes_on_to_the_very_same_weights(tmp_path: Path, monkeypatch, more: dict) -> None:
    settings = ClipStage.model_validate({**SETTINGS, **more})
    whole = run(settings, context(tmp_path / "whole"))
    ctx = context(tmp_path / "cut")
    one, count = Job.one, 0

    def dies(job: Job, chosen: torch.Tensor, pixels: torch.Tensor) -> float:
        nonlocal count
        count += 1
        if count == 6:  # after the save of step 4, in the middle of the work after it
            raise KilledError
        return one(job, chosen, pixels)

    monkeypatch.setattr(Job, "one", dies)
    with pytest.raises(KilledError):
        run(settings, ctx)
    monkeypatch.undo()
    again = run(settings, dataclasses.replace(ctx, clip=new_clip(TINY, 0)))
    assert again.num_steps == whole.num_steps == 7
    ours, theirs = (load_file(tmp_path / n / "checkpoint" / "open_clip_model.safetensors") for n in ("cut", "whole"))
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, atol=1e-6), name
    rows = [store.read_jsonl(tmp_path / n / "metrics.jsonl") for n in ("cut", "whole")]
    assert [r["step"] for r in rows[0]] == [r["step"] for r in rows[1]] == list(range(1, 8))
    assert [r["loss"] for r in rows[0]] == pytest.approx([r["loss"] for r in rows[1]], abs=1e-5)
    assert "valid_mean_recall" in rows[0][1] and "valid_mean_recall" not in rows[0][0]


def test_it_learns_and_locked_towers_stay(tmp_path: Path) -> None:
    ctx = context(tmp_path / "a", num=16)
    before = {k: v.clone() for k, v in ctx.clip.network.state_dict().items()}
    told = {"steps": 40, "augment": False, "freeze": ["vision"], "keep": "last", "save_every": 100, "valid_every": 100}
    settings = ClipStage.model_validate({**SETTINGS, **told})
    result = run(settings, ctx)
    rows = store.read_jsonl(ctx.metrics_file)
    assert rows[-1]["loss"] < 0.75 * rows[0]["loss"]
    after = load_clip(ctx.folder / "checkpoint").network.state_dict()
    for name, value in before.items():
        if name.startswith("visual."):
            assert torch.equal(after[name].cpu(), value.cpu()), name
    assert not torch.equal(after["text_projection"].cpu(), before["text_projection"].cpu())
    assert result.num_trainable < result.num_parameters
    assert result.extra["pairs"]["num_pairs"] == 16 and result.extra["pairs"]["groups"] == 8


def test_odd_pairs_are_set_aside_and_the_counts_add_up(tmp_path: Path) -> None:
    ctx = context(tmp_path / "a")
    odd = [sample(50, None), sample(51, "   "), sample(52, "word " * 10_000), sample(53, "組織の写真"),
           sample(54).model_copy(update={"images": (ImageFile(path=str(tmp_path / "none.png")),)}),
           sample(55).model_copy(update={"images": ()})]  # fmt: skip
    ctx = dataclasses.replace(ctx, train=[*ctx.train, *odd])
    facts = run(ClipStage.model_validate({**SETTINGS, "steps": 1}), ctx).extra["pairs"]
    assert facts["dropped"] == {"no caption": 2, "image file missing": 1, "no picture": 1}
    assert facts["num_pairs"] + sum(facts["dropped"].values()) == facts["num_samples"] == 26
    assert facts["cut_captions"] == 1, "10,000 words"
    with pytest.raises(EosinError, match="No training sample gives a pair"):
        run(ClipStage.model_validate(SETTINGS), dataclasses.replace(ctx, train=odd[:2]))
    with pytest.raises(EosinError, match="fewer pairs than one batch"):
        run(ClipStage.model_validate({**SETTINGS, "batch_size": 64}), context(tmp_path / "b"))


def test_groups_are_slides_figures_and_cases() -> None:
    figure = [sample(i, article="a1").model_copy(update={"extra": {"figure": "2"}}) for i in (0, 1)]
    other = sample(2, article="a1").model_copy(update={"extra": {"figure": "3"}})
    assert group_key(figure[0]) == group_key(figure[1]) != group_key(other)
    panels = [
        sample(i, article="a1").model_copy(
            update={"extra": {"figure": {"number": "4", "caption": 999 * "long ", "panel": {"letter": x}}}}
        )
        for i, x in enumerate("ab")
    ]
    assert group_key(panels[0]) == group_key(panels[1]) and len(str(group_key(panels[0]))) < 80
    assert group_key(sample(3, slide="s", case="c")) == group_key(sample(4, slide="s", case="d"))
    assert group_key(sample(5)) is None and group_key(sample(6, article="a1")) is None
    clip = new_clip(TINY, 0)
    pairs = Pairs.of(pairs_of([*figure, other, sample(7, "A  Gland"), sample(8, "mucin")], clip).kept, clip)
    right, compared = pairs.relations(torch.arange(5), equal_is_right=True, groups_compete=False).of_rows(slice(0, 5))
    assert right.tolist()[0] == [True, True, True, True, False], "equal captions, whatever their case and spaces"
    right, compared = pairs.relations(torch.arange(5), equal_is_right=False, groups_compete=False).of_rows(slice(0, 5))
    assert right.tolist()[0] == [True, False, False, False, False]
    assert compared.tolist()[0] == [True, False, True, True, True], "two panels of one figure are not compared"


def test_batches_cover_an_epoch_once_and_follow_from_the_step() -> None:
    seen = torch.cat([batch_of(23, 5, step, 0)[0] for step in range(4)])
    assert len(seen.unique()) == 20 and batch_of(23, 5, 4, 0)[1] == 1
    assert torch.equal(batch_of(23, 5, 6, 0)[0], batch_of(23, 5, 6, 0)[0])
    assert not torch.equal(batch_of(23, 5, 0, 0)[0], batch_of(23, 5, 4, 0)[0])


@pytest.mark.parametrize(
    ("caption", "colour", "side"),
    [
        ("Irregular glands invade the stroma.", False, False),
        ("The cytoplasm is pink and the nuclei are dark.", True, False),
        ("Congo red stain, high power", True, False),
        ("Ki-67 immunohistochemistry", True, False),
        ("Tumour on the left, normal mucosa on the right", False, True),
        ("An arrow marks the PAS-positive material in the upper corner", True, True),
        ("A bright idea about coloured copyright", True, False),
        ("credible reddit, brownie", False, False),
    ],
)
def test_what_a_caption_names_is_kept(caption: str, colour: bool, side: bool) -> None:
    assert (names_colour(caption), names_side(caption)) == (colour, side)
    found = allowed(AugmentSettings(), caption)
    assert found.colour != names_colour(caption) and found.flips != side


def draws(num: int, seed: int) -> list[np.random.Generator]:
    """The generators of some pairs in their first epoch."""
    return [rng_of(seed, 0, f"pair-{i}") for i in range(num)]


def test_a_pair_is_changed_the_same_in_whatever_batch_it_stands() -> None:
    pixels = torch.randint(0, 256, (6, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = augment_pairs(pixels, ["a gland"] * 6, AugmentSettings(), draws(6, 3))
    parts = [
        augment_pairs(pixels[i : i + 2], ["a gland"] * 2, AugmentSettings(), draws(6, 3)[i : i + 2]) for i in (0, 2, 4)
    ]
    assert torch.equal(torch.cat(parts), whole) and not torch.equal(whole, pixels)


def test_pictures_change_only_as_far_as_their_caption_allows() -> None:
    pixels = torch.randint(40, 200, (40, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    captions = ["the left gland is pink", "the left gland", "a pink gland", "a gland"] * 10
    changed = augment_pairs(pixels, captions, AugmentSettings(crop=0, rotate=0), draws(40, 1))
    assert torch.equal(changed[0::4], pixels[0::4])
    sums = [lambda x: x.double().sum((1, 2)), lambda x: x.double().sum(3)]
    assert torch.equal(sums[0](changed[2::4]), sums[0](pixels[2::4])), "the colours of a picture stay as a whole"
    assert not torch.equal(changed[2::4], pixels[2::4]), "but it was turned"
    flat = torch.full((4, 16, 16, 3), 120, dtype=torch.uint8)
    half = flat.clone()
    half[:, :, :8] = 60
    shifted = augment_pairs(half, ["the left gland"] * 4, AugmentSettings(crop=0, rotate=0), draws(4, 2))
    assert (shifted[:, :, :8].float().mean((1, 2)) < shifted[:, :, 8:].float().mean((1, 2))).all(), "left stays left"
    assert not torch.equal(shifted, half), "but its colours were changed"


def test_the_first_layers_stay_as_they_are(tmp_path: Path) -> None:
    told = {**TINY.model_dump(), "vision": {"timm_model": "test_resnet"}, "image_px": 32}
    ctx = context(tmp_path / "stage")
    ctx = dataclasses.replace(ctx, clip=new_clip(TinyClip.model_validate(told), 0))
    before = {k: v.clone() for k, v in ctx.clip.network.visual.state_dict().items()}
    run(ClipStage.model_validate({"steps": 2, "batch_size": 8, "freeze_first": 0.5, "learning_rate": 1e-2}), ctx)
    after = ctx.clip.network.visual.state_dict()
    moved = [k for k in before if not torch.equal(before[k], after[k])]
    assert torch.equal(before["trunk.conv1.0.weight"], after["trunk.conv1.0.weight"])
    assert any(k.startswith("trunk.layer4") for k in moved) and any(k.startswith("head.") for k in moved)
    assert not any(k.startswith("trunk.layer1") for k in moved)
    with pytest.raises(ValueError, match="freeze_first"):
        ClipStage.model_validate({"freeze_first": 0.5, "freeze": ["vision"]})
