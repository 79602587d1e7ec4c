"""`eosin score`: score replies from a file with any reward."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eosin.core.settings.scoring import ScoringSettings
    from eosin.scoring import RewardSet
    from eosin.scoring.sets.compose import Outcome

CHUNK = 256

RewardOption = Annotated[
    list[str], typer.Option("--reward", help="A set or a term, also TERM=WEIGHT, or file.py:function. Repeatable.")
]
GrammarOption = Annotated[str, typer.Option(help="Tags of a reply, such as think/answer.")]
JudgeOption = Annotated[
    str | None, typer.Option(help="URL of an OpenAI-compatible judge, such as http://host:8000/v1.")
]
ModelOption = Annotated[str | None, typer.Option(help="The judge's model name.")]
CacheOption = Annotated[Path | None, typer.Option(help="Folder where verdicts are kept.")]
CallsOption = Annotated[int | None, typer.Option(help="Ask the judge at most so often.")]
CostOption = Annotated[
    float | None, typer.Option(help="Stop asking the judge before this cost can be exceeded; needs --judge-prices.")
]
PricesOption = Annotated[
    Path | None, typer.Option(help='JSON: {"MODEL": {"input": 0.5, "output": 1.5}}, per million tokens.')
]
ProxyOption = Annotated[
    str | None, typer.Option(help="HTTP proxy for an https judge. Proxies of the environment are not used.")
]
TokensOption = Annotated[int | None, typer.Option(help="Token limit of a reply, for the length term.")]
LexiconOption = Annotated[
    Path | None, typer.Option(help="A lexicon: kind, name, synonyms divided by |; tab-separated.")
]
KnowledgeOption = Annotated[
    Path | None, typer.Option(help="A graph folder (eosin knowledge build), for names and evidence.")
]


def score(
    replies: Annotated[Path, typer.Argument(help="JSON lines: id, reply, question, choices, answer, ...")],
    reward: RewardOption,
    out: Annotated[Path | None, typer.Option(help="Where the scores are written. Default: standard output.")] = None,
    grammar: GrammarOption = "think/answer",
    judge: JudgeOption = None,
    judge_model: ModelOption = None,
    judge_cache: CacheOption = None,
    judge_max_calls: CallsOption = None,
    judge_max_cost: CostOption = None,
    judge_prices: PricesOption = None,
    judge_proxy: ProxyOption = None,
    max_tokens: TokensOption = None,
    lexicon: LexiconOption = None,
    knowledge: KnowledgeOption = None,
) -> None:
    """Score every reply of a file. Totals, terms and reasons go to OUT, a summary to standard error.

    Example: eosin score replies.jsonl --reward accuracy=0.9 --reward format=0.1 --out scores.jsonl
    """
    import sys

    from eosin.core.errors import EosinError
    from eosin.scoring.sets.rates import summarise

    if not replies.is_file():
        raise EosinError("There is no such file of replies.", expected="a .jsonl file", where=replies)
    settings = scoring_settings(
        judge=judge, judge_model=judge_model, judge_cache=judge_cache, judge_max_calls=judge_max_calls,
        judge_max_cost=judge_max_cost, judge_prices=judge_prices, judge_proxy=judge_proxy, lexicon=lexicon,
        knowledge=knowledge,
    )  # fmt: skip
    rewards = rewards_of(reward, grammar, settings, max_tokens)
    outcomes: list[Outcome] = []
    if out is None:
        for line in _lines(rewards, replies, outcomes):
            sys.stdout.write(line)
    else:
        _write(out, _lines(rewards, replies, outcomes))
    _tell(rewards, summarise(outcomes), out)


def rewards_of(names: list[str], grammar: str, settings: ScoringSettings, max_tokens: int | None = None) -> RewardSet:
    """The reward that the options of `score`, `prove` and `rl-data` describe."""
    from eosin.scoring import load_rewards
    from eosin.scoring.resources.build import tools_of

    tools = tools_of(settings, max_tokens=max_tokens)
    return load_rewards([entry_of(n) for n in names], grammar, **tools.as_injected())


def scoring_settings(
    *,
    judge: str | None = None,
    judge_model: str | None = None,
    judge_cache: Path | None = None,
    judge_max_calls: int | None = None,
    judge_max_cost: float | None = None,
    judge_prices: Path | None = None,
    judge_proxy: str | None = None,
    lexicon: Path | None = None,
    knowledge: Path | None = None,
) -> ScoringSettings:
    """Options of the command line as the settings that a recipe states. Any model name that the judge answers with is
    taken, and recorded."""
    from eosin.core.errors import EosinError
    from eosin.core.settings.recipe import check_settings
    from eosin.core.settings.scoring import ANY_MODEL, JudgeServer, ScoringSettings

    if (judge is None) != (judge_model is None):
        raise EosinError("A judge needs both its address and its model.", expected="--judge URL --judge-model NAME")
    server = None
    if judge is not None and judge_model is not None:
        server = check_settings(JudgeServer, {
            "url": judge, "model": judge_model, "cache": judge_cache and str(judge_cache),
            "max_calls": judge_max_calls, "max_cost": judge_max_cost, "prices": judge_prices and str(judge_prices),
            "proxy": judge_proxy, "answers_as": ANY_MODEL,
        }, "--judge")  # fmt: skip
    return check_settings(ScoringSettings, {
        "judge": server, "knowledge": knowledge and str(knowledge), "lexicon": lexicon and str(lexicon),
    }, "--knowledge, --lexicon")  # fmt: skip


def entry_of(name: str) -> dict[str, Any]:
    """A reward as it is named on the command line: NAME, or NAME=WEIGHT."""
    from eosin.core.errors import EosinError

    term, sign, weight = name.rpartition("=")
    if not sign:
        return {"name": name}
    try:
        return {"name": term, "weight": float(weight)}
    except ValueError:
        raise EosinError("The weight must be a number.", expected="--reward accuracy=0.9", found=name) from None


def _lines(rewards: RewardSet, replies: Path, outcomes: list[Outcome]) -> Iterator[str]:
    """Lines of the output, in order; every outcome is also put into `outcomes`, without its events."""
    import json
    from dataclasses import replace

    for chunk in _chunks(replies):
        for id, outcome in _score_chunk(rewards, chunk):
            outcomes.append(replace(outcome, events=_flags(outcome)))
            line = json.dumps(outcome.as_row(id), ensure_ascii=False) + "\n"
            # A lone surrogate cannot be written as UTF-8; as an escape it is still JSON.
            yield line.encode("utf-8", "backslashreplace").decode("utf-8")


def _flags(outcome: Outcome) -> dict[str, dict[str, object]]:
    """The events that have base rates."""
    return {
        term: {n: {"happened": e["happened"]} for n, e in events.items() if isinstance(e, dict) and "happened" in e}
        for term, events in outcome.events.items()
    }


def _chunks(replies: Path) -> Iterator[list[tuple[int, str]]]:
    chunk: list[tuple[int, str]] = []
    with replies.open(encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                chunk.append((number, line))
            if len(chunk) >= CHUNK:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _score_chunk(rewards: RewardSet, chunk: list[tuple[int, str]]) -> list[tuple[str, Outcome]]:
    """Ids and outcomes in order. A line that is no item has every term unscored, with the reason."""
    from eosin.core.nouns.outcome import Parsed
    from eosin.scoring import item_from_row
    from eosin.scoring.sets.compose import Outcome

    rows = [(number, _decoded(line)) for number, line in chunk]
    made = [item_from_row(row) for _, row in rows]
    scored = iter(rewards.score_batch([m.value for m in made if isinstance(m, Parsed)]))
    result = []
    for (number, row), item in zip(rows, made, strict=True):
        if isinstance(item, Parsed):
            result.append((item.value.id, next(scored)))
        else:
            id = row.get("id") if isinstance(row, dict) else None
            none = Outcome(None, dict.fromkeys(rewards.names), dict.fromkeys(rewards.names, item.reason))
            result.append((id if isinstance(id, str) else f"line {number}", none))
    return result


def _decoded(line: str) -> object:
    import json

    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _write(out: Path, lines: Iterable[str]) -> None:
    """Write the output whole or not at all; one process a file."""
    from eosin.core.errors import disk_errors
    from eosin.core.store.artifacts import remove_leftovers
    from eosin.core.store.lock import lock_beside, locked
    from eosin.core.store.names import unfinished

    temporary = unfinished(out)
    with locked(lock_beside(out)), disk_errors(out):
        remove_leftovers(out.parent, out.name, files=True)
        try:
            with temporary.open("w", encoding="utf-8") as handle:
                handle.writelines(lines)
            temporary.replace(out)
        finally:
            temporary.unlink(missing_ok=True)


def _tell(rewards: RewardSet, summary: dict[str, Any], out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    columns = ["mean", "std", "q05", "q25", "q50", "q75", "q95"]
    table = Table("term", "n", "unscored", *columns, box=None, title=f"{rewards.label}   n {summary['n']}")
    for name, spread in [("total", summary["total"]), *summary["terms"].items()]:
        cells = ["-" if spread.get(c) is None else f"{spread[c]:.3f}" for c in columns]
        table.add_row(name, str(spread["n"]), str(spread["unscored"]), *cells)
    console.print(table)
    for name, reasons in summary["unscored"].items():
        for reason, count in reasons.items():
            console.print(f"unscored {name}: {count} x {reason}", markup=False)
    for name, rate in summary["base_rates"].items():
        console.print(f"base rate {name}: {rate['rate']:.3f}", markup=False)
    if summary["near_constant"]:
        console.print(f"nearly constant, so of no use to training: {', '.join(summary['near_constant'])}", markup=False)
    judge = rewards.resources.judge
    if judge is not None:
        console.print("judge: " + ", ".join(f"{k} {v}" for k, v in judge.described().items()), markup=False)
    if out is not None:
        console.print(f"written to {out}", soft_wrap=True, markup=False)
