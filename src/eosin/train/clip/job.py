"""One contrastive training in progress. Everything random follows from (seed, step), so a resume repeats nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eosin.core import stopping
from eosin.core.images import RegionReader
from eosin.core.nouns.sample import Sample
from eosin.core.ranks import num_ranks, rank
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.recipe import check_settings
from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import Artifact
from eosin.models.clip.clip import Clip
from eosin.models.clip.ranks import ranks_both_ways, recalls_at
from eosin.train.clip.augment import augment_pairs
from eosin.train.clip.losses import LOSSES, MAX_SCALE
from eosin.train.clip.pairs import Pairs, Pictures, batch_of, caption_key
from eosin.train.clip.step import Tower, backward, half, sum_gradients
from eosin.train.clip.weights import load_state, optimizer_of, save_state
from eosin.train.data.augment import AugmentSettings, rng_of
from eosin.train.monitor import StageBar, StepClock
from eosin.train.stages.stop import agreed
from eosin.train.warmup.stage import one_cycle

SAVES_A_STAGE = 6
# A crop could cut off what the caption speaks of: none unless the recipe asks for it.
GENTLE = {"crop": 0.0, "rotate": 0.0}


@dataclass(frozen=True)
class ClipContext:
    """All that a clip stage is given.

    Attributes:
        folder: the stage's own; `work/` in it holds what a resumed stage needs.
        clip: the model to start from. is_new: whether its weights are.
        train, valid: samples of the two splits.
    """

    name: str
    folder: Path
    clip: Clip
    is_new: bool
    train: Sequence[Sample]
    valid: Sequence[Sample]
    seed: int
    parents: tuple[Artifact, ...] = ()
    read_region: RegionReader | None = None

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"


class Job:
    """The steps of a stage.

    Args:
        pairs, valid: of the two splits; `valid` may be empty.
    """

    def __init__(
        self, settings: ClipStage, ctx: ClipContext, pairs: Pairs, valid: Pairs, pictures: Pictures, clock: StepClock
    ) -> None:
        self.settings, self.ctx, self.pairs, self.valid = settings, ctx, pairs, valid
        self.clip, self.pictures, self.clock = ctx.clip, pictures, clock
        self.trained = [p for p in self.clip.network.parameters() if p.requires_grad]
        self.optimizer = optimizer_of(self.clip, settings)
        self.augment = None
        if settings.augment:
            self.augment = check_settings(AugmentSettings, {**GENTLE, **settings.options}, f"stages.{ctx.name}.options")
        self.batch = settings.batch_size * num_ranks()
        self.total = settings.steps or max(1, math.ceil(settings.epochs * (len(pairs) // self.batch)))
        self.step, self.best = 0, -math.inf
        self.started = time.perf_counter()
        self.bar = StageBar(ctx.name)

    def train(self) -> None:
        """All steps, from the last whole save if there is one."""
        self._resume()
        self.bar.start(self.total, self.step)
        with stopping.saves_first():
            self._steps()
        self.bar.stop()

    def _steps(self) -> None:
        losses: list[float] = []
        while self.step < self.total:
            with self.clock.timing("data"):
                chosen, pixels = self._next()
            with self.clock.timing("step"):
                losses.append(self.one(chosen, pixels))
            self.step += 1
            is_valid = self._every(self.settings.valid_every or max(1, math.ceil(self.total / SAVES_A_STAGE)))
            if is_valid or self._every(self.settings.log_every):
                self._log(losses, is_valid)
                losses = []
            ends = agreed(stopping.is_asked())[0]
            if is_valid or ends or self._every(self.settings.save_every):
                self._save()
            if ends:
                return

    def _every(self, steps: int) -> bool:
        return self.step % steps == 0 or self.step == self.total

    def _next(self) -> tuple[Tensor, Tensor]:
        """The pairs of all processes, and the pictures of this one."""
        chosen, epoch = batch_of(len(self.pairs), self.batch, self.step, self.ctx.seed)
        own = self._own(chosen)
        samples = [self.pairs.samples[int(i)] for i in own]
        pixels = self.pictures.stack(samples)
        if self.augment is not None:
            rngs = [rng_of(self.ctx.seed, epoch, s.id) for s in samples]
            pixels = augment_pairs(pixels, [s.caption or "" for s in samples], self.augment, rngs)
        return chosen, pixels

    def _own(self, chosen: Tensor) -> Tensor:
        size = self.settings.batch_size
        return chosen[rank() * size : (rank() + 1) * size]

    def one(self, chosen: Tensor, pixels: Tensor) -> float:
        """One optimiser step on these pairs; the loss of all processes."""
        network, settings = self.clip.network, self.settings
        self._to_training()
        rate = one_cycle(self.step / self.total, settings.warmup_fraction) * settings.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed((self.ctx.seed * 1_000_003 + self.step) * 1009 + rank())  # dropout, the same after a resume
        relations = self.pairs.relations(
            chosen, equal_is_right=settings.equal_captions == "positives",
            groups_compete=settings.negatives == "all",
        )  # fmt: skip
        value = backward(
            self._tower("vision", pixels), self._tower("language", self.pairs.ids[self._own(chosen)]), relations,
            LOSSES[settings.loss], network.logit_scale, network.logit_bias, rank(),
        )  # fmt: skip
        sum_gradients(self.trained)
        nn.utils.clip_grad_norm_(self.trained, settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            network.logit_scale.clamp_(0, math.log(MAX_SCALE))
        return float(value)

    def _tower(self, part: str, inputs: Tensor) -> Tower:
        encode = self.clip.images if part == "vision" else self.clip.texts
        size = self.settings.chunk_size or len(inputs)

        def embed(chunk: Tensor) -> Tensor:
            with half(self.clip.device, self.settings.precision):
                return encode(chunk)

        trains = part not in self.settings.freeze
        return Tower(embed, inputs.split(size), trains)

    def _to_training(self) -> None:
        """Training mode; locked towers and, where asked, batch norms keep their statistics."""
        network = self.clip.network
        network.train()
        if self.settings.batch_norm == "frozen":
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        if "vision" in self.settings.freeze:
            network.visual.eval()

    def recall(self) -> dict[str, float]:
        """R@1, R@5 and their kin on the valid pairs, mean of both ways."""
        pixels = [self.pictures.stack(self.valid.samples[i : i + 128]) for i in range(0, len(self.valid), 128)]
        self.clip.network.eval()
        with torch.inference_mode(), half(self.clip.device, self.settings.precision):
            seen = torch.cat([self.clip.images(part).cpu() for part in pixels]).numpy()
            said = torch.cat([self.clip.texts(part).cpu() for part in self.valid.ids.split(256)]).numpy()
        found = ranks_both_ways(seen, said, [caption_key(s.caption or "") for s in self.valid.samples])
        ways = [recalls_at(r) for r in (found.captions, found.pictures)]
        return {key: (ways[0][key] + ways[1][key]) / 2 for key in ways[0]}

    def _log(self, losses: list[float], is_valid: bool) -> None:
        row: dict[str, Any] = {
            "stage": self.ctx.name,
            "step": self.step,
            "seconds": round(time.perf_counter() - self.started, 3),
            "loss": sum(losses) / max(1, len(losses)),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "temperature": math.exp(-self.clip.network.logit_scale.item()),
        }
        if is_valid and len(self.valid):
            row |= {f"valid_{k.replace('@', '')}": v for k, v in self.recall().items()}
            if self.settings.keep == "best" and row["valid_mean_recall"] > self.best:
                self.best = row["valid_mean_recall"]
                if rank() == 0:
                    save_state(self.ctx.work / "best.safetensors", self.clip, None, self.step, self.best)
        if rank() == 0:
            store.append_jsonl(self.ctx.metrics_file, [row])
        self.bar.update(self.step, self.total, {k: row[k] for k in ("loss", "valid_r5") if k in row})

    def settle(self) -> int:
        """Put the weights that stay into the model; the step that they are of."""
        best = self.ctx.work / "best.safetensors"
        if self.settings.keep == "best" and best.exists():
            return load_state(best, self.clip, None)[0]
        return self.step

    @property
    def _file(self) -> Path:
        return self.ctx.work / "clip.safetensors"

    def _save(self) -> None:
        if rank() == 0:
            save_state(self._file, self.clip, self.optimizer, self.step, self.best)

    def _resume(self) -> None:
        if self._file.exists():
            self.step, self.best = load_state(self._file, self.clip, self.optimizer)
        if rank() == 0:
            store.keep_rows(self.ctx.metrics_file, lambda row: row["step"] <= self.step)
