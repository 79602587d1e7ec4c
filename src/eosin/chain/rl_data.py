"""`eosin rl-data`: a checkpoint's pass rate on every question, from samples on disk to a table on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosin.chain.exam import grammar_of
from eosin.chain.recipe.data import print_warnings
from eosin.core.errors import EosinError, disk_errors
from eosin.core.formats import read_samples
from eosin.core.formats.options import option_notes
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.store import artifacts as store
from eosin.core.store.lock import lock_beside, locked
from eosin.engines.base import Decoding

if TYPE_CHECKING:
    from eosin.engines.group_sampler import SamplesGroups
    from eosin.scoring.sets.by_source import Rewards

MakeRewards = Callable[[Grammar], "Rewards"]


@dataclass(frozen=True)
class RateSettings:
    """What a table of pass rates depends on, beside model, samples and rewards.

    Attributes:
        num: replies a question.
        temperature, max_new_tokens: as the RL stage will sample.
        batch_size: completions drawn together.
        split: which split is measured, where samples name one.
        max_samples: a seeded random subset of this size; None measures all.
    """

    num: int = 8
    temperature: float = 1.0
    max_new_tokens: int = 256
    batch_size: int = 64
    split: str = "train"
    max_samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num", 2), ("max_new_tokens", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise EosinError(f"{name} must be at least {least}.", found=str(getattr(self, name)))
        if not self.temperature > 0:
            raise EosinError(
                "Pass rates come from sampled replies.", expected="a temperature above 0", found=str(self.temperature)
            )


def measure(
    model: str,
    samples_path: Path,
    out: Path,
    make_rewards: MakeRewards,
    settings: RateSettings,
    grammar_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    load_sampler: Callable[[str], SamplesGroups] | None = None,
) -> dict[str, Any]:
    """Measure every question of a split and write the artifact `out`: rates.parquet, rates.jsonl, dropped.jsonl and
    summary.json. Rows gather in a hidden folder beside `out`; the same call goes on from them after a kill.

    Args:
        make_rewards: the reward set of a grammar, for reward_mean and reward_std.
        load_sampler: loads the model; by default with transformers, reading each prompt once where the model allows.

    Returns:
        summary.json. Where `out` holds this very measurement already, its summary, with nothing done.
    """
    from eosin.core.draw import subset
    from eosin.evaluate.exam.entry import pick_split
    from eosin.slides.features.regions import SlideRegions
    from eosin.train.rl.difficulty import KIND, Measurement

    grammar, instruction = grammar_of(model, grammar_name)
    rewards = make_rewards(grammar)
    read = read_samples(samples_path)
    if not read.kept:
        raise EosinError("No sample could be read.", found=str(read.reasons()), where=samples_path)
    print_warnings(option_notes(read.kept))
    samples = subset(pick_split(read.kept, settings.split), settings.max_samples, settings.seed)
    record = {
        "model": _model_digest(model), "samples": str(samples_path),
        "grammar": grammar.name if grammar.think_style == "plain" else f"{grammar.name}, {grammar.think_style}",
        "instruction": instruction, "rewards": rewards.described(), **dataclasses.asdict(settings),
    }  # fmt: skip
    key = _key(samples, record)
    work = out.with_name(f".{out.name}.work")
    with locked(lock_beside(out)):
        if store.exists(out) and store.open_artifact(out, KIND).manifest.get("key") == key:
            shutil.rmtree(work, ignore_errors=True)  # left by a kill in the last moment
            return dict(store.read_object(out / "summary.json"))
        _refuse_taken(out)
        with disk_errors(work):
            work.mkdir(parents=True, exist_ok=True)
        sampler = (load_sampler or load_groups)(model)
        decoding = Decoding(
            max_new_tokens=settings.max_new_tokens, temperature=settings.temperature,
            batch_size=settings.batch_size, seed=settings.seed,
        )  # fmt: skip
        measured = Measurement(
            sampler, grammar, settings.num, decoding, rewards, work / f"{key[:16]}.jsonl",
            instruction=instruction, progress=progress, read_region=SlideRegions(),
        ).run(samples)  # fmt: skip
        parents = (store.open_artifact(Path(model)),) if store.exists(Path(model)) else ()
        record["engine"] = sampler.name
        summary = _write(out, measured, read.dropped, samples, settings.num, record, key, parents)
    shutil.rmtree(work, ignore_errors=True)
    return summary


def load_groups(model: str) -> SamplesGroups:
    """The model with transformers; image and prompt are read once a question where it allows that."""
    from eosin.engines.group_sampler import groups_of
    from eosin.models.load import load, quiet

    quiet()
    return groups_of(load(model))


def _refuse_taken(out: Path) -> None:
    if out.exists():
        raise EosinError(
            "There is something at this place already, and Eosin never overwrites.",
            found="pass rates of another model, other samples or other settings" if store.exists(out) else None,
            where=out,
            next_step="choose another --out, or move the old folder away",
        )


def _model_digest(model: str) -> str:
    """The checkpoint's digest, so that other weights under the same path are not mixed; a hub name as it is."""
    return store.open_artifact(Path(model)).digest if store.exists(Path(model)) else model


def _key(samples: Sequence[Sample], record: dict[str, Any]) -> str:
    """Digest of all that the rows depend on."""
    fixed = {k: v for k, v in record.items() if k != "samples"}
    total = hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode())
    for sample in samples:
        total.update(hashlib.sha256(sample.model_dump_json().encode()).digest())
    return total.hexdigest()


def _write(
    out: Path,
    measured: Filtered[dict[str, Any]],
    unread: Sequence[Dropped],
    samples: Sequence[Sample],
    num: int,
    record: dict[str, Any],
    key: str,
    parents: Sequence[store.Artifact],
) -> dict[str, Any]:
    from eosin.curate import write_dropped
    from eosin.train.rl.difficulty import KIND, summarise_rates, write_rates

    whole = Filtered(measured.kept, (*unread, *measured.dropped))
    summary = summarise_rates(whole, num) | {"mean_pass_rate_ci95": _interval(measured, samples)}
    with store.writing(out, KIND, parents=parents, record=record) as writer:
        write_rates(measured.kept, writer.dir)
        write_dropped(writer.dir / "dropped.jsonl", whole.dropped)
        store.write_json(writer.dir / "summary.json", summary)
        writer.counts |= {"questions": len(measured.kept), "dropped": len(whole.dropped)}
        writer.facts["key"] = key
    return summary


def _interval(measured: Filtered[dict[str, Any]], samples: Sequence[Sample]) -> list[float] | None:
    """95 % interval of the share of right replies, by bootstrap over patients (or what is known instead)."""
    from eosin.evaluate.exam.items import group_of
    from eosin.evaluate.statistics.intervals import cluster_interval

    groups = {s.id: group_of(s) for s in samples}
    right: list[bool] = []
    clusters: list[str] = []
    for row in measured.kept:
        right += [i < row["num_right"] for i in range(row["num_scored"])]
        clusters += [groups[row["id"]]] * row["num_scored"]
    return cluster_interval(right, clusters).pair if right else None
