"""Where a run's figures also go: TensorBoard in its own folder, or services that the recipe names."""

from __future__ import annotations

import importlib.util
import os

from eosin.chain.recipe.layout import Layout
from eosin.core.errors import EosinError
from eosin.core.settings.recipe import Recipe

_PLACE = "TENSORBOARD_LOGGING_DIR"  # transformers reads it
_OURS = "EOSIN_PLACED_TENSORBOARD"


def tracked(recipe: Recipe) -> tuple[str, ...]:
    """Names for the Trainer's `report_to`. Without `track` in the recipe TensorBoard where it is installed, which
    writes into the run's folder; nothing is sent anywhere unless the recipe names a service.

    Raises:
        EosinError: a service that is named, and whose package is not installed.
    """
    if recipe.track is None:
        return ("tensorboard",) if _has("tensorboard") or _has("tensorboardX") else ()
    missing = [name for name in recipe.track if not _has(name) and not (name == "tensorboard" and _has("tensorboardX"))]
    if missing:
        raise EosinError(
            "The recipe names a tracker that is not installed.", found=", ".join(missing), where="track",
            next_step=f"pip install {' '.join(missing)}   or track=[]",
        )  # fmt: skip
    return tuple(recipe.track)


def place_tracking(at: Layout, stage: str) -> None:
    """Let TensorBoard write into the run's folder, a folder a stage; what the user has set stays."""
    if _PLACE in os.environ and _OURS not in os.environ:
        return
    os.environ |= {_OURS: "1", _PLACE: str(at.out / "tensorboard" / stage)}


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
