"""`eosin prove`: show on data that a reward cannot be farmed by any known cheat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eosin.cli.exams.score import (
    CacheOption,
    CallsOption,
    CostOption,
    GrammarOption,
    JudgeOption,
    KnowledgeOption,
    LexiconOption,
    ModelOption,
    PricesOption,
    ProxyOption,
    RewardOption,
    TokensOption,
    rewards_of,
    scoring_settings,
)

if TYPE_CHECKING:
    from eosin.core.nouns.sample import Sample
    from eosin.scoring.proof.prove import Proof


def prove(
    samples: Annotated[str, typer.Argument(help="Samples: parquet, jsonl, a samples folder; or the word phantom.")],
    reward: RewardOption,
    grammar: GrammarOption = "think/answer",
    max_samples: Annotated[int, typer.Option(help="Prove on a seeded random subset of at most this size.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the subset, and of the phantom.")] = 0,
    cheats: Annotated[Path | None, typer.Option(help="Another file of cheats than Eosin's own.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the proof as JSON.")] = None,
    strict: Annotated[bool, typer.Option(help="Count the known faults of published rewards as breaches too.")] = False,
    judge: JudgeOption = None,
    judge_model: ModelOption = None,
    judge_cache: CacheOption = None,
    judge_max_calls: CallsOption = None,
    judge_max_cost: CostOption = None,
    judge_prices: PricesOption = None,
    judge_proxy: ProxyOption = None,
    max_tokens: TokensOption = 2048,
    lexicon: LexiconOption = None,
    knowledge: KnowledgeOption = None,
) -> None:
    """Check that gold earns the maximum, silence the minimum, and no cheat more than an honest wrong reply.

    Exit code 1 on a breach. Example: eosin prove runs/demo/samples --reward eosin
    """
    from eosin.core.draw import subset
    from eosin.scoring.proof.prove import prove as prove_on
    from eosin.scoring.proof.prove import read_cheats

    settings = scoring_settings(
        judge=judge, judge_model=judge_model, judge_cache=judge_cache, judge_max_calls=judge_max_calls,
        judge_max_cost=judge_max_cost, judge_prices=judge_prices, judge_proxy=judge_proxy, lexicon=lexicon,
        knowledge=knowledge,
    )  # fmt: skip
    rewards = rewards_of(reward, grammar, settings, max_tokens)
    proof = prove_on(rewards, subset(read(samples, seed), max_samples, seed), cheats=read_cheats(cheats))
    _tell(proof, strict)
    if json_file is not None:
        from eosin.core.store.artifacts import write_json

        write_json(json_file, proof.as_dict())
    if proof.breaches or (strict and proof.known_breaches):
        raise typer.Exit(1)


def read(samples: str, seed: int) -> list[Sample]:
    """Samples with an answer, from disk or from the phantom."""
    from eosin.core.errors import EosinError

    if samples == "phantom" and not Path(samples).exists():
        found = _phantom(seed)
    else:
        from eosin.core.formats import read_samples

        found = list(read_samples(samples).kept)
    usable = [s for s in found if s.answer is not None]
    if not usable:
        raise EosinError(
            "No sample has an answer, so nothing can be proved.", found=f"{len(found)} samples", where=samples
        )
    return usable


def _phantom(seed: int) -> list[Sample]:
    from eosin.core.settings.data import PhantomData
    from eosin.sources.phantom import read_phantom

    settings = PhantomData(train_cases=12, valid_cases=0, test_cases=12, tiles_per_case=5, tile_px=64, seed=seed)
    return list(read_phantom(settings, seed).samples.kept)


def _tell(proof: Proof, strict: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("reply", "n", "mean", "least", "most", "verdict", box=None, title=f"{proof.label}")
    for row in proof.rows:
        facts = row.as_dict()
        numbers = ["-" if facts[k] is None else f"{facts[k]:.3f}" for k in ("mean", "least", "most")]
        table.add_row(row.name, str(facts["n"]), *numbers, _verdict(proof, row.name, facts))
    console.print(table)
    unscored = {r: n for row in proof.rows[:1] for r, n in row.unscored.items()}
    for reason, count in unscored.items():
        console.print(f"gold could not be scored on {count} samples: {reason}", markup=False)
    for row in proof.rows:
        if row.breaches:
            note = f"  known: {proof.known[row.name]}" if row.name in proof.known else ""
            console.print(f"e.g. {row.breaches[0]}{note}", markup=False, soft_wrap=True)
    broken = len(proof.breaches) + (len(proof.known_breaches) if strict else 0)
    faults = len(proof.known_breaches)
    but = f", but for {faults} known faults of the published reward (--strict counts them)" if faults else ""
    console.print("it does not hold" if broken else f"it holds{but}", markup=False, soft_wrap=True)


def _verdict(proof: Proof, name: str, facts: dict[str, Any]) -> str:
    if not facts["breaches"]:
        return "holds" if facts["n"] else "unscored"
    return f"{'known fault' if name in proof.known else 'BREACH'} ({facts['breaches']})"
