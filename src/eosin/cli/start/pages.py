"""The page of the documentation that an error belongs to, by the room it was raised in."""

from __future__ import annotations

from types import TracebackType

__all__ = ["page_of"]

# The longest beginning of a module's name that fits.
_PAGES = {
    "eosin.sources": "bring-your-own.md", "eosin.curate": "bring-your-own.md",
    "eosin.chain.recipe.data": "bring-your-own.md",
    "eosin.core.settings": "bring-your-own.md", "eosin.core.formats": "formats.md", "eosin.core.images": "formats.md",
    "eosin.slides": "slides.md", "eosin.slides.encoders": "encoders.md", "eosin.slides.features": "encoders.md",
    "eosin.sources.slide": "slide-model.md", "eosin.documents": "documents.md", "eosin.knowledge": "knowledge.md",
    "eosin.scoring": "scoring.md", "eosin.clients": "scoring.md", "eosin.models": "models.md",
    "eosin.models.clip": "patho-clip.md", "eosin.models.slide_encoder": "slide-model.md", "eosin.engines": "models.md",
    "eosin.train.rl": "rl.md", "eosin.train.stages.rl": "rl.md", "eosin.train.masking": "masking.md",
    "eosin.train.clip": "patho-clip.md", "eosin.evaluate": "evaluation.md", "eosin.evaluate.exams": "exams.md",
    "eosin.evaluate.evidence": "evidence.md", "eosin.evaluate.baselines": "baselines.md",
    "eosin.evaluate.clip": "patho-clip.md", "eosin.evaluate.search": "patho-clip.md", "eosin.serve": "serve.md",
    "eosin.phantom": "phantom.md", "eosin.core.plugins": "add-a-data-set.md",
}  # fmt: skip


def page_of(traceback: TracebackType | None) -> str | None:
    """The page, such as docs/slides.md; None where no page says more than the message."""
    page = None
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        fits = [known for known in _PAGES if name == known or name.startswith((known + ".", known + "_"))]
        if name.startswith("eosin."):
            page = f"docs/{_PAGES[max(fits, key=len)]}" if fits else None
        traceback = traceback.tb_next
    return page
