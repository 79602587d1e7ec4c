"""Eosin: vision-language models that reason about tissue. Research use only, not for diagnosis.

What most scripts need can be imported from here; each name loads its room, and that room's packages, when it is first
used. docs/python.md has an example of each.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as type checkers know it; the module `typing` would take most of this import's time
if TYPE_CHECKING:
    from typing import Any

    from eosin.chain.ask.ask import ask_checkpoint as ask_checkpoint
    from eosin.chain.recipe.run import run_recipe as run_recipe
    from eosin.core.errors import EosinError as EosinError
    from eosin.core.formats import read_samples as read_samples
    from eosin.core.formats import write_samples as write_samples
    from eosin.core.nouns.reply import Grammar as Grammar
    from eosin.core.nouns.sample import Sample as Sample
    from eosin.core.settings.exam import ExamSettings as ExamSettings
    from eosin.core.settings.recipe import load_recipe as load_recipe
    from eosin.engines.transformers_engine import TransformersEngine as TransformersEngine
    from eosin.evaluate.exam.exam import run_exam as run_exam
    from eosin.knowledge.graph.graph import Graph as Graph
    from eosin.knowledge.linking.linker import Linker as Linker
    from eosin.models.load import load as load_model  # noqa: F401
    from eosin.report import build as build_report  # noqa: F401
    from eosin.scoring.proof.prove import prove as prove
    from eosin.scoring.reading.item import ScoreItem as ScoreItem
    from eosin.scoring.sets.named import load_rewards as load_rewards
    from eosin.slides.encoders.load import load_encoder as load_encoder
    from eosin.slides.features.files import read_features as read_features
    from eosin.slides.open.slide import open_slide as open_slide
    from eosin.slides.tiles.grid import tile_grid as tile_grid
    from eosin.slides.tiles.reading import read_tiles as read_tiles
    from eosin.slides.tissue.segmentation import tissue_mask as tissue_mask

# Name here -> module, and the name there where it differs.
_WHERE = {
    "EosinError": "eosin.core.errors",
    "ExamSettings": "eosin.core.settings.exam",
    "Grammar": "eosin.core.nouns.reply",
    "Graph": "eosin.knowledge.graph.graph",
    "Linker": "eosin.knowledge.linking.linker",
    "Sample": "eosin.core.nouns.sample",
    "ScoreItem": "eosin.scoring.reading.item",
    "TransformersEngine": "eosin.engines.transformers_engine",
    "ask_checkpoint": "eosin.chain.ask.ask",
    "build_report": "eosin.report:build",
    "load_encoder": "eosin.slides.encoders.load",
    "load_model": "eosin.models.load:load",
    "load_recipe": "eosin.core.settings.recipe",
    "load_rewards": "eosin.scoring.sets.named",
    "open_slide": "eosin.slides.open.slide",
    "prove": "eosin.scoring.proof.prove",
    "read_features": "eosin.slides.features.files",
    "read_samples": "eosin.core.formats",
    "read_tiles": "eosin.slides.tiles.reading",
    "run_exam": "eosin.evaluate.exam.exam",
    "run_recipe": "eosin.chain.recipe.run",
    "tile_grid": "eosin.slides.tiles.grid",
    "tissue_mask": "eosin.slides.tissue.segmentation",
    "write_samples": "eosin.core.formats",
}

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'eosin' has no attribute {name!r}")
    import importlib

    module, _, there = where.partition(":")
    value = getattr(importlib.import_module(module), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
