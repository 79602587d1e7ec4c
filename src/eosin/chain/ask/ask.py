"""One question to a checkpoint: about an image, a region of a slide, or a whole slide.

A whole slide takes the way of training: tissue, tiles at the encoder's scale, features, the reader (`ask_slide`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosin.chain.ask.question import Kind, Question, SlideOptions, kind_of, reply_to
from eosin.core.errors import EosinError
from eosin.core.images import Picture, load_image
from eosin.core.nouns.sample import ImageFile, SlideRegion

if TYPE_CHECKING:
    from rich.console import Console


def ask_checkpoint(
    checkpoint: str,
    what: Path | SlideRegion,
    question: Question,
    options: SlideOptions | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """One reply, and for a slide where the model looked.

    Returns:
        {"reply", "blocks", "parsed", "answer_text", "unparsed_reason", "num_tokens", "truncated", "note"}; about a
        slide also "slide", "evidence" and, with `options.out`, "files".

    Raises:
        EosinError: a model of single images is asked about a whole slide, or the other way round; what is shown
            cannot be read.
    """
    from eosin.models.load import load, quiet, slide_tower
    from eosin.slides.features.regions import SlideRegions

    chosen = options or SlideOptions()
    quiet()
    if chosen.out is not None and chosen.out.exists():
        raise EosinError("There is something at this place already.", where=chosen.out,
                         next_step="choose another --out (nothing is overwritten)")  # fmt: skip
    kind: Kind = "image" if isinstance(what, SlideRegion) else kind_of(what)
    picture: Picture | None = None
    ref: ImageFile | SlideRegion = what if isinstance(what, SlideRegion) else ImageFile(path=str(what))
    if kind == "image":
        picture = load_image(ref, SlideRegions())  # before the model: a missing file is said at once
    loaded = load(checkpoint)
    tower = slide_tower(loaded.model)
    if kind == "either":
        kind = "image" if tower is None else "slide"
    if kind == "image":
        if chosen.out is not None:
            raise EosinError("--out keeps what is found on a whole slide.", next_step="leave --out away")
        if tower is not None and not getattr(loaded.model.config, "sees_images", True):
            raise _slides_only(checkpoint, what)
        return reply_to(loaded, checkpoint, question, ref, picture or load_image(ref, SlideRegions()))[0]
    assert isinstance(what, Path)
    if tower is None:
        raise _tile_model(checkpoint, what, kind)
    from eosin.chain.ask.whole_slide import ask_slide

    return ask_slide(loaded, checkpoint, what, kind, question, chosen, console)


def _tile_model(checkpoint: str, path: Path, kind: Kind) -> EosinError:
    if kind == "features":
        return EosinError(
            "This model reads single images, and this file holds the features of a whole slide.",
            expected="an image file, or a checkpoint of a slide reader", found=path.name, where=checkpoint,
        )  # fmt: skip
    return EosinError(
        "This model reads single images, and this file is a whole slide.",
        expected="a region of the slide, or a checkpoint of a slide reader", found=path.name, where=checkpoint,
        next_step="give a region in µm: --box x0,y0,x1,y1 --mpp 0.5",
    )  # fmt: skip


def _slides_only(checkpoint: str, what: Path | SlideRegion) -> EosinError:
    found = "a region" if isinstance(what, SlideRegion) else what.name
    return EosinError(
        "This model reads whole slides only, and was given a single image.", expected="a slide, or a feature file",
        found=found, where=checkpoint,
        next_step="leave --box away" if isinstance(what, SlideRegion) else "give the slide",
    )  # fmt: skip
