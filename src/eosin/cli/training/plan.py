"""`eosin plan`: memory, speed, time and cost of a recipe, before anything is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from eosin.chain.plan.gpus import Machine
    from eosin.chain.plan.plan import StagePlan
    from eosin.chain.plan.speed import Rates
    from eosin.chain.plan.workload import Assumed
    from eosin.core.settings.recipe import Recipe


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value changes")] = None,
    gpus: Annotated[str, typer.Option(help="Cards of a node, such as 8xH100.")] = "1xH100",
    nodes: Annotated[int, typer.Option(min=1, help="Machines like that.")] = 1,
    launch: Annotated[str | None, typer.Option(help="How processes are started, such as fsdp-7b.")] = None,
    samples: Annotated[
        list[str] | None, typer.Option(help="Training samples: N for all stages, or STAGE=N. Repeatable.")
    ] = None,
    image_px: Annotated[int, typer.Option(min=28, help="Side of a picture, where the model keeps its size.")] = 448,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Text of a question.")] = 128,
    reply_tokens: Annotated[int, typer.Option(min=1, help="A gold reply or caption.")] = 256,
    patches: Annotated[int, typer.Option(min=1, help="Patches of a slide.")] = 10_000,
    mfu: Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of the cards' bf16 peak.")] = 0.25,
    usd: Annotated[float | None, typer.Option(min=0, help="Price of a GPU for an hour, in dollars.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the plan to this file.")] = None,
) -> None:
    """Memory by part, tokens a second, time and cost of every stage. Works without a network and without torch.

    Ends with exit code 2 where a stage does not fit, and says what would.

    Example: eosin plan patho-r1 --gpus 8xH100 --samples pretrain=3500000 --samples sft=500000 --usd 2.5
    """
    from rich.console import Console

    from eosin.chain.plan.gpus import machine_of
    from eosin.chain.plan.plan import plan_recipe
    from eosin.chain.plan.speed import Rates
    from eosin.chain.plan.workload import Assumed
    from eosin.cli.training.run import find_recipe
    from eosin.core.errors import EosinError
    from eosin.core.settings.recipe import load_recipe

    machine = machine_of(gpus, nodes)
    changes = [*(overrides or []), *([f"launch={launch}"] if launch else [])]
    resolved = load_recipe(find_recipe(recipe), changes).recipe
    assumed = Assumed(image_px, prompt_tokens, reply_tokens, patches, counts(samples or [], resolved))
    rates = Rates(mfu=mfu)
    plans = plan_recipe(resolved, machine, assumed, rates)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    show(console, resolved, plans, machine, usd)
    say_assumptions(console, resolved, plans, machine, assumed, rates)
    if as_json is not None:
        rows = [p.as_dict(machine, usd) for p in plans]
        as_json.write_text(json.dumps({"machine": str(machine), "stages": rows}, indent=1) + "\n", "utf-8")
    failed = [p for p in plans if not p.fits]
    if failed:
        raise EosinError(
            f"{len(failed)} of {len(plans)} stages do not fit into {machine.gpu.usable_gib:.0f} GiB a GPU.",
            found="; ".join(f"{p.name}: {p.memory.peak_gib:.0f} GiB" for p in failed),
            expected="; ".join(f"{p.name} fits with {' | '.join(p.remedies)}" for p in failed),
            where=str(machine), next_step="give one of these changes on the command line",
        )  # fmt: skip


def counts(given: list[str], recipe: Recipe) -> tuple[tuple[str, int], ...]:
    """What --samples says, checked against the recipe's stages."""
    from eosin.core.errors import EosinError

    found = []
    for one in given:
        stage, sign, number = one.rpartition("=")
        if not number.replace("_", "").isdigit() or (sign and stage not in recipe.stages):
            raise EosinError(
                "--samples is N, or STAGE=N.", expected=f"a stage of {', '.join(recipe.stages)}", found=one
            )
        found.append((stage, int(number)))
    return tuple(found)


def show(console: Console, recipe: Recipe, plans: list[StagePlan], machine: Machine, usd: float | None) -> None:
    """One block a stage, and the sum."""
    console.print(f"{recipe.name} on {machine}: at most {machine.gpu.usable_gib:.0f} GiB a GPU")
    for p in plans:
        parts = ", ".join(f"{name} {gib:.2f}" for name, gib in p.memory.gib().items() if gib >= 0.005)
        verdict = "fits" if p.fits else "DOES NOT FIT"
        console.print(f"\n{p.name} ({p.kind}), {p.ranks} process{'es' if p.ranks > 1 else ''}: {verdict}")
        console.print(f"  memory a GPU, GiB: peak {p.memory.peak_gib:.2f} of {parts}")
        row = f"{p.work.prompt} tokens of prompt + {p.work.reply} of reply"
        console.print(f"  rows: {p.work.batch} x {p.work.accumulation} a process and step, {row}")
        console.print(
            f"  speed: {p.step.seconds:.3g} s a step (drawing {p.step.generate:.3g} s), "
            f"{p.tokens_per_second:,.0f} tokens a second of all"
        )
        known = f"{p.work.samples:,} samples, {p.work.steps:,} steps" if p.work.samples else f"{p.work.steps:,} steps"
        hours = p.seconds * machine.num / 3600
        price = "" if usd is None else f", {hours * usd:,.2f} dollars"
        note = " (no number of samples known: for 1,000 of them, or the recipe's steps; --samples STAGE=N)"
        console.print(
            f"  time: {duration(p.seconds)} for {known}, {hours:,.2f} GPU hours{price}" + (note if p.is_open else "")
        )
        for remedy in p.remedies:
            console.print(f"  would fit: {remedy}")
    total = sum(p.seconds for p in plans)
    hours = total * machine.num / 3600
    price = "" if usd is None else f", {hours * usd:,.2f} dollars"
    console.print(
        f"\nall stages: {duration(total)}, {hours:,.1f} GPU hours{price}; exams, data and waiting are not in it"
    )


def duration(seconds: float) -> str:
    """In the unit that fits."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def say_assumptions(
    console: Console, recipe: Recipe, plans: list[StagePlan], machine: Machine, assumed: Assumed, rates: Rates
) -> None:
    """What the figures rest on."""
    from eosin.chain.plan.gpus import USABLE
    from eosin.chain.plan.plan import launch_for
    from eosin.core.settings.stages import RlStage

    gpu, launch = machine.gpu, launch_for(recipe, machine)
    rl = [s for s in recipe.stages.values() if isinstance(s, RlStage)]
    dynamic = any(s.algorithm.dynamic_sampling for s in rl)
    lines = [
        f"{gpu.name}: {gpu.memory_gb:g} GB, of which {USABLE:.0%} can be filled; {gpu.tflops:g} TFLOPS dense bf16, "
        f"{gpu.bandwidth_tbs:g} TB/s ({gpu.source})",
        f"launch: {launch.kind}, of the model each process shares out: {launch.sharding}"
        + (", optimiser in the host's memory" if launch.offload else ""),
        f"forward and backward passes at {rates.mfu:.0%} of the peak; drawing with transformers at "
        f"{rates.layer_ms:.2f} ms a layer and token (both measured on an H100, docs/benchmarks.md), and a pass of any "
        "layer in no less (backward: twice that)",
        f"pictures {assumed.image_px} px where the model keeps their size and no max_pixels holds, "
        f"{assumed.prompt_tokens} tokens of question, {assumed.reply_tokens} of gold reply, "
        f"{assumed.patches:,} patches a slide; replies in RL run to their cap",
        "bf16 weights, gradients and AdamW moments in one process and with copies (fp32 under fsdp, masters under "
        "deepspeed, adapters); padding, exams, judges and waiting for data or the network are not counted",
        *([f"dynamic sampling draws each batch {rates.dynamic:g} times"] if dynamic else []),
    ]  # fmt: skip
    console.print("\nassumed:")
    for line in lines:
        console.print(f"  - {line}")
