"""A question, what it is asked about, and the reply to it as the checkpoint's grammar reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eosin.chain.exam import grammar_of
from eosin.core.errors import EosinError, MissingExtraError
from eosin.core.images import Picture
from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageRef, Origin, Sample, make_choices, user_prompt
from eosin.engines.base import Request

if TYPE_CHECKING:
    from eosin.models.load import Loaded

NOTE = "Research use only, not for diagnosis."
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")
LARGE_PX = 5_000  # a picture without levels is taken for a slide from this side on

Kind = Literal["image", "slide", "either", "features"]


@dataclass(frozen=True)
class Question:
    """What is asked, and how the reply is made."""

    text: str
    options: tuple[str, ...] = ()
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        if len(self.options) == 1 or len(self.options) > 26:
            found = str(len(self.options))
            raise EosinError("A closed question has 2 to 26 options.", found=found, where="--choices")

    def sample(self, ref: ImageRef) -> Sample:
        """The question about one picture."""
        return Sample(
            id="ask", images=(ref,), messages=user_prompt(self.text), choices=make_choices(list(self.options)),
            origin=Origin(source="ask"),
        )  # fmt: skip


@dataclass(frozen=True)
class SlideOptions:
    """How a whole slide is read, and what is written of it; None takes what the checkpoint says.

    Attributes:
        out: folder of the answer: reply.json, evidence.geojson, evidence.png, index.html. It must not exist.
        cache: folder of feature files; by default beside `out`, else one that is removed in the end.
        encoder, weights: name or folder of the encoder, and its weights.
        tile_um, tile_mpp: side of a patch in µm, and µm per pixel of its pixels.
        slide_mpp: µm per pixel of level 0, where the slide does not say.
        methods: of the evidence (`EvidenceSettings.methods`); the first one is drawn.
        of: whether the whole reply is attributed, or its answer alone, given the reasoning.
    """

    out: Path | None = None
    cache: Path | None = None
    encoder: str | None = None
    weights: str | None = None
    tile_um: float | None = None
    tile_mpp: float | None = None
    slide_mpp: float | None = None
    methods: tuple[str, ...] = ("sensitivity", "centred", "rollout")
    of: Literal["reply", "answer"] = "reply"


def kind_of(path: Path) -> Kind:
    """Whether a file is a picture, a whole slide (several levels, or very large), or holds features.

    A TIFF of one level that states its scale may be either: a slide reader takes it for a slide.

    Raises:
        EosinError: there is no such file, or it can be none of these.
    """
    from eosin.slides.features.files import SUFFIXES
    from eosin.slides.open.slide import open_slide

    if not path.exists():
        raise EosinError("There is no such file.", where=path, next_step="give an image, a slide or a feature file")
    if path.suffix.lower() in SUFFIXES:
        return "features"
    if path.suffix.lower() in PICTURES:
        return "image"
    try:
        slide = open_slide(path)
    except MissingExtraError:
        return "image"  # without the packages for slides only pictures can be asked about
    with slide:
        if len(slide.level_sizes_px) > 1 or max(slide.size_px) >= LARGE_PX:
            return "slide"
        return "either" if slide.has_mpp else "image"


def reply_to(
    loaded: Loaded, checkpoint: str, question: Question, ref: ImageRef, picture: Picture
) -> tuple[dict[str, Any], Request, Grammar]:
    """The reply as read by the checkpoint's grammar, the request that was put, and the grammar."""
    from eosin.engines.base import Decoding
    from eosin.engines.transformers_engine import TransformersEngine

    sample = question.sample(ref)
    grammar, instruction = grammar_of(checkpoint, None)
    request = Request("ask", prompt_messages(sample, grammar, instruction=instruction), (picture,))
    decoding = Decoding(max_new_tokens=question.max_new_tokens)
    [made] = TransformersEngine(loaded).generate([request], decoding)
    told = {
        **_read(made.text, grammar, sample), "num_tokens": made.num_tokens, "truncated": made.truncated, "note": NOTE,
    }  # fmt: skip
    return told, request, grammar


def _read(text: str, grammar: Grammar, sample: Sample) -> dict[str, Any]:
    from eosin.scoring.reading.answers import parse_answer

    reply = grammar.parse(text)
    letter: str | None = None
    reason: str | None = None
    if isinstance(reply, Unparsed):
        reason = reply.reason
    elif sample.choices:
        answer = parse_answer(reply.value.answer, {c.letter: c.text for c in sample.choices})
        letter = answer.value if isinstance(answer, Parsed) else None
        reason = answer.reason if isinstance(answer, Unparsed) else None
    return {
        "reply": text,
        "blocks": dict(reply.value.blocks) if isinstance(reply, Parsed) else {},
        "parsed": letter,
        "answer_text": next((c.text for c in sample.choices if c.letter == letter), None),
        "unparsed_reason": reason,
    }


def question_of(text: str, choices: Sequence[str], max_new_tokens: int) -> Question:
    """A question from the command line: options given one by one, or separated by |."""
    options = tuple(o.strip() for c in choices for o in c.split("|") if o.strip())
    return Question(text, options, max_new_tokens)
