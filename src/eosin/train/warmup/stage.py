"""Warm-up of a tower: classification of the training labels, before any language.

A tower with random weights learns next to nothing through a language model's loss in a short run. Here the tower and
its projector are trained directly: the tokens that the language model reads, taken together, must tell the class
and, where samples carry gold entities, which findings are present. Of an image the mean of its tokens is judged; of
a slide, where a lesion may be a few patches among thousands, every patch is judged and weighed by learned attention
(gated attention of Ilse et al., arXiv 1802.04712, eq. 9, with the class scores taken before the sum). The heads
are thrown away afterwards; a copy stands beside the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample
from eosin.core.settings.stages import WarmupStage
from eosin.core.store import artifacts as store
from eosin.train.monitor import StageBar, StepClock
from eosin.train.muon import muon_of
from eosin.train.stages.base import StageContext, StageResult
from eosin.train.warmup.encoders import VisionEncoder, encoder_of

SHARPNESS = 4.0
PULL = 0.05
"""Weight of `Heads.pull` beside the classes' cross-entropy."""
BETAS = (0.9, 0.98)


@dataclass
class Targets:
    """What the tower learns to tell of N images.

    Attributes:
        labels: class numbers, int64 (N,).
        findings: 1 where a finding is present, float32 (N, K); K may be 0.
        classes, finding_names: what the numbers mean.
    """

    labels: Tensor
    findings: Tensor
    classes: list[str]
    finding_names: list[str]


class Heads(nn.Module):
    """Linear heads on every token; their weighted mean is the verdict.

    Args:
        attends: weights by gated attention; False: the plain mean.
        words: embeddings (classes, D) of the classes in words, or None. With them the score of a class is the negative
            squared distance of the mean token to its words, times `SHARPNESS`: a classifier whose prototypes are
            those of the language model (as in prototypical networks, arXiv 1703.05175, eq. 2, with fixed prototypes).
    """

    words: Tensor | None

    def __init__(
        self, width: int, num_classes: int, num_findings: int, attends: bool = False, words: Tensor | None = None
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classes = nn.Linear(width, num_classes)
        self.register_buffer("words", words)
        self.findings = nn.Linear(width, num_findings)
        self.attends = attends
        if attends:
            self.look, self.gate, self.weigh = nn.Linear(width, 64), nn.Linear(width, 64), nn.Linear(64, 1)

    def forward(self, tokens_BTD: Tensor, is_padding_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, classes) and (B, findings) of tokens (B, T, D)."""
        if not self.attends:
            mean = tokens_BTD.mean(1)
            pooled = self.norm(mean)
            if self.words is None:
                return self.classes(pooled), self.findings(pooled)
            return -SHARPNESS * (mean[:, None] - self.words).square().sum(-1), self.findings(pooled)
        normed = self.norm(tokens_BTD)
        weights = self.weights(normed, is_padding_BT)
        return (weights * self.classes(normed)).sum(1), (weights * self.findings(normed)).sum(1)

    def pull(self, tokens_BTD: Tensor, labels_B: Tensor) -> Tensor:
        """Mean squared distance of every token to the words of its class, so that each is of a word's length."""
        assert self.words is not None
        return (tokens_BTD - self.words[labels_B][:, None]).square().sum(-1).mean()

    def weights(self, normed_BTD: Tensor, is_padding_BT: Tensor) -> Tensor:
        """Attention (B, T, 1) of every token: softmax of w' (tanh(V h) * sigmoid(U h))."""
        scores = self.weigh(torch.tanh(self.look(normed_BTD)) * torch.sigmoid(self.gate(normed_BTD)))
        return scores.masked_fill(is_padding_BT[..., None], -torch.inf).softmax(1)


def targets_of(samples: Sequence[Sample], classes: Sequence[str], finding_names: Sequence[str]) -> Targets:
    """Class numbers and present findings of samples."""
    number = {name: i for i, name in enumerate(classes)}
    present = np.zeros((len(samples), len(finding_names)), dtype=np.float32)
    place = {name: i for i, name in enumerate(finding_names)}
    for row, sample in enumerate(samples):
        for entity in sample.entities:
            if entity.polarity == "present" and entity.name in place:
                present[row, place[entity.name]] = 1.0
    labels = torch.tensor([number[s.label or ""] for s in samples])
    return Targets(labels, torch.from_numpy(present), list(classes), list(finding_names))


def vocabulary(samples: Sequence[Sample], rare: float = 0.02) -> tuple[list[str], list[str]]:
    """Classes, and the findings that neither nearly all nor nearly no samples show."""
    classes = sorted({s.label for s in samples if s.label})
    if len(classes) < 2:
        raise EosinError(
            "A warm-up needs samples of at least two classes.",
            expected="samples with `label`",
            found=", ".join(classes) or "no labels",
            next_step="take the warmup stage out of the recipe, or give the samples labels",
        )
    seen = Counter(n for s in samples for n in {e.name for e in s.entities if e.polarity == "present"})
    bound = rare * len(samples)
    return classes, sorted(n for n, count in seen.items() if bound <= count <= len(samples) - bound)


def run(settings: WarmupStage, ctx: StageContext) -> StageResult:
    """Train the tower; write the whole model as this stage's checkpoint."""
    model = ctx.loaded.model
    train = subset([s for s in ctx.train if s.label and s.images], settings.max_samples, ctx.seed)
    classes, findings = vocabulary(train)
    train, valid = [_one_a_picture(part) for part in (train, [s for s in ctx.valid if s.label in classes and s.images])]
    encoder = encoder_of(settings, ctx, train)
    clock = StepClock()
    pictures = ctx.pictures(settings.image_cache_gib)
    with clock.timing("data"):
        data = [(encoder.load(part, pictures), targets_of(part, classes, findings)) for part in (train, valid)]
    torch.manual_seed(ctx.seed)  # before the heads are drawn, whatever was drawn before this stage
    words = class_words(ctx, classes, encoder) if settings.words else None
    heads = Heads(encoder.width, len(classes), len(findings), attends=encoder.attends, words=words)
    job = Job(settings, ctx, encoder, heads, clock)
    job.train(*data[0], *data[1])
    artifact = ctx.save("checkpoint", model, job.step, replace=True)
    save_file(job.heads.state_dict(), str(ctx.folder / "warmup_head.safetensors"))
    return StageResult(
        checkpoint=artifact,
        num_steps=job.step,
        step_time=clock.split(),
        num_trainable=sum(p.numel() for p in encoder.tower.parameters() if p.requires_grad),
        num_parameters=sum(p.numel() for p in model.parameters()),
        extra={"classes": classes, "findings": findings},
    )


@torch.no_grad()
def class_words(ctx: StageContext, classes: Sequence[str], encoder: VisionEncoder) -> Tensor:
    """Embeddings (classes, D) of the classes in words: the mean over the tokens of each.

    Raises:
        EosinError: a tower whose tokens are weighed, or that gives none for a language model.
    """
    table: Any = ctx.loaded.model.get_input_embeddings()
    if encoder.attends or table.weight.shape[1] != encoder.width:
        raise EosinError(
            "words: true is for pictures whose tokens a language model reads.", where=f"stages.{ctx.name}.words",
            next_step="leave words out",
        )  # fmt: skip
    tokenizer = ctx.loaded.processor.tokenizer  # type: ignore[attr-defined]
    ids = [tokenizer(f" {name}", add_special_tokens=False)["input_ids"] for name in classes]
    return torch.stack([table.weight[torch.tensor(i, device=table.weight.device)].float().mean(0) for i in ids])


def freeze_first(tower: nn.Module, share: float) -> None:
    """Let all of a tower train but the first share of its layers, in the order in which they were built.

    Projectors train whole. What lies first holds the largest pictures, so a backward pass that ends early is cheap.
    """
    tower.requires_grad_(True)
    own = [m for name, m in tower.named_modules() if not _is_projector(name) and any(True for _ in m.parameters(False))]
    for module in own[: int(len(own) * share)]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)


def _is_projector(name: str) -> bool:
    return any(part in ("projector", "merger", "resampler") for part in name.split("."))


def _one_a_picture(samples: Sequence[Sample]) -> list[Sample]:
    """One sample of each picture: several questions about a slide are one slide."""
    seen: dict[Any, Sample] = {}
    for sample in samples:
        seen.setdefault((sample.images[0], sample.label), sample)
    return list(seen.values())


class Job:
    """One warm-up in progress. Everything random is drawn from (seed, epoch), so a resume repeats nothing."""

    def __init__(
        self, settings: WarmupStage, ctx: StageContext, encoder: VisionEncoder, heads: Heads, clock: StepClock
    ) -> None:
        self.settings, self.ctx, self.encoder, self.tower, self.clock = settings, ctx, encoder, encoder.tower, clock
        self.device = ctx.loaded.model.device
        self.heads = heads.to(self.device)
        for name, parameter in heads.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        freeze_first(self.tower, settings.freeze_first)
        self.parameters = [p for p in (*self.tower.parameters(), *heads.parameters()) if p.requires_grad]
        self.optimizer = _optimizer(settings, self.tower, heads)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step = 0
        self.started = time.perf_counter()
        self.bar = StageBar(ctx.name)

    def train(self, images: Any, targets: Targets, valid_images: Any, valid_targets: Targets) -> None:
        """All epochs, from the last whole save if there is one."""
        per_epoch = math.ceil(len(images) / self.settings.batch_size)
        total = self.settings.steps or math.ceil(self.settings.epochs * per_epoch)
        self._resume()
        self.bar.start(total, self.step)
        while self.step < total:
            epoch = self.step // per_epoch
            generator = torch.Generator().manual_seed(1_000_003 * self.ctx.seed + epoch)
            order = balanced_order(targets.labels, generator)
            losses: list[float] = []
            for start in range(0, len(order), self.settings.batch_size):
                if self.step >= total:
                    break
                chosen = order[start : start + self.settings.batch_size]
                with self.clock.timing("data"):
                    batch = self.encoder.augmented(self.encoder.choose(images, chosen), generator)
                with self.clock.timing("step"):
                    losses.append(self._step(batch, targets, chosen, total))
            self._log(losses, valid_images, valid_targets, total)
            self._save()
        self.bar.stop()

    def _step(self, batch: Any, targets: Targets, chosen: Tensor, total: int) -> float:
        self.tower.train()
        share = one_cycle(self.step / total, self.settings.warmup_fraction)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = share * rate
        tokens, is_padding = self.encoder.tokens(batch)
        class_logits, finding_logits = self.heads(tokens, is_padding)
        labels = targets.labels[chosen].to(self.device)
        loss = F.cross_entropy(class_logits, labels, label_smoothing=self.settings.label_smoothing)
        if self.heads.words is not None:
            loss = loss + PULL * self.heads.pull(tokens, labels)
        if finding_logits.shape[1]:
            loss = loss + F.binary_cross_entropy_with_logits(finding_logits, targets.findings[chosen].to(self.device))
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach())

    @torch.no_grad()
    def accuracy(self, images: Any, targets: Targets) -> float:
        """Balanced accuracy of the class head."""
        self.tower.eval()
        parts = [self.encoder.choose(images, p) for p in torch.arange(len(images)).split(128)]
        said = torch.cat([self.heads(*self.encoder.tokens(part))[0].argmax(1).cpu() for part in parts])
        recalls = [float((said[targets.labels == c] == c).float().mean()) for c in targets.labels.unique()]
        return sum(recalls) / len(recalls)

    def _log(self, losses: list[float], valid_images: Any, valid_targets: Targets, total: int) -> None:
        row: dict[str, Any] = {
            "stage": self.ctx.name,
            "step": self.step,
            "seconds": round(time.perf_counter() - self.started, 3),
            "loss": sum(losses) / max(1, len(losses)),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }
        if len(valid_images):
            row["accuracy"] = self.accuracy(valid_images, valid_targets)
        store.append_jsonl(self.ctx.metrics_file, [row])
        self.bar.update(self.step, total, {k: row[k] for k in ("loss", "accuracy") if k in row})

    def _save(self) -> None:
        """One file whole or not at all: weights, heads, and the optimiser's moments."""
        tensors = {f"tower.{n}": p for n, p in self.tower.state_dict().items()}
        tensors |= {f"heads.{n}": p for n, p in self.heads.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors["step"] = torch.tensor(self.step)
        self.ctx.work.mkdir(parents=True, exist_ok=True)
        temporary = self.ctx.work / ".warmup.tmp"
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, str(temporary))
        temporary.replace(self._file)

    @property
    def _file(self) -> Path:
        return self.ctx.work / "warmup.safetensors"

    def _resume(self) -> None:
        if not self._file.exists():
            store.keep_rows(self.ctx.metrics_file, lambda row: False)
            return
        saved = load_file(str(self._file), device=str(self.device))
        self.step = int(saved["step"])
        store.keep_rows(self.ctx.metrics_file, lambda row: row["step"] <= self.step)
        for prefix, module in (("tower.", self.tower), ("heads.", self.heads)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)})
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".", 2)
                state.setdefault(int(number), {})[name] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _optimizer(settings: WarmupStage, tower: nn.Module, heads: nn.Module) -> torch.optim.Optimizer:
    """Muon moves the matrices of the tower; the heads, which end with the stage, and all else are AdamW's."""
    if settings.optimizer == "muon":
        return muon_of(tower, heads, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=BETAS)
    parameters = [p for m in (tower, heads) for p in m.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=BETAS,
    )


def balanced_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """An epoch's order of samples (N,) in which every class is drawn equally often, rare ones more than once."""
    weights = 1.0 / torch.bincount(labels).float()[labels]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def one_cycle(done: float, warmup: float) -> float:
    """Share of the top learning rate after a share `done` of the steps: linear up, then half a cosine down."""
    if done < warmup:
        return max(done, 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1e-9, 1 - warmup)))
