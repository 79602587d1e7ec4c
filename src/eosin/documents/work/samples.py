"""Records of documents become samples; what a user does not want is set aside with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from eosin.core.images import decode, digest_of, encode_png, read_regular_file
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.prompt import CAPTION_PROMPT
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, user_prompt
from eosin.core.settings.documents import ChoosingSettings
from eosin.documents.captions.labels import caption_label
from eosin.documents.jats.licences import allowed

STEP = "choose"
Outcome = Kept[Sample] | Dropped
_MODALITY = {"histology H&E": "histology", "histology IHC": "histology", "histology other stain": "histology"}
_STAIN = {"histology H&E": "H&E", "histology IHC": "IHC"}


def samples_of(folder: Path, record: Mapping[str, Any], settings: ChoosingSettings) -> Iterator[Outcome]:
    """A sample for every figure of a document that has a picture and is wanted, and why the others are not."""
    about = record["about"]
    for i, figure in enumerate(record["figures"]):
        if figure["image"] is None:
            continue  # set aside when the document was read
        name = f"{settings.name}/{about['name']}/{i + 1:04d}-{figure['number']}"
        why = _unwanted(figure, about, settings)
        if why is not None:
            yield Dropped(name, why[0], why[1], STEP)
            continue
        data = read_regular_file(folder / figure["image"])
        yield from _samples(name, data, figure, about, settings)


def licence_of(figure: Mapping[str, Any], about: Mapping[str, Any], settings: ChoosingSettings) -> str:
    """The licence of a figure: its own, that of its document, or the one that the user says."""
    stated = figure["licence"] or about["licence"]
    if stated == "unknown" and settings.assume_licence:
        return settings.assume_licence
    return str(stated)


def _unwanted(
    figure: Mapping[str, Any], about: Mapping[str, Any], settings: ChoosingSettings
) -> tuple[str, str] | None:
    if about["retracted"] and not settings.keep_retracted:
        return "article retracted", str(about["retracted"])
    if figure["permission"] and not settings.keep_by_permission:
        return "figure shown by permission", str(figure["permission"])
    licence = licence_of(figure, about, settings)
    if not allowed(licence, settings.licences):
        return "licence not asked for", licence
    if min(figure["px"]) < settings.min_side_px:
        return "picture too small", f"{figure['px'][0]} x {figure['px'][1]} px"
    return None


def _unwanted_kind(name: str, kind: Mapping[str, Any] | None, settings: ChoosingSettings) -> Dropped | None:
    kind = kind or {}
    if settings.kinds and (kind.get("score", 0.0) < settings.kind_score or kind.get("name") not in settings.kinds):
        told = f"{kind.get('name')} at {kind.get('score', 0):.2f}"
        return Dropped(name, "kind of figure not asked for", told, STEP)
    return None


def _samples(
    name: str, data: bytes, figure: Mapping[str, Any], about: Mapping[str, Any], settings: ChoosingSettings
) -> Iterator[Outcome]:
    panels = figure.get("panels") or []
    if settings.panels != "apart" or len(panels) < 2:
        why = _unwanted_kind(name, figure.get("kind"), settings)
        yield why or Kept(_sample(name, data, figure["caption"], figure, about, settings))
    if settings.panels == "whole" or len(panels) < 2:
        return
    whole = decode(data)
    for k, panel in enumerate(panels):
        letters = [p["letter"] for p in panels]
        alone = panel["letter"] and letters.count(panel["letter"]) == 1  # a second reader may say one letter twice
        part = f"{name}/{panel['letter'] if alone else k + 1}"
        box = tuple(panel["box_px"])
        if min(box[2] - box[0], box[3] - box[1]) < settings.min_side_px:
            yield Dropped(part, "picture too small", str(box), STEP)
            continue
        why = _unwanted_kind(part, panel.get("kind") or figure.get("kind"), settings)
        if why is not None:
            yield why
            continue
        piece = encode_png(whole.crop(box))
        parents = (name,) if settings.panels == "both" else ()
        caption = panel["caption"] or figure["caption"]
        yield Kept(_sample(part, piece, caption, figure, about, settings, parents, panel))


def _sample(
    name: str, data: bytes, caption: str, figure: Mapping[str, Any], about: Mapping[str, Any],
    settings: ChoosingSettings, parents: tuple[str, ...] = (), panel: Mapping[str, Any] | None = None,
) -> Sample:  # fmt: skip
    """A sample of a figure or of a panel. `extra.figure` is the same for all panels of a figure: it says who belongs
    together, so that a clip stage does not take them for each other's negatives."""
    from eosin.documents.kinds.said import said_of

    said = said_of(caption)
    told = (panel or {}).get("kind") or figure["kind"] or {}
    kind = told.get("name") if told.get("score", 0) >= settings.kind_score else None
    origin = Origin(
        source=settings.name, licence=licence_of(figure, about, settings), article=about["article"],
        page=figure["place"].get("page"), modality=_MODALITY.get(kind or "", kind),
        stain=said.stain or _STAIN.get(kind or ""), organ=said.organ, parents=parents, digest=digest_of([data]),
    )  # fmt: skip
    text = caption
    if settings.without_labels:
        label = caption_label(caption, bold=True)
        text = caption[label.end :].strip() if label is not None and len(caption) > label.end + 3 else caption
    document = {k: about[k] for k in ("name", "file", "kind", "article", "title", "licence", "retracted")}
    kept = {
        k: figure[k] for k in ("number", "label", "caption", "how", "place", "permission", "references", "notes", "px")
    }
    whole = said if panel is None else said_of(figure["caption"])
    kept |= {"panels": figure.get("panels", []), "kind": figure.get("kind"), "said": whole.as_json()}
    if "second" in figure:
        kept["second"] = figure["second"]
    extra = {"document": document, "figure": kept}
    if panel is not None:
        extra["panel"] = {**panel, "said": said.as_json()}
    return Sample(
        id=name, images=(ImageBytes(data=data),), messages=user_prompt(CAPTION_PROMPT), caption=text,
        entities=said.entities, origin=origin, extra=extra,
    )  # fmt: skip
