"""`eosin clip zero-shot | few-shot | retrieve | export`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from eosin.cli.exams.listed import RootOption

if TYPE_CHECKING:
    from PIL import Image

    from eosin.core.nouns.outcome import Filtered
    from eosin.core.nouns.sample import Sample

Look = Callable[["Sample", "Image.Image"], None]
CheckpointArgument = Annotated[
    str, typer.Argument(help="Folder (open_clip or transformers), MODEL@WEIGHTS, hf-hub:ORG/NAME, or a known name.")
]
SamplesArgument = Annotated[
    Path, typer.Argument(help="Samples: parquet, jsonl, LLaVA json, a samples folder; or a listed exam.")
]
SplitOption = Annotated[str, typer.Option(help="Split that is asked about; `all` for every sample.")]
OutOption = Annotated[Path | None, typer.Option(help="Folder for figures and predictions. Default: print only.")]
BatchOption = Annotated[int, typer.Option(min=1, help="Pictures embedded together.")]


def zero_shot(
    checkpoint: CheckpointArgument,
    samples: SamplesArgument,
    prompts: Annotated[Path | None, typer.Option(help="YAML: classes: {label: [wordings]}, templates: [...].")] = None,
    top_k: Annotated[str, typer.Option(help="Also classify whole slides by their best k tiles, such as 1,5,50.")] = "",
    split: SplitOption = "test",
    root: RootOption = None,
    out: OutOption = None,
    batch_size: BatchOption = 64,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Classify images by words: balanced accuracy with intervals by case, and a row a class.

    Example: eosin clip zero-shot runs/patho-clip-demo/stages/clip/checkpoint runs/patho-clip-demo/samples
    """
    free(out)
    read_once = read(samples, root)
    clip, seen = prepared(checkpoint, read_once, split, batch_size)
    from eosin.evaluate.clip.baselines import beside_zero_shot
    from eosin.evaluate.clip.prompts import ClassPrompts
    from eosin.evaluate.clip.zero_shot import slide_zero_shot
    from eosin.evaluate.clip.zero_shot import zero_shot as run

    chosen = ClassPrompts.of(sorted({s.label for s in seen.samples if s.label}), file=prompts)
    found = run(clip, seen, chosen, seed)
    taught = [] if split in ("all", "train") else [s for s in read_once.kept if s.split == "train"]
    beside = beside_zero_shot(
        taught, seen.samples, found.rows, list(chosen.words),
        seed=seed, tell=Console(stderr=True).print,
    )  # fmt: skip
    summary: dict[str, Any] = {"zero_shot": {**found.summary, **beside}, "prompts": chosen.as_json()}
    if top_k:
        summary["slides"] = slide_zero_shot(clip, seen, chosen, numbers(top_k, "--top-k"), seed)
    tell(summary, seen)
    for row in found.summary["classes"]:
        recall = "none" if row["recall"] is None else f"{row['recall']:.3f}"
        Console().print(f"  {row['name']}: n {row['n']}, recall {recall}, F1 {row['f1']:.3f}", markup=False)
    for name, one in summary.get("slides", {}).get("by_k", {}).items():
        Console().print(
            f"  slides, {name}: balanced accuracy {one['balanced_accuracy']:.3f}, n {one['n']}", markup=False
        )
    save(out, summary, found.rows, seen)


def few_shot(
    checkpoint: CheckpointArgument,
    samples: SamplesArgument,
    shots: Annotated[str, typer.Option(help="Samples a class.")] = "2,8,16,32,64,128",
    subsets: Annotated[int, typer.Option(min=1, help="Random subsets of each size.")] = 10,
    seed: Annotated[int, typer.Option(help="Subset i is drawn with seed + i.")] = 42,
    train_split: Annotated[str, typer.Option(help="Split that is learned from.")] = "train",
    encoder: Annotated[
        str | None, typer.Option(help="A frozen patch encoder beside it, with the colour histogram.")
    ] = None,
    split: SplitOption = "test",
    root: RootOption = None,
    out: OutOption = None,
    batch_size: BatchOption = 64,
) -> None:
    """Logistic regression on frozen features of few samples a class, beside the colour histogram.

    The protocol is Patho-CLIP's (arXiv 2505.11404).

    Example: eosin clip few-shot plip runs/mine/samples --shots 2,8,16,32,64,128 --subsets 10
    """
    from eosin.core.settings.clip import FewShot
    from eosin.core.settings.recipe import check_settings

    settings = check_settings(
        FewShot, {"shots": numbers(shots, "--shots"), "num_subsets": subsets, "seed": seed}, "few-shot"
    )
    free(out)
    read_once = read(samples, root)
    _apart(read_once, train_split, split)
    from eosin.evaluate.clip.beside import Beside

    beside = Beside(encoder)
    clip, seen = prepared(checkpoint, read_once, split, batch_size, beside)
    _, known = prepared(clip, read_once, train_split, batch_size, beside)
    from eosin.evaluate.clip.exam import labelled
    from eosin.evaluate.clip.few_shot import few_shot as run

    seen, known = labelled(seen), labelled(known)
    found = run(
        beside.features(known), [str(s.label) for s in known.samples], beside.features(seen),
        [str(s.label) for s in seen.samples], settings,
    )  # fmt: skip
    tell({"few_shot": found}, seen)
    save(out, {"few_shot": found}, (), seen)


def _apart(found: Filtered[Sample], train_split: str, split: str) -> None:
    """Refuse to learn from what is asked: samples without a split would stand in both.

    Raises:
        EosinError: samples that are both learned from and asked.
    """
    from eosin.core.errors import EosinError

    both = [s.id for s in found.kept if _is_in(s, train_split) and _is_in(s, split)]
    if both:
        raise EosinError(
            "Few-shot would learn from samples that it is asked about.",
            expected=f"splits of the samples, {train_split} and {split} apart",
            found=f"{len(both)} of {len(found.kept)} samples in both, such as {both[0]}", where="--train-split",
            next_step="give the samples a split (column `split`), whole cases only, or name two splits that they have",
        )  # fmt: skip


def _is_in(sample: Sample, split: str) -> bool:
    """Whether a sample belongs to a split; one without a split belongs to every one."""
    return split == "all" or sample.split in (split, None)


def retrieve(
    checkpoint: CheckpointArgument,
    samples: SamplesArgument,
    split: SplitOption = "test",
    root: RootOption = None,
    out: OutOption = None,
    batch_size: BatchOption = 64,
) -> None:
    """Captions by picture and pictures by caption: R@1/5/10/20 and the median rank.

    Example: eosin clip retrieve quiltnet-b-32 runs/mine/samples --split test
    """
    free(out)
    clip, seen = prepared(checkpoint, read(samples, root), split, batch_size)
    from eosin.evaluate.clip.retrieval import retrieval

    found = retrieval(clip, seen)
    tell({"retrieval": found}, seen)
    save(out, {"retrieval": found}, (), seen)


def export(
    checkpoint: CheckpointArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    form: Annotated[str, typer.Option(help="open_clip or transformers.")] = "transformers",
) -> None:
    """Write a CLIP model in open_clip's or transformers' form; embeddings stay the same.

    Example: eosin clip export runs/mine/stages/clip/checkpoint for-transformers --form transformers
    """
    from eosin.core.errors import EosinError

    if form not in ("open_clip", "transformers"):
        raise EosinError("There is no such form.", expected="open_clip or transformers", found=form, where="--form")
    clip = loaded(checkpoint)
    from eosin.models.clip.load import save_clip

    save_clip(clip, out, form=form)  # type: ignore[arg-type]
    Console().print(f"written to {out}", markup=False)


# ---- what the verbs share ------------------------------------------------------------------------------------------


def loaded(checkpoint: str) -> Any:
    """The model, with one word to the user where packages are missing."""
    from eosin.cli.training.run import need

    need("torch")
    from eosin.models.clip.load import load_clip
    from eosin.models.load import quiet

    quiet()
    return load_clip(checkpoint)


def read(samples: Path, root: Path | None = None) -> Filtered[Sample]:
    """Samples from disk, or the questions of a listed exam; an error where none can be read."""
    from eosin.chain.listed import part_of

    return part_of(str(samples), root, None, 0).read()


def prepared(
    checkpoint: Any, found: Filtered[Sample], split: str, batch_size: int, look: Look | None = None
) -> tuple[Any, Any]:
    """The model, and the embedded samples of a split.

    Args:
        checkpoint: a name, or a model that is loaded already.
        look: called with each sample and its picture, from the same reading.
    """
    from eosin.core.errors import EosinError

    clip = loaded(checkpoint) if isinstance(checkpoint, str) else checkpoint
    from eosin.evaluate.clip.embed import embed_samples
    from eosin.slides.features.regions import SlideRegions

    chosen = [s for s in found.kept if _is_in(s, split)]
    if not chosen:
        known = ", ".join(sorted({str(s.split) for s in found.kept}))
        raise EosinError(f"There are no samples in the split {split}.", found=known, next_step="choose one, or all")
    return clip, embed_samples(clip, chosen, SlideRegions(), batch_size=batch_size, look=look)


def numbers(text: str, where: str) -> list[int]:
    """ "1,5,10" as whole numbers."""
    from eosin.core.errors import EosinError

    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise EosinError("These are no whole numbers.", expected="such as 1,5,10", found=text, where=where) from None


def tell(summary: dict[str, Any], seen: Any) -> None:
    """Figures in a few lines, and what was set aside."""
    from eosin.core.nouns.outcome import Filtered
    from eosin.report.sections.clip import clip_lines

    console = Console(highlight=False, soft_wrap=True, markup=False)
    for line in clip_lines({**summary, "dropped": Filtered((), seen.dropped).reasons()}):
        console.print(line)
    console.print("Research use only, not for diagnosis.")


def free(out: Path | None) -> None:
    """Refuse a place that is taken before anything is embedded, not after it.

    Raises:
        EosinError: something stands there.
    """
    if out is not None and out.exists():
        from eosin.core.errors import EosinError

        raise EosinError("There is something at this place already, and Eosin never overwrites.", where=out,
                         next_step="choose another --out, or move the old folder away")  # fmt: skip


def save(out: Path | None, summary: dict[str, Any], rows: Sequence[dict[str, Any]], seen: Any) -> None:
    """Figures, predictions and what was set aside, as one artifact."""
    if out is None:
        return
    from eosin.evaluate.clip.exam import write_exam

    write_exam(out, summary, rows, seen)
    Console().print(f"written to {out}", markup=False)
