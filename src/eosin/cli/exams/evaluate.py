"""`eosin evaluate`: examine a checkpoint on samples."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from eosin.cli.exams.jobs import (
    ImagesOption,
    Job,
    MppOption,
    OneByOneOption,
    PatchOption,
    PixelsOption,
    PromptOption,
    ShiftsOption,
    further_lines,
    jobs_of,
    policies_of,
    tell_together,
)
from eosin.cli.exams.listed import RootOption
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


CheckpointArgument = Annotated[
    str, typer.Argument(help="Checkpoint folder, a model's name on the hub, or the address of a server.")
]
ExamsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="EXAM...",
        help="Listed exams (NAME, NAME/SUBSET, NAME/SPLIT), or samples: parquet, jsonl, LLaVA json, a samples folder.",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--max-samples", "--limit", help="Examine a seeded random subset of this size.")
]
SampledOption = Annotated[
    int, typer.Option("--num-sampled", "--samples", help="Sampled replies an item, beside the greedy one.")
]
EvidenceOption = Annotated[
    int, typer.Option(help="Items with a slide whose evidence is tested by deletion and pointing; 0: none.")
]
TermOption = Annotated[
    list[str] | None,
    typer.Option(help="Score the replies by this set or term too, such as checklist. Repeatable."),
]


def evaluate(
    checkpoint: CheckpointArgument,
    exams: ExamsArgument = None,
    root: RootOption = None,
    out: Annotated[Path | None, typer.Option(help="Where the exam is written. Default: evals/CHECKPOINT.")] = None,
    split: Annotated[str, typer.Option(help="Split to examine, where samples name one.")] = "test",
    max_samples: LimitOption = None,
    max_new_tokens: Annotated[int, typer.Option(help="Length cap of a reply, in tokens.")] = 256,
    batch_size: Annotated[int, typer.Option(help="Prompts decoded together.")] = 32,
    num_sampled: SampledOption = 0,
    probes: Annotated[str, typer.Option(help="Comma-separated; empty for none.")] = "blank,swapped,question_only",
    grammar: Annotated[str | None, typer.Option(help="Tags, e.g. think/answer. Default: the checkpoint's.")] = None,
    baselines: Annotated[str, typer.Option(help="auto, none, or comma-separated names (docs/baselines.md).")] = "auto",
    prompt: PromptOption = None,
    shifts: ShiftsOption = 0,
    mpp: MppOption = None,
    patch_px: PatchOption = None,
    max_pixels: PixelsOption = None,
    num_images: ImagesOption = None,
    one_by_one: OneByOneOption = False,
    seed: Annotated[int, typer.Option(help="Of subsets, swaps, sampling and bootstrap.")] = 0,
    evidence: EvidenceOption = 0,
    term: TermOption = None,
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
    """Examine a model on listed exams or on held-out samples: accuracy with intervals, probes, baselines, evidence.

    Example: eosin evaluate runs/demo/stages/rl/checkpoint runs/demo/samples --out evals/demo

    Example: eosin evaluate Qwen/Qwen2.5-VL-7B-Instruct pathmmu/atlas --root data/pathmmu --max-pixels 65536,262144
    """
    _run(locals())


def _run(given: dict[str, Any]) -> None:
    """All exams under all input policies, one after the other; a table at the end."""
    checkpoint, grammar = given["checkpoint"], given["grammar"]
    if given["predictions"] is not None:
        _tell(_rescored(given))
        return
    place = given["out"] or Path("evals") / _folder_name(checkpoint, given["model"])
    shown = (given[n] for n in ("mpp", "patch_px", "max_pixels", "num_images"))
    policies = policies_of(*shown, one_by_one=given["one_by_one"])
    jobs = jobs_of(_stated(given["exams"]), policies, given["root"], _settings(given), place)
    options = ServerOptions(**{f.name: given[f.name] for f in fields(ServerOptions)})
    results = []
    for job in jobs:
        if len(jobs) > 1:
            Console().print(f"[bold]{job.title}[/bold]", highlight=False)
        if is_address(checkpoint):
            from eosin.chain.exam import examine_server

            server = options.settings(checkpoint, given["max_new_tokens"])
            results.append(examine_server(server, job.part, job.settings, job.place, grammar, given["cache"]))
        else:
            results.append(_examine_here(checkpoint, job, grammar))
        _tell(results[-1])
    tell_together(jobs, results)


def _rescored(given: dict[str, Any]) -> dict[str, Any]:
    """A file of replies scored anew: the first argument is the exam, of which --limit takes what an export of that
    limit takes."""
    from eosin.chain.exam import rescore_file
    from eosin.chain.listed import part_of
    from eosin.core.errors import EosinError

    file, settings = given["predictions"], _settings(given)
    told = [given["checkpoint"], *(given["exams"] or [])]
    if len(told) > 1:
        raise EosinError(
            "A file of replies is scored on one exam, and no model is named beside it.",
            expected="eosin evaluate --predictions FILE EXAM", found=", ".join(told),
        )  # fmt: skip
    part = part_of(told[0], given["root"], settings.max_samples, settings.seed)
    return rescore_file(file, part, settings, given["out"] or Path("evals") / file.stem, given["grammar"])


def _settings(given: dict[str, Any]) -> ExamSettings:
    """The options of the command line as an exam's settings."""
    from eosin.core.settings.exam import ExamSettings
    from eosin.core.settings.recipe import check_settings

    baselines = given["baselines"]
    plain = ("split", "max_samples", "max_new_tokens", "batch_size", "num_sampled", "seed", "prompt", "shifts",
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


def _stated(exams: list[str] | None) -> list[str]:
    from eosin.core.errors import EosinError

    if not exams:
        raise EosinError(
            "Which samples?", expected="eosin evaluate MODEL EXAM..., or eosin evaluate --predictions FILE EXAM",
            next_step="eosin exams list",
        )  # fmt: skip
    return exams


def _folder_name(checkpoint: str, model: str | None) -> str:
    from eosin.core.store.names import file_name

    if is_address(checkpoint):
        return file_name(model or checkpoint.split("://", 1)[1])
    return checkpoint.strip("/").replace("/", "-")


def _examine_here(checkpoint: str, job: Job, grammar: str | None) -> dict[str, Any]:
    from eosin.cli.training.run import need

    need("torch")
    from eosin.chain.exam import examine

    return examine(checkpoint, job.part, job.settings, job.place, grammar)


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _tell(result: dict[str, Any]) -> None:
    from eosin.chain.recipe.run import in_words
    from eosin.report.sections.baselines import baseline_verdict
    from eosin.report.sections.evidence import evidence_lines

    console = Console()
    if sealed := result.get("sealed"):
        console.print(f"{sealed['answered']} of {sealed['n']} questions answered; the gold answers are sealed, so no "
        f"figure "
                      "is given", highlight=False)  # fmt: skip
        console.print(f"written to {sealed['path']}", soft_wrap=True, highlight=False)
        return
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
    for line in further_lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if server := result.get("server"):
        told = "calls", "retries", "cache_hits", "failures", "prompt_tokens", "completion_tokens", "cost"
        console.print("server: " + ", ".join(f"{n} {server[n]}" for n in told), markup=False)
    console.print(f"written to {result['path']}", soft_wrap=True)
