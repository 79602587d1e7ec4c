"""A question about a whole slide: features where there are none yet, the reader's answer, and where it looked."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from eosin.chain.ask.question import Kind, Question, SlideOptions, reply_to
from eosin.core.errors import EosinError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import SlideBag
from eosin.core.nouns.units import BoxMicrons
from eosin.core.store import artifacts as store
from eosin.evaluate.evidence import maps as maps
from eosin.evaluate.evidence.run import answer_span
from eosin.evaluate.evidence.tests import Attribution, AttributionTarget

if TYPE_CHECKING:
    from PIL import Image

    from eosin.models.load import Loaded
    from eosin.models.slide_encoder.rows import SlideSpec

NUM_TOP = 12
NAME = "evidence"
CACHE = "slide-features"


@dataclass(frozen=True)
class EncoderPlan:
    """How the patches of a checkpoint are made.

    Attributes:
        name: name of an encoder, or the folder of a checkpoint whose tower it is.
        weights: file or folder of the weights, or None.
        tile_px, mpp: of the tiles; None: what the encoder was trained for.
    """

    name: str
    weights: str | None = None
    tile_px: int | None = None
    mpp: float | None = None


def ask_slide(
    loaded: Loaded,
    checkpoint: str,
    path: Path,
    kind: Kind,
    question: Question,
    options: SlideOptions,
    console: Console | None = None,
) -> dict[str, Any]:
    """Answer a question about a slide file, or about a file of features; see `ask.ask_checkpoint`."""
    from eosin.slides.features.bags import read_bag

    with _cache(options) as cache:
        ref = SlideBag(path=str(path), mpp=options.tile_mpp, tile_um=options.tile_um)
        if kind == "slide":
            plan = encoder_plan(loaded, checkpoint, options)
            ref = SlideBag(path=str(features_of(path, plan, cache, options, console)), slide=str(path))
        bag = read_bag(ref)
        _say(console, f"{len(bag)} patches of {bag.tile_um:g} µm; asking")
        result, request, grammar = reply_to(loaded, checkpoint, question, ref, bag)
        asked = _asked(request, str(result["reply"]), grammar, options.of)
        result["slide"] = _about(loaded, bag, path)
        if asked is None:
            result["evidence"] = {"reason": "the reply is empty"}
            attribution = None
        else:
            _say(console, "looking for what the answer depends on")
            attribution = _attribute(loaded, asked, options)
            result["evidence"] = _evidence(asked, attribution)
            result["slide"]["num_tokens"] = attribution.num_slide_tokens
        if options.out is not None:
            result["files"] = _write(result, asked, attribution, ref, checkpoint, question, options.out)
    return result


@contextmanager
def _cache(options: SlideOptions) -> Iterator[Path]:
    """Where features are kept: as asked, beside the answer, or nowhere for long."""
    if options.cache is not None or options.out is not None:
        yield options.cache or options.out.resolve().parent / CACHE  # type: ignore[union-attr]
        return
    with tempfile.TemporaryDirectory(prefix="eosin-") as folder:
        yield Path(folder)


def _say(console: Console | None, text: str) -> None:
    if console is not None:
        console.print(text, style="dim")


# ---- features ------------------------------------------------------------------------------------------------------


def encoder_plan(loaded: Loaded, checkpoint: str, options: SlideOptions) -> EncoderPlan:
    """How this checkpoint's patches are made: from the options, its record ("slide_encoder": encoder, weights) and
    its config.

    Raises:
        EosinError: neither says which encoder it is.
    """
    from eosin.models.checkpoint import facts_of

    spec: SlideSpec = loaded.model.config.slide_spec
    told = facts_of(checkpoint).get("slide_encoder") or {}
    name = options.encoder or _place(told.get("encoder"), checkpoint) or spec.encoder
    weights = options.weights or _place(told.get("weights"), checkpoint)
    if name is None or (name.startswith("tower-") and not Path(name).is_dir()):
        raise EosinError(
            "The checkpoint does not say how the patches of a slide are encoded.",
            expected="the name of an encoder, or its folder", found=str(name), where=checkpoint,
            next_step="give it: --encoder NAME_OR_FOLDER; or make the features first and give the .h5 file",
        )  # fmt: skip
    tile_um, mpp = options.tile_um or spec.tile_um, options.tile_mpp or spec.mpp
    if (tile_um is None or mpp is None) and _has_no_tile(name):
        raise EosinError(
            "The checkpoint does not say how large its patches are.", expected="side in µm, and µm per pixel",
            found=f"{name}, which takes any tile", where=checkpoint,
            next_step="give them as in training: --tile-um 128 --tile-mpp 1",
        )  # fmt: skip
    return EncoderPlan(name, weights, round(tile_um / mpp) if tile_um and mpp else None, mpp)


def _has_no_tile(name: str) -> bool:
    """Whether an encoder takes tiles of any size and scale: Eosin's own, and towers of its own training."""
    from eosin.slides.encoders.encoder import record_of

    return Path(name).is_dir() or record_of(name).library in ("eosin", "plugin")


def _place(told: object, checkpoint: str) -> str | None:
    """A name as it is; a folder that stands relative to the checkpoint as its path."""
    if not isinstance(told, str) or not told:
        return None
    beside = Path(checkpoint) / told
    return str(beside) if beside.exists() else told


def features_of(path: Path, plan: EncoderPlan, cache: Path, options: SlideOptions, console: Console | None) -> Path:
    """The feature file of a slide; one that stands in the cache is not made again.

    Raises:
        EosinError: the slide cannot be used, with the reason.
    """
    from eosin.chain.ask.tower import make_features
    from eosin.slides.encoders.encoder import record_of
    from eosin.slides.features import run as features
    from eosin.slides.features.plan import FeatureSettings

    settings = FeatureSettings(
        encoder=plan.name, weights=plan.weights, mpp=plan.mpp, slide_mpp=options.slide_mpp, readers=1
    )
    if Path(plan.name).is_dir():
        done = make_features([path], cache, settings, console, tile_px=plan.tile_px or 224)
    else:
        record = record_of(plan.name)
        make: Any = None
        if plan.tile_px is not None and plan.tile_px != record.tile_px:
            if record.library != "eosin":
                raise EosinError(
                    f"The checkpoint's tiles are not those of the encoder {record.name}.",
                    expected=f"{record.tile_px} px", found=f"{plan.tile_px} px",
                )  # fmt: skip
            from eosin.slides.encoders.colour_texture import ColourTexture

            record = record.model_copy(update={"tile_px": plan.tile_px, "input_px": plan.tile_px})
            make = functools.partial(ColourTexture, record, plan.mpp or record.default_mpp)
        done = features.run([path], cache, settings, console, record=record, make_encoder=make)
    if not done.done:
        lost = done.dropped[0] if done.dropped else None
        raise EosinError(
            "This slide cannot be read.", found=f"{lost.reason} {lost.detail}".strip() if lost else None, where=path,
            next_step="eosin slides audit SLIDE   shows what is wrong with it",
        )  # fmt: skip
    return done.done[0].file


# ---- evidence ------------------------------------------------------------------------------------------------------


def _asked(request: Any, reply: str, grammar: Any, of: str) -> AttributionTarget | None:
    """The part of the reply whose evidence is sought; of a reply that breaks its form, the whole of it."""
    span = answer_span(reply, grammar) if of == "answer" else None
    if span is None and reply:
        span = 0, len(reply)
    return None if span is None else AttributionTarget(request, reply, span)


def _attribute(loaded: Loaded, asked: AttributionTarget, options: SlideOptions) -> Attribution:
    from eosin.evaluate.evidence.scores import ModelEvidence

    attributor = ModelEvidence(loaded)
    found = attributor.scores(asked, options.methods)
    return found if found.scores else attributor.scores(asked, ["sensitivity"])


def _evidence(asked: AttributionTarget, attribution: Attribution) -> dict[str, Any]:
    method = next(iter(attribution.scores))
    text = asked.reply[slice(*asked.span)]
    return {
        "of": "reply" if len(text) == len(asked.reply) else "answer",
        "text": text,
        "logprob": attribution.logprob,
        "method": method,
        "notes": dict(attribution.notes),
        "top": maps.top_patches(asked.bag, attribution.scores[method], NUM_TOP),
    }


def _about(loaded: Loaded, bag: PatchBag, path: Path) -> dict[str, Any]:
    return {
        "file": path.name, "name": bag.name, "encoder": bag.encoder, "mpp": bag.mpp, "tile_um": bag.tile_um,
        "num_patches": len(bag), "num_tokens": loaded.processor.num_tokens(bag),  # type: ignore[attr-defined]
    }  # fmt: skip


# ---- what is written -----------------------------------------------------------------------------------------------


def _write(
    result: dict[str, Any],
    asked: AttributionTarget | None,
    attribution: Attribution | None,
    ref: SlideBag,
    checkpoint: str,
    question: Question,
    out: Path,
) -> dict[str, str]:
    """reply.json, the map as picture and GeoJSON, and a page; returns the paths by kind."""
    from eosin.report.pages.reading import write_evidence_page

    parents = (store.open_artifact(Path(checkpoint)),) if store.exists(Path(checkpoint)) else ()
    record = {"checkpoint": checkpoint, "slide": ref.slide or ref.path, "question": question.text}
    names = {"reply": "reply.json", "page": "index.html"}
    with store.writing(out, "reply", parents=parents, record=record) as writer:
        picture = None
        if asked is not None and attribution is not None:
            ground = maps.background(asked.bag, ref)
            title = f"{asked.bag.name}: {_short(result)} ({result['evidence']['method']})"
            names |= maps.write_map(writer.dir, NAME, asked.bag, attribution.scores, ground, title)
            picture = writer.dir / names["picture"]
        pictures = _top_pictures(result["evidence"].get("top", []), ref, result["slide"])
        told = {"question": question.text, "options": list(question.options), "checkpoint": checkpoint, **result}
        store.write_json(writer.dir / "reply.json", told)
        write_evidence_page(writer.dir / "index.html", told, picture, pictures, "geojson" in names)
        writer.counts = {"patches": int(result["slide"]["num_patches"])}
    return {kind: str(out / name) for kind, name in names.items()}


def _short(result: dict[str, Any]) -> str:
    """The answer, for the title of a map."""
    return str(result["answer_text"] or result["blocks"].get("answer") or result["reply"])


def _top_pictures(top: list[dict[str, Any]], ref: SlideBag, about: dict[str, Any]) -> list[Image.Image | None]:
    """The pixels of the first patches; None where the slide itself is not at hand."""
    from PIL import Image

    from eosin.slides.open.slide import open_slide

    if ref.slide is None:
        return [None] * len(top)
    half = float(about["tile_um"]) / 2
    found: list[Image.Image | None] = []
    with open_slide(ref.slide, mpp=maps.mpp_of_level0(ref)) as slide:
        for patch in top:
            x, y = float(patch["x_um"]), float(patch["y_um"])
            box = BoxMicrons(x0=x - half, y0=y - half, x1=x + half, y1=y + half)
            try:
                found.append(Image.fromarray(slide.read(box, float(about["mpp"]))))
            except EosinError:
                found.append(None)
    return found
