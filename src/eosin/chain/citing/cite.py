"""Which works a recipe uses, and the BibTeX of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eosin import __version__
from eosin.chain.citing.works import WORKS
from eosin.core.errors import EosinError
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.data import PhantomSlidesData, SlidesData
from eosin.core.settings.masking import PseudoBags
from eosin.core.settings.model import ComposedModel, HubModel, SlideModel, TinyModel
from eosin.core.settings.recipe import Recipe, load_recipe
from eosin.core.settings.stages import PretrainStage, RejectionStage, RlStage, SftStage, StageSettings

__all__ = ["bibtex_of", "works_of"]


def bibtex_of(place: Path) -> str:
    """BibTeX of what a run used: Eosin, methods, model, data, encoder. One entry each, in this order.

    Args:
        place: the folder of a run, or a recipe file.

    Raises:
        EosinError: neither.
    """
    file = place / "recipe.yaml" if place.is_dir() else place
    if not file.is_file():
        raise EosinError(
            "There is no run and no recipe here.", expected="a folder with recipe.yaml, or a recipe", where=place,
            next_step="eosin run --list   shows the recipes that come with Eosin",
        )  # fmt: skip
    recipe = load_recipe(file).recipe
    entries = [_misc("eosin", "Eosin", "{The Eosin developers}", note=f"Version {__version__}")]
    entries += [WORKS[key].bibtex() for key in works_of(recipe)]
    entries += [*_model_entries(recipe), *_data_entries(recipe, place), *_encoder_entries(recipe)]
    return "\n\n".join(dict.fromkeys(entries)) + "\n"


def works_of(recipe: Recipe) -> list[str]:
    """Keys of the works (`WORKS`) whose methods a recipe uses, each once, in the order of its stages."""
    found = [*_works_of_model(recipe)]
    for stage in recipe.stages.values():
        found += _works_of_stage(stage)
    return list(dict.fromkeys([*found, "transformers"]))


def _works_of_model(recipe: Recipe) -> Iterator[str]:
    if not recipe.has_language:
        return
    model = recipe.model
    if isinstance(model, SlideModel):
        yield from ("longnet", "pathreasoner-r1")
        model = model.base
    if isinstance(model, TinyModel) or (isinstance(model, HubModel) and "qwen2.5-vl" in model.name.casefold()):
        yield "qwen2.5-vl"
    if isinstance(model, ComposedModel):
        yield "llava-1.5"
        if model.projector.kind == "resampler":
            yield "flamingo"


def _works_of_stage(stage: StageSettings) -> Iterator[str]:
    if isinstance(stage, ClipStage):
        yield "siglip" if stage.loss == "siglip" else "clip"
        if "vision" in stage.freeze:
            yield "lit"
        if stage.clip_exam.few_shot is not None:
            yield "patho-r1"
    if isinstance(stage, PretrainStage):
        yield "patho-r1"
    if isinstance(stage, SftStage) and (stage.trajectory or isinstance(stage.pseudo_bags, PseudoBags)):
        yield "pathreasoner-r1"
    if isinstance(stage, RejectionStage):
        yield "raft"
    if isinstance(stage, RlStage):
        if stage.algorithm.name in WORKS:
            yield stage.algorithm.name
        if stage.algorithm.overlong_buffer or stage.algorithm.dynamic_sampling:
            yield "dapo"
        yield "trl"
    if isinstance(stage, RlStage | RejectionStage):
        yield from _works_of_rewards(stage.rewards)
    if getattr(stage, "lora", None) is not None:
        yield "lora"


def _works_of_rewards(rewards: Any) -> Iterator[str]:
    """The papers of named sets and terms: checklist is PathVLM-R1's, the soft entity term PathReasoner-R1's."""
    if isinstance(rewards, dict):
        for one in rewards.values():
            yield from _works_of_rewards(one)
        return
    of_term = {"checklist": "pathvlm-r1", "semantic": "pathreasoner-r1", "length": "dapo", "overlong": "dapo"}
    for one in [rewards] if isinstance(rewards, str) else rewards:
        name = one if isinstance(one, str) else one.name
        key = re.sub(r"^patho-r1.*", "patho-r1", name)
        if key in WORKS:
            yield key
        if name in of_term:
            yield of_term[name]
        options = {} if isinstance(one, str) else (one.model_extra or {})
        if name == "entities" and options.get("rule") == "soft":
            yield "pathreasoner-r1"


def _model_entries(recipe: Recipe) -> Iterator[str]:
    model = recipe.model.base if isinstance(recipe.model, SlideModel) else recipe.model
    names = [model.name] if isinstance(model, HubModel) else []
    names += [model.language, model.eyes.name] if isinstance(model, ComposedModel) else []
    for name in names if recipe.has_language else []:
        url = f"https://huggingface.co/{name}" if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else ""
        yield _misc(f"model:{name}", name, "{Its authors}", note="Weights that the run started from", url=url)


def _data_entries(recipe: Recipe, place: Path) -> Iterator[str]:
    """The data set, as its card tells: of the run where there is one, else of the recipe."""
    card: dict[str, Any] = {
        k: getattr(recipe.data, k, "") for k in ("name", "title", "citation", "homepage", "licence")
    }
    file = place / "samples" / "card.json"
    if place.is_dir() and file.is_file():
        told = json.loads(file.read_text("utf-8"))
        card |= {k: told.get(k) for k in card if told.get(k)}
    if card["name"]:
        note = " ".join(t for t in (card["citation"], f"Licence: {card['licence']}." if card["licence"] else "") if t)
        yield _misc(f"data:{card['name']}", card["title"] or card["name"], "{Its authors}", note=note,
                    url=card["homepage"] or "")  # fmt: skip


def _encoder_entries(recipe: Recipe) -> Iterator[str]:
    from eosin.slides.encoders.records import RECORDS

    names = {recipe.data.encoder} if isinstance(recipe.data, PhantomSlidesData | SlidesData) else set()
    names |= {recipe.model.encoder} if isinstance(recipe.model, SlideModel) else set()
    for record in RECORDS:
        if record.name in names:
            url = f"https://huggingface.co/{record.hub}" if record.hub else ""
            note = f"Patch encoder. Licence: {record.licence}. {record.source}"
            yield _misc(f"encoder:{record.name}", record.name, "{Its authors}", note=note, url=url)


def _misc(key: str, title: str, author: str, *, note: str = "", url: str = "") -> str:
    fields = {"title": f"{{{_plain(title)}}}", "author": author, "note": _plain(note), "url": _plain(url)}
    lines = ",\n".join(f"  {name:<13} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{re.sub(r'[^A-Za-z0-9:._-]+', '-', key)},\n{lines}\n}}"


def _plain(text: str) -> str:
    """Text of a card as a BibTeX value: one line, no brace that could end it, signs that TeX reads are escaped."""
    flat = " ".join(text.split()).replace("\\", "/").replace("{", "(").replace("}", ")")
    return re.sub(r"([%&#$])", r"\\\1", flat)
