"""A model behind an OpenAI-compatible server as a reader of the room: it sees pictures; its weights are elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eosin.chain.room.regions import REGION_PX, region_seen
from eosin.clients.settings import ServerSettings
from eosin.core.errors import EosinError
from eosin.core.nouns.bags import F64
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, make_choices, user_prompt
from eosin.core.nouns.units import BoxLevel0
from eosin.engines.base import Generation, Request
from eosin.evaluate.exam.token_probabilities import token_probabilities
from eosin.scoring.reading.answers import parse_answer
from eosin.serve.questions.base import Seen, Tell
from eosin.slides.features.regions import SlideRegions

NO_EVIDENCE = "The weights of this model are behind a server: where it looked within a picture cannot be measured."


class ServerReader:
    """See `eosin.serve.questions.base.SlideReader`. A slide is shown as one picture, a box as its pixels.

    Args:
        grammar, instruction: the form of the replies, and whether prompts state it.
        slide_mpp: µm per pixel of level 0, for slides that do not state it.
        max_slides: pictures that one question may show.
    """

    sees_slides = True
    sees_regions = True

    def __init__(
        self, server: ServerSettings, grammar: Grammar, instruction: bool, slide_mpp: float | None = None,
        max_slides: int = 8,
    ) -> None:  # fmt: skip
        self.grammar, self.instruction, self.max_slides = grammar, instruction, max_slides
        self._slide_mpp = slide_mpp
        self._regions = SlideRegions(mpp=slide_mpp)
        self.about: dict[str, Any] = {
            "checkpoint": server.model, "server": server.base_url, "evidence": NO_EVIDENCE,
            "sees": f"a slide as one picture of at most {REGION_PX} px, a box as its pixels",
        }  # fmt: skip

    def look(self, path: Path, box: BoxLevel0 | None, tell: Tell) -> Seen:
        """One picture; it leaves this machine for the server."""
        return region_seen(self._regions, path, box, self._slide_mpp)

    def evidence(self, request: Request, reply: str, span: tuple[int, int], slide: int = 0) -> F64:
        """Never: gradients need the weights."""
        raise EosinError(NO_EVIDENCE)

    def option_probabilities(self, request: Request, reply: Generation, options: Sequence[str]) -> list[float] | None:
        """From the server's token probabilities, as an exam of a server finds them; None where it gives none."""
        choices = make_choices(list(options))
        parsed = self.grammar.parse(reply.text)
        if reply.tokens is None or not isinstance(parsed, Parsed):
            return None
        named = parse_answer(parsed.value.answer, {c.letter: c.text for c in choices})
        if not isinstance(named, Parsed):
            return None
        sample = Sample(id=request.id, messages=user_prompt("?", 0), choices=choices, origin=Origin(source="room"))
        found = token_probabilities(reply.tokens, sample, named.value)
        return None if found is None else [found[c.letter] for c in choices]
