"""A data source: pictures of light and dark squares, and the question which of the two is shown."""

from __future__ import annotations

import io
import random
from typing import Any

from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import digest_of
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt
from eosin.sources import Card, Collection

SHADES = {"light": 190, "dark": 70}
PER_CASE = 4


def read(options: dict[str, Any], seed: int) -> Collection:
    """Samples for `data: {source: plugin, plugin: checkers, options: {num: 48}}`.

    Args:
        options: `num`, how many pictures. An unknown option is refused: a misspelt one must not be overlooked.
        seed: of the run, or the one that the recipe gives the source.
    """
    unknown = set(options) - {"num"}
    if unknown:
        raise EosinError("The source checkers has no such option.", found=", ".join(sorted(unknown)), expected="num")
    rng = random.Random(seed)
    made = [sample_of(i, picture(i, rng)) for i in range(int(options.get("num", 48)))]
    kept = tuple(s for s in made if isinstance(s, Sample))
    dropped = tuple(s for s in made if isinstance(s, Dropped))
    card = Card(name="checkers", title="Light and dark squares", licence="CC0-1.0", split_unit="case").counted(kept)
    return Collection(card=card, samples=Filtered(kept, dropped))


def sample_of(number: int, png: bytes) -> Sample | Dropped:
    """One picture with its question, its gold reply, and the case that may never stand in two splits."""
    name = f"checkers/{number:04d}"
    if not png:
        return Dropped(name, "no picture", "the file is empty", "read")
    shade = shade_of(number)
    return Sample(
        id=name,
        images=(ImageBytes(data=png),),
        messages=user_prompt("Are the squares light or dark?"),
        choices=make_choices(["light", "dark"]),
        answer="AB"[["light", "dark"].index(shade)],
        label=shade,
        reasoning=(f"The squares are {shade}.",),
        caption=f"Squares that are {shade}.",
        origin=Origin(source="checkers", licence="CC0-1.0", case=f"{number // PER_CASE:03d}", digest=digest_of([png])),
    )


def shade_of(number: int) -> str:
    """Cases take turns: four light pictures, four dark ones."""
    return ("light", "dark")[number // PER_CASE % 2]


def picture(number: int, rng: random.Random, side: int = 64) -> bytes:
    """An 8 x 8 board around a grey level, as a PNG."""
    image = Image.new("L", (8, 8))
    level = SHADES[shade_of(number)]
    image.putdata([max(0, min(255, level + rng.randint(-40, 40))) for _ in range(64)])
    buffer = io.BytesIO()
    image.resize((side, side), Image.Resampling.NEAREST).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
