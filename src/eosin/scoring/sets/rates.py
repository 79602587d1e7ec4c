"""How each term behaves over many replies: spread, unscored share, base rates of events, constant terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from eosin.scoring.sets.compose import Outcome

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CONSTANT_STD = 0.02
CONSTANT_RATE = 0.98


def summarise(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Mean, standard deviation and quantiles of the total and of every term; unscored counts by reason;
    base rates of true-or-false events; and what is nearly constant, so that it teaches nothing."""
    rows = list(outcomes)
    names = list(dict.fromkeys(name for o in rows for name in o.terms))
    terms = {name: _spread([o.terms[name] for o in rows if name in o.terms]) for name in names}
    rates = base_rates(rows)
    constant = [n for n, t in terms.items() if t["n"] > 1 and t["std"] < CONSTANT_STD]
    constant += [n for n, r in rates.items() if r["n"] > 1 and not 1 - CONSTANT_RATE < r["rate"] < CONSTANT_RATE]
    return {
        "n": len(rows),
        "total": _spread([o.total for o in rows]),
        "terms": terms,
        "unscored": {n: dict(Counter(o.unscored[n] for o in rows if n in o.unscored).most_common()) for n in names},
        "base_rates": rates,
        "near_constant": constant,
    } | ({"judge_and_rules": both} if (both := judge_and_rules(rows)) else {})


def share_of_flat_groups(groups: Iterable[Sequence[float | None]], tol: float = 1e-9) -> float | None:
    """Fraction of groups whose scored rewards are all equal; they give no gradient. None without groups."""
    flat = [max(v) - min(v) <= tol for v in ([x for x in g if x is not None] for g in groups) if v]
    return sum(flat) / len(flat) if flat else None


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    scored = np.array([v for v in values if v is not None], dtype=float)
    found: dict[str, Any] = {"n": int(scored.size), "unscored": len(values) - int(scored.size)}
    if not scored.size:
        return found | {"mean": None, "std": None}
    quantiles = {f"q{round(q * 100):02d}": float(np.quantile(scored, q)) for q in QUANTILES}
    return found | {"mean": float(scored.mean()), "std": float(scored.std()), **quantiles}


def base_rates(rows: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """How often each event of the form {"happened": bool} happened, by "term.event"."""
    seen: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for outcome in rows:
        for term, events in outcome.events.items():
            for name, event in events.items():
                if isinstance(event, dict) and isinstance(event.get("happened"), bool):
                    seen[f"{term}.{name}"] += 1
                    true[f"{term}.{name}"] += event["happened"]
    return {name: {"n": n, "rate": true[name] / n} for name, n in sorted(seen.items())}


def judge_and_rules(rows: Sequence[Outcome]) -> dict[str, dict[str, float | int | None]]:
    """How a judge's events agree with the rules' for the same replies, by "term.event"; {} where no judge was asked.

    Returns:
        n; judge, rules: how often each saw the event; both: how often both did; agree: share of replies on which they
        say the same; kappa: Cohen's, (agree - chance) / (1 - chance), None where both are constant.
    """
    counts: dict[str, Counter[tuple[bool, bool]]] = {}
    for outcome in rows:
        for term, events in outcome.events.items():
            rules = events.get("rules")
            for name, said in rules.items() if isinstance(rules, dict) else ():
                event = events.get(name)
                if isinstance(event, dict) and isinstance(event.get("happened"), bool) and isinstance(said, bool):
                    counts.setdefault(f"{term}.{name}", Counter())[event["happened"], said] += 1
    return {name: _agreement(found) for name, found in sorted(counts.items())}


def _agreement(found: Counter[tuple[bool, bool]]) -> dict[str, float | int | None]:
    n = sum(found.values())
    both, judge_only, rules_only = found[True, True], found[True, False], found[False, True]
    judge, rules = (both + judge_only) / n, (both + rules_only) / n
    agree = (both + found[False, False]) / n
    chance = judge * rules + (1 - judge) * (1 - rules)
    kappa = (agree - chance) / (1 - chance) if chance < 1 else None
    return {"n": n, "judge": judge, "rules": rules, "both": both / n, "agree": agree, "kappa": kappa}
