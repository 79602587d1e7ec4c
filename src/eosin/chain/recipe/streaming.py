"""A run whose training samples are streamed: an index over their shards in the place of a list of them.

Held are the samples that exams and the valid split ask, and some training samples, drawn with the seed, for what is
made or tried before the first step: the tokenizer of a new model, baselines, a trial of a batch.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from eosin.chain.data_card import card_of
from eosin.chain.recipe.layout import Layout
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_parquet
from eosin.core.formats.artifact import DROPPED_FILE, dropped_line
from eosin.core.formats.rows import Outcome
from eosin.core.formats.stream.index import BYTES, FILE, Index, open_index, write_index
from eosin.core.formats.stream.order import Order, Part
from eosin.core.formats.stream.reader import Streamed, StreamReader
from eosin.core.formats.stream.scan import ANSWER, CAPTION, SPLIT_BITS, TEST, TRAIN, VALID, Scan, scan, shards_of
from eosin.core.images import RegionReader
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.core.processes import worker_processes
from eosin.core.settings.data import SamplesData
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.stages import PretrainStage, SftStage, StageSettings
from eosin.core.store import artifacts as store
from eosin.curate import Cleaned, clean
from eosin.sources import Card
from eosin.sources.files import kept_inside

console = Console(stderr=True, highlight=False, soft_wrap=True)

SOME = 4096
"""Training samples that are held."""
IN_ONE_PROCESS = 64 * 2**20
"""Shards of fewer bytes are looked at without other processes."""
NOT_LOOKED_FOR = (
    "Training samples are streamed: copies and held-out pictures among them are not looked for. eosin curate "
    "(steps duplicates, leaks) and eosin audit do."
)


def streams(recipe: Recipe) -> bool:
    """Whether a recipe's training samples are streamed."""
    return isinstance(recipe.data, SamplesData) and recipe.data.stream


def problems(recipe: Recipe) -> list[str]:
    """What of a recipe needs all samples at once, where they are streamed."""
    if not streams(recipe):
        return []
    found = []
    if recipe.corrections is not None:
        found.append("corrections: they are compared with all samples; with data.stream, curate them in before the run")
    for name, stage in recipe.stages.items():
        where = f"stages.{name}"
        if not isinstance(stage, PretrainStage | SftStage):
            found.append(
                f"{where}: a {stage.kind} stage holds its samples; only pretrain and sft stages stream. Give it "
                "a recipe of its own, with the checkpoint of this run as its model (docs/scale.md)"
            )
            continue
        asked = {
            "part": stage.part is not None, "max_samples": stage.max_samples is not None,
            "trajectory": isinstance(stage, SftStage) and stage.trajectory is not None,
            "pseudo_bags": isinstance(stage, SftStage) and stage.pseudo_bags is not None,
            "batches": stage.batches == "by_length",
        }  # fmt: skip
        found += [f"{where}.{field}: it is made of all samples, and data.stream holds none (docs/scale.md)"
                  for field, is_asked in asked.items() if is_asked]  # fmt: skip
    return found


def make_stream(recipe: Recipe, at: Layout, read_region: RegionReader | None) -> None:
    """Look at every shard once, and write the index with the held-out samples as the run's samples artifact."""
    assert isinstance(recipe.data, SamplesData)
    reasons: Counter[str] = Counter()
    with store.writing(at.samples, "samples", record={"recipe": recipe.name, "seed": recipe.seed}) as writer:
        with (writer.dir / DROPPED_FILE).open("w", encoding="utf-8", newline="\n") as lines:

            def note(dropped: Sequence[Dropped]) -> None:
                reasons.update(d.reason for d in dropped)
                lines.writelines(dropped_line(d) for d in dropped)

            index = write_index(writer.dir, _scans(recipe.data), note)
            cleaned = _held_out(recipe, index, read_region)
            note(cleaned.dropped)
        for name in ("valid", "test"):
            part = [s for s in cleaned.samples if s.split == name]
            writer.counts[name] = write_parquet(part, writer.dir / f"{name}.parquet")
        writer.counts |= {"train": index.facts["counts"]["train"], "dropped": reasons.total()}
        store.write_json(writer.dir / "card.json", _card(index, cleaned, writer.counts, reasons))
    told = ", ".join(f"{writer.counts[s]} {s}" for s in SPLIT_BITS)
    console.print(
        f"samples: {told} in {len(index.shards)} shards, streamed; {reasons.total()} set aside {dict(reasons) or ''}"
    )
    for warning in (NOT_LOOKED_FOR, *cleaned.warnings):
        console.print(f"[yellow]note:[/yellow] {warning}")


def _scans(settings: SamplesData) -> Iterator[Scan]:
    paths = [str(f) for p in (settings.path, *settings.also) for f in shards_of(Path(p).expanduser())]
    look = partial(scan, keep=partial(_inside, folders=settings.image_folders))
    workers = min(2, os.cpu_count() or 1, len(paths))
    if workers == 1 or sum(Path(p).stat().st_size for p in paths) < IN_ONE_PROCESS:
        yield from map(look, paths)
        return
    with worker_processes(workers, context=get_context("forkserver")) as pool:
        yield from pool.map(look, paths)


def _inside(sample: Sample, file: Path, folders: Sequence[str]) -> Outcome:
    return kept_inside(sample, file.parent, folders)


def _held_out(recipe: Recipe, index: Index, read_region: RegionReader | None) -> Cleaned:
    """The valid and test samples, cleaned among themselves as those of a run that holds all."""
    from eosin.chain.base.pictures import picture_refusals

    reader = StreamReader(index, IN_ONE_PROCESS)
    return clean(
        list(reader.samples(index.rows_with(VALID | TEST))), workers=min(2, os.cpu_count() or 1), seed=recipe.seed,
        read_region=read_region, refuses=picture_refusals(recipe.model),
    )  # fmt: skip


def _card(index: Index, cleaned: Cleaned, counts: dict[str, int], reasons: Counter[str]) -> dict[str, Any]:
    licences = sorted({*index.facts["licences"], *(s.origin.licence for s in cleaned.samples)})
    card = Card(name="+".join(sorted(index.source_names))[:80] or "samples", licence=" / ".join(licences)[:200])
    made = card_of(card, cleaned, (), warnings=(NOT_LOOKED_FOR, *cleaned.warnings))
    labels = index.facts["labels"]
    return made | {
        "counts": {**{s: counts[s] for s in SPLIT_BITS}, "dropped": counts["dropped"]},
        "labels": sorted({*made["labels"], *labels}),
        "label_counts": {**made["label_counts"], "train": labels},
        "drop_reasons": dict(reasons.most_common()), "streamed": True, "shards": len(index.shards),
    }  # fmt: skip


def held(recipe: Recipe, at: Layout, index: Index) -> dict[str, list[Sample]]:
    """Samples by split that a streamed run holds: of train, some."""
    splits: dict[str, list[Sample]] = {name: [] for name in SPLIT_BITS}
    read = read_samples(at.samples)
    for sample in read.kept:
        splits[sample.split or "train"].append(sample)
    splits["train"] = _some(recipe, Part(index))
    return splits


def _some(recipe: Recipe, part: Part) -> list[Sample]:
    reader = StreamReader(part.index, IN_ONE_PROCESS)
    return list(reader.samples(part.some(SOME, recipe.seed)))


def is_streamed(at: Layout) -> bool:
    """Whether the samples of a run's folder are an index."""
    return (at.samples / FILE).is_file()


def opened(at: Layout) -> Index:
    """The index of a run, whose shards were seen to be those that it was made of."""
    index = open_index(at.samples)
    index.check()
    return index


def stage_part(recipe: Recipe, index: Index, name: str) -> Part:
    """The training samples of a stage.

    Raises:
        EosinError: the samples have no such source, or none that this stage can learn.
    """
    stage = recipe.stages[name]
    part = Part(index, TRAIN | need_of(stage), tuple(stage.sources) if stage.sources is not None else None)
    if not len(part):
        raise EosinError(
            "This stage has nothing to train on.", where=f"stages.{name}",
            expected="training samples with a caption and an image" if isinstance(stage, PretrainStage)
            else "training samples with an answer", found=f"{index.facts['counts']['train']:,} without",
        )  # fmt: skip
    return part


def stage_samples(recipe: Recipe, index: Index, name: str) -> tuple[list[Sample], Streamed]:
    """Some of the training samples of a stage, and the stream of all of them."""
    part = stage_part(recipe, index, name)
    assert isinstance(recipe.data, SamplesData)
    window = recipe.data.window_mib * 2**20
    limit = window + int(part.index.blocks[:, BYTES].max(initial=0))
    return _some(recipe, part), Streamed(Order(part, recipe.seed, window), StreamReader(part.index, limit))


def need_of(stage: StageSettings) -> int:
    """What a sample must have for a stage to learn from it."""
    return CAPTION if isinstance(stage, PretrainStage) else ANSWER
