"""Augmentation that keeps what the caption says: colours where it names them, sides where it says left or right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from eosin.train.data.augment import AugmentSettings, augment_batch

# Words of colour and of stains: a picture in other colours would make them untrue.
_COLOUR = re.compile(
    r"\b(?:pink\w*|purpl\w*|violet|magenta|red(?:dish)?|blue|bluish|green\w*|yellow\w*|brown(?:ish)?|orange|black\w*|white|"
    r"gr[ea]y\w*|pale|pallor|dark\w*|light(?:er|ly)?|bright|clear|colou?r\w*|pigment\w*|melanin|h(?:a)?emosiderin|bile|"
    r"stain\w*|counterstain\w*|eosinophilic|eosin|basophilic|amphophilic|argyrophilic|chromogen\w*|hyperchroma\w*|"
    r"h(?:a)?ematoxylin|h\s?&\s?e|h\s?e\b|pas|giemsa|gram|trichrome|masson\w*|congo|prussian|alcian|reticulin|silver|"
    r"gomori|ziehl\w*|mucicarmine|papanicolaou|pap|wright\w*|dab|ihc|immuno\w*|positiv\w*|negativ\w*|express\w*)\b",
    re.IGNORECASE,
)
_SIDE = re.compile(
    r"\b(?:left\w*|right\w*|upper\w*|lower\w*|top|bottom|above|below|beneath|underneath|overl\w+|underl\w+|vertical\w*|"
    r"horizontal\w*|clockwise|anticlockwise|counterclockwise|o'clock|north|south|east|west|upward\w*|downward\w*|"
    r"inset|arrow\w*|corner|panel)\b",
    re.IGNORECASE,
)


@lru_cache(65_536)
def names_colour(caption: str) -> bool:
    """Whether a caption names a stain or a colour."""
    return _COLOUR.search(caption) is not None


@lru_cache(65_536)
def names_side(caption: str) -> bool:
    """Whether a caption says where in the picture something is."""
    return _SIDE.search(caption) is not None


def allowed(settings: AugmentSettings, caption: str) -> AugmentSettings:
    """What of the augmentation leaves the caption true."""
    changes: dict[str, float | bool] = {}
    if names_colour(caption):
        changes |= {"stain": 0.0, "stain_shift": 0.0, "channel": 0.0, "light": 0.0}
    if names_side(caption):
        changes |= {"flips": False, "rotate": 0.0, "crop": 0.0}
    return settings.model_copy(update=changes) if changes else settings


def augment_pairs(
    pixels: Tensor, captions: Sequence[str], settings: AugmentSettings, rngs: Sequence[np.random.Generator]
) -> Tensor:
    """Changed copies of pictures uint8 (N, px, px, 3), each as far as its caption allows, and from a generator of its
    own: a pair is changed the same in whatever batch it stands."""
    changed = []
    for picture, caption, rng in zip(pixels, captions, rngs, strict=True):
        generator = torch.Generator().manual_seed(int(rng.integers(0, 2**62)))
        changed.append(augment_batch(picture[None], allowed(settings, caption), generator))
    return torch.cat(changed)
