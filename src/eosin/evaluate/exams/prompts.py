"""Ways of asking, by name: chain of thought, chain of draft, direct, yes/no, and the papers' own.

A preset is a reply grammar and, where a paper has one, a system message. The papers' prompts are given by their facts
(tags, where the options stand, what the reply may be) in Eosin's words; nothing of their wording is here, and a figure
taken with a preset is not the paper's figure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Message, Sample, TextPart
from eosin.evaluate.exams.reading.names import nearest_name

OWN = "grammar"
"""The grammar that the checkpoint was trained with."""
_TAGS = "think/answer"


@dataclass(frozen=True)
class Preset:
    """A way of asking.

    Attributes:
        grammar: what the prompt says of the reply and how it is read; None: the checkpoint's own.
        system: a system message in front of the dialogue.
        note: what it does, and where it is from.
        paper: whether it stands for the prompt of a paper.
        keeps_tags: it only says how to think: a checkpoint whose own grammar has a think block is asked in its tags.
    """

    name: str
    note: str
    grammar: Grammar | None
    system: str = ""
    paper: bool = False
    keeps_tags: bool = False

    def form(self, own: Grammar, instruction: bool) -> tuple[Grammar, bool]:
        """The reply grammar for a checkpoint with this one of its own, and whether the prompt states it.

        A preset always states its own.
        """
        if self.grammar is None:
            return own, instruction
        if self.keeps_tags and "think" in own.tags:
            return replace(own, think_style=self.grammar.think_style, ask=""), True
        return self.grammar, True

    def applied(self, sample: Sample) -> Sample:
        """The sample as this preset puts it: with the system message, unless it has one."""
        if not self.system or sample.messages[0].role == "system":
            return sample
        first = Message(role="system", parts=(TextPart(text=self.system),))
        return sample.model_copy(update={"messages": (first, *sample.messages)})


def _bare(ask: str, options: str = "A.", bare: str = "whole") -> Grammar:
    return Grammar.of("answer", ask=ask, options=options, bare=bare)  # type: ignore[arg-type]


PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        Preset(OWN, "the grammar that the checkpoint was trained with; think/answer where it has none", None),
        Preset("direct", "the answer alone, no reasoning; whole reply read", _bare("Reply with the right answer "
        "only.")),
        Preset("letter", "the letter of an option, no reasoning; whole reply read",
               _bare("Reply with the letter of the right option only.")),
        Preset("yes-no", "yes or no in words, no letters; whole reply read", _bare("Answer yes or no.", "words")),
        Preset("a-b", "the same questions with lettered options: A. Yes, B. No; whole reply read",
               _bare("Reply with the letter of the right option only.")),
        Preset("words", "options as a list without letters; the reply names one; whole reply read",
               _bare("Reply with one of these, in the same words.", "words")),
        Preset("short", "an open question; a word or a phrase; whole reply read",
               _bare("Answer with a word or a short phrase.")),
        Preset("report", "an open task; the whole reply is the answer", _bare("Write in plain sentences, without a "
        "list.")),
        Preset("think", "reasoning between think tags, then the answer between answer tags; no word of how to think",
               Grammar.of(_TAGS), keeps_tags=True),
        Preset("chain-of-thought", "steps in full sentences between think tags, then the answer between answer tags",
               Grammar.of(_TAGS, think_style="chain-of-thought"), keeps_tags=True),
        Preset("chain-of-draft", "steps of at most five words between think tags, then the answer between answer tags",
               Grammar.of(_TAGS, think_style="chain-of-draft"), keeps_tags=True),
        Preset("answer-line", "free reasoning; the last line is `Answer: ...`; that line alone is read",
               _bare("Think first. Then write a last line of the form: Answer: LETTER", bare="last line")),
        Preset("pathvlm-r1", "PathVLM-R1 (arXiv 2504.09258): think and answer tags, the answer is letter and option "
        "text",
               Grammar.of(_TAGS, ask="Reason about the picture inside <think></think>. Then give the letter and the "
               "text of "
                          "the right option inside <answer></answer>."), paper=True),
        Preset("patho-r1-cot", "Patho-R1 (arXiv 2505.11404), chain of thought: think and answer tags",
               Grammar.of(_TAGS, think_style="chain-of-thought"), "You are an expert in pathology.", paper=True),
        Preset("patho-r1-cod", "Patho-R1 (arXiv 2505.11404), chain of draft: at most five words a step",
               Grammar.of(_TAGS, think_style="chain-of-draft"), "You are an expert in pathology.", paper=True),
        Preset("pathreasoner-r1", "PathReasoner-R1 (arXiv 2601.21617): findings, reasoning and diagnosis in their "
        "own tags",
               Grammar.of("info/think/answer"), paper=True),
        Preset("pathmmu", "PathMMU's script: options as (A), asked for the option; whole reply read",
               _bare("Which of the options is right? Name it.", "(A)"), paper=True),
        Preset("medxpertqa", "MedXpertQA: reasoning first, then a closing sentence with the letter",
               _bare("Reason step by step. Then write a last line of the form: Answer: LETTER", "(A)", "last line"),
               paper=True),
        Preset("quilt-llava", "Quilt-LLaVA (arXiv 2312.04746), short answers: a single word or phrase",
               _bare("Use a single word, such as yes or no, or one phrase."), paper=True),
        Preset("slidechat", "SlideChat (arXiv 2410.11761): lettered options, the letter alone",
               _bare("Reply with the letter of the right option only.", "A)"), paper=True),
    )
}  # fmt: skip


def preset_named(name: str) -> Preset:
    """A way of asking.

    Raises:
        EosinError: there is none of this name; the nearest one is named.
    """
    preset = PRESETS.get(name.strip().casefold().replace("_", "-"))
    if preset is None:
        near = nearest_name(name, PRESETS)
        raise EosinError(
            "There is no way of asking of this name.", expected=", ".join(PRESETS), found=name,
            next_step=f"did you mean {near}?" if near else None,
        )  # fmt: skip
    return preset
