"""A checkpoint on its own: an exam on samples, or one question about one image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eosin.core import store
from eosin.core.errors import EosinError
from eosin.core.exam_settings import ExamSettings
from eosin.core.images import load_image
from eosin.core.outcome import Parsed, Unparsed
from eosin.core.prompt import prompt_messages
from eosin.core.reply import Grammar
from eosin.core.sample import ImageFile, Origin, Sample, SlideRegion, ask, lettered

NOTE = "Research use only, not for diagnosis."


def grammar_of(checkpoint: str, wanted: str | None) -> tuple[Grammar, bool]:
    """The reply grammar that a checkpoint was trained with, and whether its prompts state it."""
    from eosin.models.checkpoint import facts_of

    facts = facts_of(checkpoint)
    known = facts.get("grammar", {"tags": "think/answer", "numbered_steps": False})
    grammar = Grammar.of(wanted or known["tags"], numbered_steps=known["numbered_steps"])
    return grammar, bool(facts.get("instruction", True))


def examine(
    checkpoint: str, samples_path: Path, settings: ExamSettings, out: Path, grammar_name: str | None
) -> dict[str, Any]:
    """Examine a checkpoint on samples from disk. What could not be read is counted and kept beside the exam."""
    from eosin.core.formats import read_samples
    from eosin.curate import write_dropped
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.evaluate.entry import evaluate_samples
    from eosin.models.load import load, quiet
    from eosin.slides.regions import SlideRegions

    quiet()
    read = read_samples(samples_path)
    if not read.kept:
        raise EosinError("No sample could be read.", found=str(read.reasons()), where=samples_path)
    grammar, instruction = grammar_of(checkpoint, grammar_name)
    parents = (store.open_artifact(Path(checkpoint)),) if store.exists(Path(checkpoint)) else ()
    result = evaluate_samples(
        TransformersEngine(load(checkpoint)),
        read.kept,
        grammar,
        out,
        settings=settings,
        record={"checkpoint": checkpoint, "samples": str(samples_path), "seed": settings.seed},
        parents=parents,
        instruction=instruction,
        read_region=SlideRegions(),
    )
    if read.dropped:
        write_dropped(out / "dropped.jsonl", read.dropped)
    return result


def ask_one(
    checkpoint: str, image: ImageFile | SlideRegion, question: str, options: list[str], max_new_tokens: int
) -> dict[str, Any]:
    """One reply: {"reply", "blocks", "parsed", "answer_text", "unparsed_reason", "num_tokens", "truncated", "note"}."""
    from eosin.engines.base import Decoding, Request
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.load import load, quiet
    from eosin.scoring.answers import parse_answer
    from eosin.slides.regions import SlideRegions

    quiet()

    picture = load_image(image, SlideRegions())
    if len(options) == 1 or len(options) > 26:
        raise EosinError("A closed question has 2 to 26 options.", found=str(len(options)), where="--choices")
    sample = Sample(
        id="ask",
        images=(image,),
        messages=ask(question),
        choices=lettered(options),
        origin=Origin(source="ask"),
    )
    grammar, instruction = grammar_of(checkpoint, None)
    engine = TransformersEngine(load(checkpoint))
    request = Request("ask", prompt_messages(sample, grammar, instruction=instruction), (picture,))
    [made] = engine.generate([request], Decoding(max_new_tokens=max_new_tokens))
    reply = grammar.parse(made.text)
    letter: str | None = None
    reason: str | None = None
    if isinstance(reply, Unparsed):
        reason = reply.reason
    elif options:
        answer = parse_answer(reply.value.answer, {c.letter: c.text for c in sample.choices})
        letter = answer.value if isinstance(answer, Parsed) else None
        reason = answer.reason if isinstance(answer, Unparsed) else None
    return {
        "reply": made.text,
        "blocks": dict(reply.value.blocks) if isinstance(reply, Parsed) else {},
        "parsed": letter,
        "answer_text": next((c.text for c in sample.choices if c.letter == letter), None),
        "unparsed_reason": reason,
        "num_tokens": made.num_tokens,
        "truncated": made.truncated,
        "note": NOTE,
    }
