"""Random samples of every shape, for round trips."""

from __future__ import annotations

import io
import string

from hypothesis import strategies as st
from PIL import Image

from eosin.core.nouns.sample import (
    Choice,
    Entity,
    ImageBytes,
    ImageFile,
    ImagePart,
    Message,
    Origin,
    Sample,
    SlideRegion,
    TextPart,
)
from eosin.core.nouns.units import BoxLevel0, BoxMicrons, BoxPixels

# No angle brackets here: tags of the grammar are refused by writers of dialogues, and have their own test.
_plain = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="<>"), max_size=20)
_odd = st.sampled_from(
    [
        "<image>",
        "a <image> b\n<image>",
        "&lt;image>",
        "\u2028line\u0085",
        "\x00\x0b",
        "é漢字🔬",
        "\ufeff",
        "<",
        ">>",
        '"\\',
        "",
    ]
)
texts = st.one_of(_plain, _odd, st.tuples(_plain, _odd, _plain).map("".join))
some_text = st.tuples(texts, st.sampled_from("abcXYZ")).map("".join)
names = st.text(string.ascii_letters + string.digits + "-_/ é", min_size=1, max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def png(colour: int = 128, size: int = 16) -> bytes:
    """A small valid PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (colour, 80, 120)).save(buffer, "PNG")
    return buffer.getvalue()


def _box(kind: type, low: int = 0) -> st.SearchStrategy:
    start, side = st.integers(low, 10**6), st.integers(1, 10**5)
    return st.builds(lambda x, y, w, h: kind(x0=x, y0=y, x1=x + w, y1=y + h), start, start, side, side)


@st.composite
def _micron_box(draw: st.DrawFn) -> BoxMicrons:
    x, y = draw(st.floats(0, 1e5)), draw(st.floats(0, 1e5))
    return BoxMicrons(x0=x, y0=y, x1=x + draw(st.floats(0.1, 1e4)), y1=y + draw(st.floats(0.1, 1e4)))


mpps = st.none() | st.floats(0.01, 100)
image_bytes = st.builds(ImageBytes, data=st.integers(0, 255).map(png))
image_files = st.builds(ImageFile, path=names.map("/nowhere/{}.png".format), sha256=st.none() | names)
regions = st.builds(SlideRegion, path=names.map("/slides/{}.svs".format), box=_box(BoxLevel0) | _micron_box(), mpp=mpps)
entities = st.builds(
    Entity,
    name=some_text,
    concept=st.none() | names,
    kind=names,
    polarity=st.sampled_from(["present", "absent"]),
    certainty=st.sampled_from(["certain", "possible"]),
    count=st.none() | st.integers(0, 9999),
    image=st.integers(0, 3),
    boxes=st.lists(_box(BoxPixels, -5), max_size=2).map(tuple),
)
origins = st.builds(
    Origin,
    source=names,
    licence=texts,
    patient=st.none() | names,
    case=st.none() | names,
    slide=st.none() | names,
    article=st.none() | names,
    page=st.none() | st.integers(0, 2000),
    organ=st.none() | texts,
    mpp=mpps,
    parents=st.lists(names, max_size=2).map(tuple),
    digest=st.none() | names,
)


@st.composite
def _messages(draw: st.DrawFn, num_images: int) -> tuple[Message, ...]:
    part = texts.map(lambda t: TextPart(text=t))
    if num_images:
        part = part | st.integers(0, num_images - 1).map(lambda i: ImagePart(index=i))
    parts = st.lists(part, max_size=4).map(tuple)
    roles = draw(st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=3))
    return tuple(Message(role=r, parts=draw(parts)) for r in [*roles, "user"])


@st.composite
def samples(draw: st.DrawFn, refs: st.SearchStrategy | None = None, sample_id: str | None = None) -> Sample:
    """A sample with 0 to 3 images of the given kinds."""
    images = draw(st.lists(refs if refs is not None else image_bytes | image_files | regions, max_size=3))
    options = draw(st.lists(some_text, max_size=5, unique_by=lambda t: t.strip().casefold()))
    choices = tuple(Choice(letter=string.ascii_uppercase[i], text=t) for i, t in enumerate(options))
    answer = st.sampled_from([c.letter for c in choices]) if choices else texts
    return Sample(
        id=sample_id or draw(some_text),
        images=tuple(images),
        messages=draw(_messages(len(images))),
        choices=choices,
        answer=draw(st.none() | answer),
        findings=draw(st.none() | texts),
        reasoning=tuple(draw(st.lists(texts, max_size=3))),
        caption=draw(st.none() | texts),
        label=draw(st.none() | texts),
        entities=tuple(draw(st.lists(entities, max_size=2))),
        origin=draw(origins),
        split=draw(st.sampled_from([None, "train", "valid", "test"])),
        extra=draw(st.dictionaries(texts, json_values, max_size=3)),
    )


@st.composite
def sample_lists(draw: st.DrawFn, refs: st.SearchStrategy | None = None, max_size: int = 4) -> list[Sample]:
    """Samples with different ids."""
    number = draw(st.integers(0, max_size))
    return [draw(samples(refs, f"{i}-{draw(names)}")) for i in range(number)]
