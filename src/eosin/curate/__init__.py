"""Samples to samples: every step gives back what it kept and what it set aside, with the reason."""

from __future__ import annotations

from eosin.curate.clean import Cleaned, clean
from eosin.curate.decontaminate import decontaminate
from eosin.curate.dedupe import Deduped, NearPair, dedupe
from eosin.curate.keep import StepCount, count_step, read_dropped, write_dropped
from eosin.curate.leaks import Leak, find_leaks
from eosin.curate.link import Linked, link_entities
from eosin.curate.mixture import Mixture
from eosin.curate.split import SplitResult, split
from eosin.curate.validate import validate

__all__ = [
    "Cleaned", "Deduped", "Leak", "Linked", "Mixture", "NearPair", "SplitResult", "StepCount", "clean", "count_step",
    "decontaminate", "dedupe", "find_leaks", "link_entities", "read_dropped", "split", "validate", "write_dropped",
]  # fmt: skip
