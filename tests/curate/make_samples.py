"""Small samples for the tests of curate."""

from __future__ import annotations

import random
from typing import Any

from PIL import Image

from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt


def picture(number: int, shift: int = 0) -> bytes:
    """A PNG of random blocks; `shift` changes every pixel a little, so that bytes differ and looks do not."""
    rng = random.Random(number)
    small = Image.new("L", (9, 8))
    small.putdata([rng.randrange(20, 230) for _ in range(72)])
    return encode_png(small.resize((72, 64), Image.Resampling.NEAREST).point(lambda v: v + shift).convert("RGB"))


def sample(name: str, picture_number: int | None = None, shift: int = 0, **changes: Any) -> Sample:
    """A closed question about one picture. `case` and other origin fields may be given by name."""
    number = sum(map(ord, name)) * 1000 + len(name) if picture_number is None else picture_number
    units = {k: changes.pop(k) for k in ("patient", "case", "slide", "source") if k in changes}
    fields: dict[str, Any] = {
        "id": name,
        "images": (ImageBytes(data=picture(number, shift)),),
        "messages": user_prompt("What is it?"),
        "choices": make_choices(["fat", "gland"]),
        "answer": "A",
        "label": "fat",
        "origin": Origin(**{"source": "t", **units}),
    }
    return Sample(**(fields | changes))
