"""Reward terms in exams: means with intervals, what their judge did, and how far the rules agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eosin.report.drawing.numbers import count, num, pair
from eosin.report.records.load import Run
from eosin.report.sections.judge import agreement_rows, judge_facts
from eosin.report.sections.replies import clipped
from eosin.report.words import stage_title


def term_sections(run: Run) -> list[dict[str, Any]]:
    """The reward terms of every exam that lists some: means with intervals, and what their judge did."""
    sections = []
    for exam in run.exams:
        scored = exam.summary.get("scored")
        if not isinstance(scored, Mapping):
            continue
        rewards, terms = scored.get("rewards"), scored.get("terms")
        rows = [_term("total", scored.get("total"))]
        rows += [_term(str(n), one) for n, one in terms.items()] if isinstance(terms, Mapping) else []
        sections.append(
            {
                "title": f"{stage_title(exam.stage)}, exam {exam.name}",
                "label": clipped(rewards.get("label"), 200) if isinstance(rewards, Mapping) else "not recorded",
                "rows": rows,
                "facts": list(judge_facts(scored.get("judge"))),
                "agreement": agreement_rows(scored.get("judge_and_rules")),
            }
        )
    return sections


def _term(name: str, found: Any) -> dict[str, str]:
    one = found if isinstance(found, Mapping) else {}
    mean, interval = num(one.get("mean")), pair(one.get("ci95"))
    spread = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval is not None else ""
    return {
        "name": name.replace("_", " "), "mean": "no score" if mean is None else f"{mean:.3f}{spread}",
        "n": count(one.get("n")), "unscored": count(one.get("unscored")),
    }  # fmt: skip
