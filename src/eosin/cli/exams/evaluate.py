"""`eosin evaluate`: examine a checkpoint on samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from eosin.cli.exams.score import (
    CacheOption,
    CallsOption,
    CostOption,
    JudgeOption,
    KnowledgeOption,
    ModelOption,
    PricesOption,
    entry_of,
    scoring_settings,
)


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="Checkpoint folder, or a model's name on the hub.")],
    samples: Annotated[Path, typer.Argument(help="Samples: parquet, jsonl, LLaVA json, or a samples folder.")],
    out: Annotated[Path | None, typer.Option(help="Where the exam is written. Default: evals/CHECKPOINT.")] = None,
    split: Annotated[str, typer.Option(help="Split to examine, where samples name one.")] = "test",
    max_samples: Annotated[int | None, typer.Option(help="Examine a seeded random subset of this size.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length cap of a reply, in tokens.")] = 256,
    batch_size: Annotated[int, typer.Option(help="Prompts decoded together.")] = 32,
    num_sampled: Annotated[int, typer.Option(help="Sampled replies an item, beside the greedy one.")] = 0,
    probes: Annotated[str, typer.Option(help="Comma-separated; empty for none.")] = "blank,swapped,question_only",
    grammar: Annotated[str | None, typer.Option(help="Tags, e.g. think/answer. Default: the checkpoint's.")] = None,
    baselines: Annotated[str, typer.Option(help="auto, none, or comma-separated names (docs/baselines.md).")] = "auto",
    seed: Annotated[int, typer.Option(help="Of subsets, swaps, sampling and bootstrap.")] = 0,
    evidence: Annotated[
        int, typer.Option(help="Items with a slide whose evidence is tested by deletion and pointing; 0: none.")
    ] = 0,
    term: Annotated[
        list[str] | None,
        typer.Option(help="Score the replies by this set or term too, such as checklist. Repeatable."),
    ] = None,
    judge: JudgeOption = None,
    judge_model: ModelOption = None,
    judge_cache: CacheOption = None,
    judge_max_calls: CallsOption = None,
    judge_max_cost: CostOption = None,
    judge_prices: PricesOption = None,
    knowledge: KnowledgeOption = None,
) -> None:
    """Examine a model on held-out samples: accuracy with intervals, probes, baselines, evidence.

    Example: eosin evaluate runs/demo/stages/rl/checkpoint runs/demo/samples --out evals/demo
    """
    from eosin.cli.training.run import need

    need("torch")
    from eosin.chain.exam import examine
    from eosin.core.settings.exam import ExamSettings
    from eosin.core.settings.recipe import check_settings

    settings = check_settings(
        ExamSettings,
        {
            "split": split, "max_samples": max_samples, "max_new_tokens": max_new_tokens, "batch_size": batch_size,
            "num_sampled": num_sampled, "probes": [p for p in probes.split(",") if p], "seed": seed,
            "evidence": {"num_samples": evidence} if evidence else None,
            "baselines": baselines if baselines in ("auto", "none") else [b for b in baselines.split(",") if b],
            "terms": [entry_of(t) for t in term] if term else None,
            "scoring": scoring_settings(
                judge=judge, judge_model=judge_model, judge_cache=judge_cache, judge_max_calls=judge_max_calls,
                judge_max_cost=judge_max_cost, judge_prices=judge_prices, knowledge=knowledge,
            ),
        },
        "eosin evaluate",
    )  # fmt: skip
    place = out or Path("evals") / checkpoint.strip("/").replace("/", "-")
    result = examine(checkpoint, samples, settings, place, grammar)
    _tell(result)


def _tell(result: dict[str, Any]) -> None:
    from eosin.chain.recipe.run import in_words
    from eosin.report.sections.baselines import baseline_verdict
    from eosin.report.sections.evidence import evidence_lines

    console = Console()
    exam = result["exam"]
    console.print(in_words(exam))
    console.print(f"accuracy {exam['accuracy']:.3f}, tolerant accuracy {exam['tolerant_accuracy']:.3f}")
    for name, probe in exam["probes"].items():
        console.print(f"probe {name:<18} accuracy {probe['accuracy']:.3f}  n {probe['n']}")
    for name, baseline in (result["baselines"] or {}).items():
        if baseline["n"]:
            console.print(f"baseline {name:<16} accuracy {baseline['accuracy']:.3f}  n {baseline['n']}")
    if verdict := baseline_verdict(exam):
        console.print(verdict, highlight=False, markup=False, soft_wrap=True)
    for name, figure in (exam.get("scored") or {}).get("terms", {}).items():
        mean = "no score" if figure["mean"] is None else f"{figure['mean']:.3f}"
        console.print(f"term {name:<19} mean {mean}  n {figure['n']}  unscored {figure['unscored']}")
    for line in evidence_lines(exam["evidence"] or {}):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"written to {result['path']}", soft_wrap=True)
