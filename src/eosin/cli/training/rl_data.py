"""`eosin rl-data`: how often a model answers each question rightly, for a curriculum by measured difficulty."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from eosin.cli.exams.score import JudgeOption, ModelOption


def rl_data(
    model: Annotated[str, typer.Argument(help="Checkpoint folder, or a model's name on the hub.")],
    samples: Annotated[Path, typer.Argument(help="Samples: parquet, jsonl, LLaVA json, or a samples folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the table.")],
    num: Annotated[int, typer.Option("-n", "--num", help="Replies sampled a question.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of sampling; take the RL stage's.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(help="Length cap of a reply, in tokens.")] = 256,
    rewards: Annotated[
        list[str] | None, typer.Option("--rewards", "--reward", help="A set or a term, also TERM=WEIGHT. Repeatable.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure, where samples name one.")] = "train",
    max_samples: Annotated[int | None, typer.Option(help="Measure a seeded random subset of this size.")] = None,
    batch_size: Annotated[int, typer.Option(help="Replies drawn together.")] = 64,
    grammar: Annotated[str | None, typer.Option(help="Tags, e.g. think/answer. Default: the checkpoint's.")] = None,
    judge: JudgeOption = None,
    judge_model: ModelOption = None,
    seed: Annotated[int, typer.Option(help="Of subsets and sampling.")] = 0,
) -> None:
    """Sample replies to every question and write the pass rate of each. Cut off, the same command goes on.

    A recipe keeps a band of them: stages.rl.difficulty={file: DIR, keep: [0.1, 0.9]}

    Example: eosin rl-data runs/demo/stages/sft/checkpoint runs/demo/samples -n 8 --out rates
    """
    from eosin.cli.exams.score import rewards_of, scoring_settings
    from eosin.cli.training.run import need

    need("torch")
    from eosin.chain.rl_data import RateSettings, measure

    settings = RateSettings(num, temperature, max_new_tokens, batch_size, split, max_samples, seed)
    summary = measure(
        model, samples, out,
        lambda shape: rewards_of(
            rewards or ["eosin"], shape.name, scoring_settings(judge=judge, judge_model=judge_model), max_new_tokens
        ),
        settings, grammar, _progress,
    )  # fmt: skip
    show(summary, out)


def _progress(done: int, total: int) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        console.print(f"{done} of {total} questions", end="\r" if done < total else "\n")


def show(summary: dict[str, Any], out: Path) -> None:
    """The histogram of pass rates and what else was counted."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    largest = max((b["n"] for b in summary["histogram"]), default=0)
    console.print(f"pass rate   questions ({summary['num_replies']} replies each)")
    for one in summary["histogram"]:
        low, high = one["low"], one["high"]
        name = f"{low:.3f}" if low == high else f"{low:.1f}-{high:.1f}"
        console.print(f"{name:>9}   {one['n']:>6}  {'#' * round(40 * one['n'] / largest) if largest else ''}")
    interval = summary["mean_pass_rate_ci95"]
    shown = f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else " (no interval)"
    console.print(f"mean pass rate {_number(summary['mean_pass_rate'])}{shown}, n {summary['n']}")
    band = summary["in_band"]
    console.print(f"in the band {band['keep'][0]:g} to {band['keep'][1]:g}: {band['n']} of {summary['n']}")
    console.print(
        f"groups without variance {_number(summary['groups_without_variance'])}, "
        f"mean reward {_number(summary['reward_mean'])}, unparsed {_number(summary['unparsed_rate'])}, "
        f"truncated {_number(summary['truncated_rate'])}, tokens {_number(summary['mean_tokens'], 1)}"
    )
    if summary["num_unscored"]:
        console.print(f"no reply could be scored: {summary['num_unscored']}")
    for reason, count in summary["dropped"].items():
        console.print(f"set aside: {count} x {reason}")
    console.print(f"written to {out}; in a recipe: stages.rl.difficulty={{file: {out}, keep: [0.1, 0.9]}}")
    console.print("Research use only, not for diagnosis.")


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
