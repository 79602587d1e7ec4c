"""What a judge did, for stages and exams: what it was asked, what it cost, and how far the rules agree with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eosin.report.drawing.numbers import count, duration, figure, num, percent
from eosin.report.sections.replies import clipped


def judge_facts(found: Any, waited: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """Rows of facts from a judge's counts, as stage.json and an exam's summary.json have them.

    Args:
        waited: the same mapping where it also says how long the trainer waited.
    """
    if not isinstance(found, Mapping) or num(found.get("calls")) is None:
        return
    names = found.get("answered_by")
    told = ", ".join(f"{clipped(k, 60)} ({count(v)})" for k, v in names.items()) if isinstance(names, Mapping) else ""
    asked = f"{count(found['calls'])} calls, of which {count(found.get('retries'))} again"
    yield "judge asked", f"{asked}; {count(found.get('cache_hits'))} verdicts from the cache"
    yield "judge answered by", told or "nobody"
    yield "judge without an answer", f"{count(found.get('failures'))} questions; their replies have no reward"
    cost, assumed = num(found.get("cost")) or 0.0, num(found.get("cost_assumed")) or 0.0
    tokens = f"{count(found.get('prompt_tokens'))} tokens read, {count(found.get('completion_tokens'))} written"
    worst = f", and at most {figure(assumed)} for {count(found.get('unreported'))} calls that told no tokens"
    yield "judge's cost", f"{figure(cost)} ({tokens}){worst if assumed else ''}"
    seconds = num((waited or {}).get("waited_s"))
    if seconds is not None:
        yield "waited for the judge", f"{duration(seconds)}; its own time was {duration(found.get('seconds'))}"


def unscored_facts(found: Any) -> Iterator[tuple[str, str]]:
    """How many replies of a stage had no reward, and why."""
    if not isinstance(found, Mapping):
        return
    reasons, total = found.get("reasons"), num(found.get("num_replies"))
    if not isinstance(reasons, Mapping) or not reasons or not total:
        return
    lost = sum(num(n) or 0 for n in reasons.values())
    shown = "; ".join(f"{count(n)} x {clipped(reason, 120)}" for reason, n in list(reasons.items())[:4])
    yield "replies without a reward", f"{count(lost)} of {count(total)} ({percent(lost / total)}): {shown}"


def agreement_rows(found: Any) -> list[dict[str, str]]:
    """A row an event: how often the judge and the rules saw it, how often they say the same, and Cohen's kappa."""
    if not isinstance(found, Mapping):
        return []
    rows = []
    for name, one in found.items():
        if isinstance(one, Mapping) and num(one.get("n")):
            kappa = num(one.get("kappa"))
            rows.append(
                {
                    "name": str(name).replace("_", " "), "n": count(one.get("n")),
                    "judge": percent(one.get("judge")), "rules": percent(one.get("rules")),
                    "agree": percent(one.get("agree")), "kappa": "constant" if kappa is None else f"{kappa:.2f}",
                }
            )  # fmt: skip
    return rows
