"""Judgement shared by rewards and exams: pure functions on plain data. No torch, and nothing opened by itself."""

from eosin.scoring.reading.answers import parse_answer, parse_answer_set
from eosin.scoring.reading.item import Reference, ScoreItem, item_from_row, item_from_sample
from eosin.scoring.sets.compose import Outcome, RewardSet
from eosin.scoring.sets.named import load_rewards, set_names
from eosin.scoring.terms.base import NoGold, Resources, ScoreContext, Term, register, term_names

__all__ = [
    "NoGold",
    "Outcome",
    "Reference",
    "Resources",
    "RewardSet",
    "ScoreContext",
    "ScoreItem",
    "Term",
    "item_from_row",
    "item_from_sample",
    "load_rewards",
    "parse_answer",
    "parse_answer_set",
    "register",
    "set_names",
    "term_names",
]
