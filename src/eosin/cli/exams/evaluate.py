"""`eosin evaluate`: examine a checkpoint on samples."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from eosin.cli.exams.server import (
    AnswersOption,
    InFlightOption,
    KeyOption,
    MaxCallsOption,
    MaxCostOption,
    PredictionsOption,
    ProbabilitiesOption,
    RetriesOption,
    SameJudgeOption,
    ServedModelOption,
    ServerOptions,
    TimeoutOption,
    is_address,
)
from eosin.cli.exams.server import PricesOption as ServerPricesOption

if TYPE_CHECKING:
    from eosin.core.settings.exam import ExamSettings


def evaluate(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint folder, a model's name on the hub, or the address of a server.")
    ],
    samples: Annotated[
        Path | None, typer.Argument(help="Samples: parquet, jsonl, LLaVA json, or a samples folder.")
    ] = None,
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
    model: ServedModelOption = None,
    in_flight: InFlightOption = 64,
    timeout: TimeoutOption = 120.0,
    retries: RetriesOption = 4,
    max_calls: MaxCallsOption = None,
    max_cost: MaxCostOption = None,
    prices: ServerPricesOption = None,
    api_key_env: KeyOption = "EOSIN_API_KEY",
    cache: AnswersOption = None,
    predictions: PredictionsOption = None,
    allow_same_judge: SameJudgeOption = False,
    option_probabilities: ProbabilitiesOption = False,
) -> None:
    """Examine a model on held-out samples: accuracy with intervals, probes, baselines, evidence.

    Example: eosin evaluate runs/demo/stages/rl/checkpoint runs/demo/samples --out evals/demo
    """
    _tell(_examined(locals()))


def _examined(given: dict[str, Any]) -> dict[str, Any]:
    """What the options of the command line ask for: a file of replies, a server, or a model here."""
    settings, out, grammar, samples = _settings(given), given["out"], given["grammar"], given["samples"]
    model = given["checkpoint"]
    if given["predictions"] is not None:
        from eosin.chain.exam import rescore_file

        file: Path = given["predictions"]
        return rescore_file(file, samples or Path(model), settings, out or Path("evals") / file.stem, grammar)
    place = out or Path("evals") / _folder_name(model, given["model"])
    if is_address(model):
        from eosin.chain.exam import examine_server

        options = ServerOptions(**{f.name: given[f.name] for f in fields(ServerOptions)})
        server = options.settings(model, settings.max_new_tokens)
        return examine_server(server, _stated(samples), settings, place, grammar, given["cache"])
    return _examine_here(model, _stated(samples), settings, place, grammar)


def _settings(given: dict[str, Any]) -> ExamSettings:
    """The options of the command line as an exam's settings."""
    from eosin.core.settings.exam import ExamSettings
    from eosin.core.settings.recipe import check_settings

    baselines = given["baselines"]
    plain = ("split", "max_samples", "max_new_tokens", "batch_size", "num_sampled", "seed",
             "option_probabilities")  # fmt: skip
    judge = [n for n in given if n.startswith("judge")]
    return check_settings(
        ExamSettings,
        {
            **{name: given[name] for name in plain},
            "probes": [p for p in given["probes"].split(",") if p],
            "evidence": {"num_samples": given["evidence"]} if given["evidence"] else None,
            "baselines": baselines if baselines in ("auto", "none") else [b for b in baselines.split(",") if b],
            "same_judge": given["allow_same_judge"],
            "terms": [entry_of(t) for t in given["term"]] if given["term"] else None,
            "scoring": scoring_settings(**{n: given[n] for n in judge}, knowledge=given["knowledge"]),
        },
        "eosin evaluate",
    )


def _stated(samples: Path | None) -> Path:
    from eosin.core.errors import EosinError

    if samples is None:
        raise EosinError(
            "Which samples?", expected="eosin evaluate MODEL SAMPLES, or eosin evaluate --predictions FILE SAMPLES"
        )
    return samples


def _folder_name(checkpoint: str, model: str | None) -> str:
    from eosin.core.store.names import file_name

    if is_address(checkpoint):
        return file_name(model or checkpoint.split("://", 1)[1])
    return checkpoint.strip("/").replace("/", "-")


def _examine_here(
    checkpoint: str, samples: Path, settings: ExamSettings, place: Path, grammar: str | None
) -> dict[str, Any]:
    from eosin.cli.training.run import need

    need("torch")
    from eosin.chain.exam import examine

    return examine(checkpoint, samples, settings, place, grammar)


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _tell(result: dict[str, Any]) -> None:
    from eosin.chain.recipe.run import in_words
    from eosin.report.sections.baselines import baseline_verdict
    from eosin.report.sections.evidence import evidence_lines

    console = Console()
    exam = result["exam"]
    console.print(in_words(exam))
    if exam["num_set_aside"]:
        reasons = "; ".join(f"{n} x {r}" for r, n in exam["set_aside_reasons"].items())
        console.print(f"set aside {exam['num_set_aside']}: {reasons}", markup=False)
    console.print(f"accuracy {exam['accuracy']:.3f}, tolerant accuracy {exam['tolerant_accuracy']:.3f}")
    if (leaks := result.get("leaks") or {}).get("num_leaked"):
        console.print(f"leaks: {leaks['num_leaked']} of {leaks['n']} questions stand in the training samples "
                      f"({leaks['by_reason']}); clean accuracy {_share(leaks['clean_accuracy'])} on {leaks['clean_n']}",
                      markup=False, soft_wrap=True)  # fmt: skip
    elif leaks:
        console.print(f"leaks: {leaks.get('reason') or 'none found'}", markup=False)
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
    if server := result.get("server"):
        told = "calls", "retries", "cache_hits", "failures", "prompt_tokens", "completion_tokens", "cost"
        console.print("server: " + ", ".join(f"{n} {server[n]}" for n in told), markup=False)
    console.print(f"written to {result['path']}", soft_wrap=True)
