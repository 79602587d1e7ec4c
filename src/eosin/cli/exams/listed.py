"""`eosin exams`: the exams that Eosin knows, what they are, and whether a copy on this disk is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from eosin.evaluate.exams.exam import Exam

app = typer.Typer(
    help="Listed exams: published benchmarks and phantoms. Nothing is downloaded. Research use only, not for "
    "diagnosis.",
    no_args_is_help=True,
)
NameArgument = Annotated[str, typer.Argument(help="Name of an exam, as `eosin exams list` prints it.")]
RootOption = Annotated[Path | None, typer.Option("--root", help="Folder of the published set on this disk.")]


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


@app.command("list")
def list_exams(
    as_json: Annotated[bool, typer.Option("--json", help="Names and facts as JSON.")] = False,
) -> None:
    """List the exams: name, kind, what they show, parts.

    Example: eosin exams list
    """
    from eosin.evaluate.exams.registry import all_exams

    if as_json:
        rows = [
            {
                "name": e.name, "kind": e.card.kind, "scorer": e.scorer, "domain": e.card.domain, "subsets": e.subsets,
                "splits": e.splits, "needs_root": e.needs_root, "digest": e.digest,
            }
            for e in all_exams()
        ]  # fmt: skip
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("exam", "kind", "shows", "subsets", "splits"):
        table.add_column(name, overflow="fold")
    for exam in all_exams():
        table.add_row(
            exam.name, exam.card.kind, exam.card.domain, ", ".join(exam.subsets) or "-", ", ".join(exam.splits)
        )
    _console().print(table)
    _console().print(
        "eosin exams show NAME says more; eosin evaluate MODEL NAME[/SUBSET][/SPLIT] --root DIR runs one", markup=False
    )


@app.command("show")
def show(name: NameArgument) -> None:
    """Show an exam's card: source, licence, how to get it, counts, splits, overlaps, faults, figures.

    Example: eosin exams show pathmmu
    """
    from eosin.evaluate.exams.registry import exam_named

    for line in card_lines(exam_named(name)):
        _console().print(line, markup=False)


def card_lines(exam: Exam) -> list[str]:
    """The card as lines of text."""
    card = exam.card
    lines = [f"{exam.name}: {card.title}", ""]
    for label, value in (
        ("kind", f"{card.kind}; scored by {exam.scorer}; asked with the prompt {exam.prompt}"), ("shows", card.domain),
        ("homepage", card.homepage), ("version", card.version), ("licence", card.licence), ("cite", card.citation),
        ("subsets", ", ".join(exam.subsets)), ("splits", ", ".join(exam.splits)), ("split rule", card.split_rule),
        ("never split", card.split_unit), ("layout", card.layout), ("learnt from", card.layout_source),
        ("digest", exam.digest[:16]),
    ):  # fmt: skip
        if value:
            lines.append(f"{label:<12} {value}")
    for title, texts in (("how to get it", card.get), ("overlaps", card.overlaps), ("faults", card.faults)):
        if texts:
            lines += ["", title, *(f"  - {t}" for t in texts)]
    if card.counts or card.counts_source:
        lines += ["", f"counts ({card.counts_source})" if card.counts_source else "counts"]
        lines += [
            f"  {s or 'all':<18} " + ", ".join(f"{k} {v:,}" for k, v in c.items()) for s, c in card.counts.items()
        ]
    if card.figures:
        lines += ["", "figures of the literature (not measured here)"]
        lines += [f"  {f.value:>7.2f} {f.metric:<20} {f.on:<24} {f.model}  [{f.source}]" for f in card.figures]
    return lines


@app.command("verify")
def verify_copy(
    name: NameArgument,
    root: RootOption = None,
    decode: Annotated[bool, typer.Option("--decode", help="Open every picture too.")] = False,
    split: Annotated[list[str] | None, typer.Option(help="Look at this split only. Repeatable.")] = None,
) -> None:
    """Check a copy on this disk against the card: counts, digests, missing and damaged pictures, splits that share.

    Example: eosin exams verify pathmmu --root data/pathmmu --decode
    """
    from eosin.evaluate.exams.registry import exam_named
    from eosin.evaluate.exams.verify import verify

    exam = exam_named(name)
    found = verify(exam, root, decode=decode, splits=split or ())
    console = _console()
    for (subset, part), number in sorted(found.counts.items()):
        told = found.told.get((subset, part))
        beside = "not told" if told is None else f"{told:,}"
        console.print(f"{subset or '-':<24} {part:<12} {number:>8,} usable   card: {beside}", markup=False)
    for part in found.unread:
        console.print(f"{'':<24} {part:<12} not in this folder", markup=False)
    for line in found.problems:
        console.print(f"- {line}", markup=False)
    if not found.holds:
        for step in exam.card.get:
            console.print(f"to get it: {step}", markup=False)
        raise typer.Exit(1)
    console.print("All that is known of this exam holds.")


@app.command("readings")
def readings(
    exam: Annotated[Path, typer.Argument(help="A finished exam's folder, or its predictions.jsonl.")],
) -> None:
    """Read the replies of a finished exam as the parsers of benchmarks do, beside Eosin's own two readings.

    Example: eosin exams readings evals/model/pathmmu-test-tiny/exam
    """
    from eosin.core.errors import EosinError
    from eosin.core.store.artifacts import read_jsonl
    from eosin.scoring.reading.presets import PRESETS, differences

    path = exam / "predictions.jsonl" if exam.is_dir() else exam
    if not path.is_file():
        raise EosinError("There is no finished exam here.", expected="a folder with predictions.jsonl", where=exam)
    found = differences(read_jsonl(path))
    table = Table(box=None, pad_edge=False)
    for name in ("reading", "n", "accuracy", "unparsed", "judged otherwise than strict"):
        table.add_column(name)
    for name, figures in found.items():
        if figures["accuracy"] is None:
            raise EosinError("This exam has no closed questions.", where=path)
        table.add_row(name, str(figures["n"]), f"{figures['accuracy']:.3f}", f"{figures['unparsed_rate']:.3f}",
                      str(figures["others"]))  # fmt: skip
    _console().print(table)
    for name in found:
        _console().print(f"{name}: {PRESETS[name].note}.", markup=False)


@app.command("export")
def export(
    name: Annotated[str, typer.Argument(help="Listed exam: NAME, NAME/SUBSET or NAME/SPLIT.")],
    to: Annotated[str, typer.Option("--to", help="lmms-eval, vlmevalkit or inspect.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    root: RootOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="A seeded random subset of this size.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Way of asking. Default: the exam's own.")] = None,
) -> None:
    """Write an exam as a task of another harness. Mind its licence: the folder holds its pictures.

    Example: eosin exams export pathmmu/atlas --root data/pathmmu --to lmms-eval --out tasks/atlas
    """
    from eosin.chain.listed import export_exam

    files, kept, dropped = export_exam(name, to, out, root, limit, prompt)
    _console().print(f"{kept} questions for {to}: {', '.join(str(f) for f in files)}", markup=False)
    for reason, number in dropped.items():
        _console().print(f"set aside {number}: {reason}", markup=False)


@app.command("results")
def results(
    exams: Annotated[list[Path], typer.Argument(help="Folders of finished exams.")],
    model: Annotated[str, typer.Option("--model", help="The model's name.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("results.json"),
) -> None:
    """Write finished exams in the form of the Hugging Face hub's model-index.

    Example: eosin exams results evals/model/pathmmu-test-tiny --model my-model --out results.json
    """
    from eosin.core.store.artifacts import write_json
    from eosin.evaluate.exams.export.harnesses import model_index

    write_json(out, model_index(model, exams))
    _console().print(f"written to {out}", markup=False)
