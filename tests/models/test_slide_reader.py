"""The slide reader: what it sees, where its tokens stand, and that it is Qwen2.5-VL wherever no slide is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.close import other_numbers, same_numbers
from tests.support.slide_toys import DIMENSION, SMALL, chat_of, new_reader, toy_bag
from tests.support.toys import toy_image
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration

from eosin.core.errors import EosinError, ImageError
from eosin.core.nouns.bags import PatchBag
from eosin.models import checkpoint
from eosin.models.load import Loaded, freeze, load, parts, placeholder_tokens
from eosin.models.slide_encoder.rows import PatchPositions
from eosin.models.slide_encoder.tower import kept_tokens
from eosin.models.tiny import build_tiny
from eosin.models.vision_cache import cache_vision


def encode(loaded: Loaded, chats: list[Any], side: str = "left") -> dict[str, Any]:
    return dict(
        loaded.processor.apply_chat_template(
            chats, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": side},
        )
    )  # fmt: skip


def logits_of(loaded: Loaded, pictures: list[Any], text: str = "Which tissue is this?") -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = loaded.model.eval()(**encode(loaded, [chat_of(pictures, text)])).logits[0]
    return found


@pytest.fixture(scope="module")
def reader() -> Loaded:
    return new_reader()


def bags(*sizes: int, seed: int = 0) -> list[PatchBag]:
    rng = np.random.default_rng(seed)
    return [toy_bag(i % 3, rng, num) for i, num in enumerate(sizes)]


# -- what the tower sees ----------------------------------------------------------------------------------------------


def tower_states(loaded: Loaded, bag: PatchBag) -> torch.Tensor:
    """(N, width) states after the blocks, by row of the bag."""
    with torch.no_grad():
        states, order = loaded.model.slide_tower.encode(
            torch.from_numpy(bag.features), PatchPositions(bag.centres_um, bag.tile_um, bag.mpp)
        )
    return torch.empty_like(states).index_copy(0, order, states)


def test_other_patches_change_what_a_patch_becomes(reader: Loaded) -> None:
    (bag,) = bags(30)
    before = tower_states(reader, bag)
    features = bag.features.copy()
    features[4] += 1.0
    after = tower_states(reader, replace(bag, features=features))
    moved = (before - after).abs().amax(1) > 1e-5
    assert moved[4] and moved.sum() > 8  # its segments, not itself alone


def test_permuting_patches_with_their_places_changes_nothing(reader: Loaded) -> None:
    (bag,) = bags(30)
    shuffled = bag.take(np.random.default_rng(1).permutation(30))
    assert same_numbers(logits_of(reader, [bag]), logits_of(reader, [shuffled]))
    published = new_reader(tower={"order": "as given"})
    assert other_numbers(logits_of(published, [bag]), logits_of(published, [shuffled]))


def test_swapping_places_changes_the_answer(reader: Loaded) -> None:
    (bag,) = bags(30)
    centres = bag.centres_um.copy()
    centres[[0, 20]] = centres[[20, 0]]
    swapped = replace(bag, centres_um=centres)
    assert not torch.allclose(logits_of(reader, [bag])[-1], logits_of(reader, [swapped])[-1])
    # The places count in the tower and in the decoder, each by itself.
    blind = new_reader(tower={"has_places": False})
    assert not torch.allclose(logits_of(blind, [bag])[-1], logits_of(blind, [swapped])[-1])


def test_the_scale_changes_the_answer_only_through_its_token(reader: Loaded) -> None:
    (bag,) = bags(10)
    other = replace(bag, mpp=0.25)
    assert not torch.allclose(logits_of(reader, [bag])[-1], logits_of(reader, [other])[-1])
    without = new_reader(tower={"has_magnification": False})
    assert same_numbers(logits_of(without, [bag]), logits_of(without, [other]))


def test_tokens_name_their_patches_and_give_gradients(reader: Loaded) -> None:
    chosen, (bag,) = new_reader(tower={"pooling": "topk", "num_tokens": 6}), bags(20)
    for loaded, size in ((reader, 20), (chosen, 6)):
        inputs = encode(loaded, [chat_of([bag])])
        inputs["pixel_values"].requires_grad_()
        with kept_tokens(loaded.model.slide_tower) as kept:
            loaded.model(**inputs).logits[0, -1, 40].backward()
        (slide,) = kept
        assert slide.tokens.grad is not None and bool((slide.tokens.grad.norm(dim=1) > 0).all())
        rows = slide.order[1:].tolist()
        assert slide.order[0] == -1 and len(set(rows)) == size and set(rows) <= set(range(20))
        grad = inputs["pixel_values"].grad
        assert bool((grad[:, :DIMENSION].norm(dim=1) > 0).all())
        assert not grad[:, DIMENSION:].any()
    assert slide.gate is not None and set(slide.gate.topk(6).indices.tolist()) == set(rows)
    assert float(chosen.model.slide_tower.gate.weight.grad.norm()) > 1e-6
    assert not chosen.model.slide_tower._kept


@pytest.mark.parametrize("pooling", ["none", "kmeans", "topk", "queries"])
@pytest.mark.parametrize("num", [1, 4, 40])
def test_every_pooling_reads_one_patch_and_many(pooling: str, num: int) -> None:
    loaded = new_reader(tower={"pooling": pooling, "num_tokens": 8})
    (bag,) = bags(num)
    want = {"none": num, "kmeans": min(num, 8), "topk": min(num, 8), "queries": 8}[pooling] + 1
    inputs = encode(loaded, [chat_of([bag])])
    assert int((inputs["input_ids"] == loaded.model.config.image_token_id).sum()) == want
    assert loaded.processor.num_tokens(bag) == want
    counts = loaded.processor.counts
    assert (counts.slides, counts.patches, counts.tokens) == (1, num, want)
    assert counts.pooled_slides == (pooling != "none" and want - 1 < num)
    assert bool(loaded.model(**inputs).logits.isfinite().all())


def test_standardised_features_are_what_the_tower_reads(reader: Loaded) -> None:
    plain, scaled, (bag,) = new_reader(), new_reader(), bags(12)
    mean, std = torch.full((DIMENSION,), 3.0), torch.full((DIMENSION,), 4.0)
    scaled.model.slide_tower.set_scale(mean, std)
    moved = replace(bag, features=bag.features * 4.0 + 3.0)
    assert torch.allclose(tower_states(plain, bag), tower_states(scaled, moved), atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(reader: Loaded) -> None:
    found = []
    for checkpointing in (False, True):
        loaded = new_reader()
        if checkpointing:
            loaded.model.gradient_checkpointing_enable()
        loaded.model.train()
        loaded.model(**encode(loaded, [chat_of(bags(25))])).logits[0, -1, 40].backward()
        found.append({n: p.grad for n, p in loaded.model.slide_tower.named_parameters()})
        assert loaded.model.slide_tower.blocks[0].gradient_checkpointing == checkpointing
    assert all(torch.allclose(found[0][n], found[1][n], atol=1e-7) for n in found[0])


# -- where tokens stand -----------------------------------------------------------------------------------------------


def test_positions_of_text_slide_and_image_by_hand(reader: Loaded) -> None:
    model = reader.model.model
    bag = replace(bags(3)[0], centres_um=np.array([[50.0, 50.0], [50.0, 350.0], [150.0, 50.0]]), tile_um=100.0)
    fields = reader.processor(images=[bag, toy_image(0, np.random.default_rng(0))])
    image = model.config.image_token_id
    ids = torch.tensor([[5, 6, *[image] * 4, 7, *[image] * 4, 8]])
    found, delta = model.get_rope_index(ids, image_grid_thw=fields["image_grid_thw"],
                                        pixel_values=fields["pixel_values"])  # fmt: skip
    columns = found[:, 0].T.tolist()
    assert columns[:3] == [[0] * 3, [1] * 3, [2] * 3]  # text, text, magnification
    assert sorted(columns[3:6]) == [[3, 3, 3], [3, 3, 4], [3, 6, 3]]
    assert columns[6] == [7] * 3  # after the lowest row
    assert columns[7:11] == [[8, 8, 8], [8, 8, 9], [8, 9, 8], [8, 9, 9]]
    assert columns[11] == [10] * 3 and delta.tolist() == [[10 + 1 - 12]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_without_slides_it_is_qwen2_5_vl(reader: Loaded, side: str) -> None:
    """Same weights, same images: same positions and logits as transformers' own model, padded on either side."""
    plain, processor = build_tiny(["The slide shows tumour glands"] * 4, SMALL, 0)
    own = reader.model
    rng = np.random.default_rng(0)
    chats = [chat_of([toy_image(0, rng)], "What?"), chat_of([toy_image(1, rng), toy_image(2, rng)], "Which one is it?")]
    inputs = encode(reader, chats, side)
    plain = Qwen2_5_VLForConditionalGeneration(plain.config.__class__(**_plain_config(own)))
    plain.load_state_dict({k: v for k, v in own.state_dict().items() if "slide_tower" not in k}, strict=True)
    theirs = {**inputs, "pixel_values": inputs["pixel_values"][:, : own.slide_tower.spec.image_columns]}
    names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
    want, want_delta = plain.model.get_rope_index(**{n: inputs[n] for n in names})
    found, delta = own.model.get_rope_index(**{n: inputs[n] for n in names}, pixel_values=inputs["pixel_values"])
    assert torch.equal(found, want) and torch.equal(delta, want_delta)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        assert same_numbers(own.eval()(**inputs).logits[real], plain.eval()(**theirs).logits[real])


def _plain_config(model: Any) -> dict[str, Any]:
    values = model.config.to_dict()
    return {k: v for k, v in values.items() if k not in ("slide", "model_type", "architectures")}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_company_change_nothing(reader: Loaded, side: str) -> None:
    """Each prompt of a batch gives the logits that it gives alone."""
    own = bags(9, 30, 5)
    rng = np.random.default_rng(0)
    pictures = [[own[0]], [toy_image(1, rng), own[1], own[2]], [toy_image(2, rng)]]
    inputs = encode(reader, [chat_of(p) for p in pictures], side)
    with torch.no_grad():
        batch = reader.model.eval()(**inputs).logits
    for row, mask, shown in zip(batch, inputs["attention_mask"].bool(), pictures, strict=True):
        assert torch.allclose(row[mask], logits_of(reader, shown), atol=1e-5)


def test_cached_generation_is_the_plain_forward_pass(reader: Loaded) -> None:
    """Prompts of different lengths, padded on the left; the scores of each step against one pass over the whole."""
    own = bags(9, 30)
    chats = [chat_of([own[0]]), chat_of([own[1], toy_image(1, np.random.default_rng(0))])]
    inputs = encode(reader, chats)
    out = reader.model.eval().generate(
        **inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True,
        suppress_tokens=list(placeholder_tokens(reader.model)),
    )  # fmt: skip
    size = inputs["input_ids"].shape[1]
    mask = torch.cat((inputs["attention_mask"], torch.ones(2, 6, dtype=torch.long)), 1)
    with torch.no_grad():
        whole = reader.model(
            input_ids=out.sequences, attention_mask=mask, pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
        ).logits  # fmt: skip
    assert torch.allclose(torch.stack(out.logits, 1), whole[:, size - 1 : -1], atol=1e-5)


def test_half_precision_moves_no_patch(reader: Loaded) -> None:
    inputs = encode(reader, [chat_of(bags(30))])
    index = reader.model.model.get_rope_index
    given = {n: inputs[n] for n in ("input_ids", "image_grid_thw", "attention_mask")}
    want, _ = index(**given, pixel_values=inputs["pixel_values"])
    found, _ = index(**given, pixel_values=inputs["pixel_values"].bfloat16())
    assert torch.equal(want, found)
    half = new_reader()
    half.model.to(torch.bfloat16)
    logits = half.model(**{**inputs, "pixel_values": inputs["pixel_values"].bfloat16()}).logits
    assert logits.dtype == torch.bfloat16 and bool(logits.isfinite().all())


def test_prompts_with_other_image_tokens_than_pictures_are_refused(reader: Loaded) -> None:
    inputs = encode(reader, [chat_of(bags(9))])
    ids, grid, pixels = inputs["input_ids"], inputs["image_grid_thw"], inputs["pixel_values"]
    index = reader.model.model.get_rope_index
    with pytest.raises(EosinError, match="cut off within a slide"):
        index(ids[:, :20], image_grid_thw=grid, pixel_values=pixels)
    with pytest.raises(EosinError, match="another prompt"):
        index(ids, image_grid_thw=grid.repeat(2, 1), pixel_values=pixels.repeat(2, 1))
    with pytest.raises(EosinError, match="places"):
        index(ids, image_grid_thw=grid)


# -- loading, saving, parts -------------------------------------------------------------------------------------------


def test_round_trip_through_the_field_loaders(reader: Loaded, tmp_path: Path) -> None:
    saved = checkpoint.save(reader.model, reader.processor, tmp_path / "c", facts={"stage": "base"})
    assert not list(saved.path.glob("*.bin"))
    model = AutoModelForImageTextToText.from_pretrained(saved.path)
    processor = AutoProcessor.from_pretrained(saved.path)
    assert type(model) is type(reader.model) and processor.slide_spec == reader.processor.slide_spec
    first, second = reader.model.state_dict(), model.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)
    own, again = reader, Loaded(model, processor, "c")
    shown = [*bags(9), toy_image(0, np.random.default_rng(0))]
    assert same_numbers(logits_of(own, shown), logits_of(again, shown))
    assert load(saved.path).processor.slide_spec.encoder == "toy-encoder"


def test_parts_are_frozen_by_name(reader: Loaded) -> None:
    loaded = new_reader()
    counts = freeze(loaded.model, {"vision", "language"})
    trains = {n for n, p in loaded.model.named_parameters() if p.requires_grad}
    assert all("slide_tower" in n or "merger" in n for n in trains)
    assert counts["slide"] > 0 and counts["language"] == 0
    total = sum(p.numel() for own in parts(loaded.model).values() for p in own)
    assert total == sum(p.numel() for p in loaded.model.parameters())
    with pytest.raises(EosinError, match="no part called vision"):
        freeze(new_reader(sees_images=False).model, {"vision"})


def test_a_frozen_eye_is_kept_beside_slides(tmp_path: Path) -> None:
    loaded = new_reader()
    freeze(loaded.model, {"vision"})
    shown = [bags(9)[0], toy_image(0, np.random.default_rng(0))]
    want = logits_of(loaded, shown)
    with cache_vision(loaded.model, tmp_path, 0.01) as kept:
        assert kept is not None
        for _ in range(2):
            assert torch.allclose(logits_of(loaded, shown), want, atol=1e-6)
        assert (kept.misses, kept.hits) == (1, 1)


# -- the processor ----------------------------------------------------------------------------------------------------


def test_pictures_may_be_nested_or_not(reader: Loaded) -> None:
    own = bags(4, 6)
    text = "<|vision_start|><|image_pad|><|vision_end|> what?"
    for images in (own, [[own[0]], [own[1]]]):
        fields = reader.processor(images=images, text=[text, text], padding=True, return_tensors="pt")
        assert fields["image_grid_thw"].tolist() == [[4, 1, 1], [6, 1, 1]]
        assert fields["pixel_values"].shape == (10, reader.processor.slide_spec.row_width)
        assert fields["mm_token_type_ids"].sum(1).tolist() == [5, 7]
    assert reader.processor(images=own[0])["pixel_values"].shape[0] == 4
    assert "pixel_values" not in reader.processor(text="no picture")


def test_what_the_processor_refuses(reader: Loaded) -> None:
    (bag,) = bags(4)
    with pytest.raises(EosinError, match="as many pictures"):
        reader.processor(images=[bag, bag], text="<|image_pad|>")
    with pytest.raises(EosinError, match="no videos"):
        reader.processor(text="x", videos=[1])
    for wrong in (replace(bag, encoder="other"), replace(bag, features=np.ones((4, 3), np.float32))):
        with pytest.raises(ImageError) as caught:
            reader.processor(images=[wrong], text="<|image_pad|>")
        assert caught.value.where == bag.name
    slides_only = new_reader(sees_images=False)
    assert slides_only.model.model.visual is None
    assert bool(logits_of(slides_only, [bag]).isfinite().all())
    with pytest.raises(ImageError, match="slides only"):
        slides_only.processor(images=[toy_image(0, np.random.default_rng(0))], text="<|image_pad|>")
    small = new_reader(tower={"max_patches": 3})
    with pytest.raises(ImageError, match="more patches"):
        small.processor(images=[bag], text="<|image_pad|>")
    bounded = new_reader(tower={"max_patches": 3, "over_max": "kmeans"})
    assert bounded.processor.num_tokens(bag) == 4


def test_several_replies_to_each_prompt_are_those_of_one(reader: Loaded) -> None:
    own = bags(9, 30)
    inputs = encode(reader, [chat_of([own[0]]), chat_of([own[1], own[0]])])
    greedy = {"max_new_tokens": 5, "min_new_tokens": 5, "suppress_tokens": list(placeholder_tokens(reader.model))}
    once = reader.model.eval().generate(**inputs, do_sample=False, **greedy)
    beams = reader.model.generate(**inputs, do_sample=True, top_k=1, num_return_sequences=3, **greedy)
    assert torch.equal(beams, once.repeat_interleave(3, 0))
