"""Sampled rollouts on disk: whole groups with their images, every reward term, the advantage of each reply, and
whether the group was trained on."""

from __future__ import annotations

import hashlib
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.images import Picture
from eosin.core.nouns.bags import PatchBag
from eosin.core.store import artifacts as store
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.sets.compose import Outcome

# What became of a group: it was trained on; its replies all earned the same and it was replaced by another prompt;
# it had variance, but the batch was full; it had none and was trained on all the same, as no more batches were allowed.
Fate = Literal["kept", "no variance", "not needed", "kept without variance"]

THUMBNAIL_PX = 224
IMAGES = Path("rollouts") / "images"


@dataclass
class RolloutWriter:
    """Writes groups of scored completions to rollouts.jsonl, and small copies of their images beside it.

    Every row names the optimiser step that its batch was generated for (from 1, as in metrics.jsonl) and the place of
    its group among those scored for that step. Which groups are written follows from these two alone, so that a
    resumed stage writes the same ones: about one in `keep_every`, at other places in each step.

    Attributes:
        step: tells how many steps the trainer has done.
        keep_every: write every n-th group.
        pictures: gives the images of a sample by its id; None writes no images.
        waits: rows wait until `decided` says what became of their groups; else they are written when scored, with the
            advantage of plain GRPO.
        writes: False on every process but the first; the groups of that one stand for all.
    """

    path: Path
    stage: str
    num_generations: int
    keep_every: int
    step: Callable[[], int]
    pictures: Callable[[str], Sequence[Picture]] | None = None
    waits: bool = False
    writes: bool = True
    _waiting: list[list[dict[str, Any]]] = field(default_factory=list, init=False)
    _at_step: int = field(default=-1, init=False)
    _groups_seen: int = field(default=0, init=False)
    _groups_a_step: int = field(default=1, init=False)

    def __call__(self, items: list[ScoreItem], outcomes: list[Outcome]) -> None:
        """Take in scored completions, whole groups one after another."""
        step = self.step()
        size = self.num_generations
        if step != self._at_step:
            self._at_step, self._groups_seen, self._groups_a_step = step, 0, max(1, len(items) // size)
        rows = [self._row(item, outcome, step + 1) for item, outcome in zip(items, outcomes, strict=True)]
        for start in range(0, len(rows), size):
            self._waiting.append([{**r, "group": self._groups_seen} for r in rows[start : start + size]])
            self._groups_seen += 1
        if not self.waits:
            for group in self._waiting:
                self._write(with_advantage(group))
            self._waiting.clear()

    def decided(
        self,
        fates: Sequence[Fate],
        advantages: Sequence[float | None],
        in_loss: Sequence[bool] | None = None,
    ) -> None:
        """Say what became of all groups scored since the last call, in the order in which they were scored.

        Args:
            fates: one a group.
            advantages: one a completion; None where the completion is in no batch.
            in_loss: one a completion: whether any of its tokens carries loss. By default all that are in the batch.
        """
        size = self.num_generations
        if len(fates) != len(self._waiting) or len(advantages) != size * len(fates):
            raise ValueError(f"{len(self._waiting)} groups wait; told of {len(fates)}, {len(advantages)} completions")
        for i, (group, fate) in enumerate(zip(self._waiting, fates, strict=True)):
            for j, row in enumerate(group, i * size):
                advantage = advantages[j]
                row["advantage"] = None if advantage is None else float(advantage)
                row["fate"] = fate
                row["in_loss"] = advantage is not None and (in_loss is None or bool(in_loss[j]))
            self._write(group)
        self._waiting.clear()

    def _write(self, group: list[dict[str, Any]]) -> None:
        place = self._at_step * self._groups_a_step + group[0]["group"]
        if place % self.keep_every or not self.writes:
            return
        images = self._thumbnails(group[0]["sample_id"])
        store.append_jsonl(self.path, [{**row, "images": images} for row in group])

    def _thumbnails(self, sample_id: str) -> list[str]:
        """Paths of the sample's small images, relative to the folder of rollouts.jsonl; each is written once."""
        if self.pictures is None:
            return []
        try:
            pictures = self.pictures(sample_id)
        except ImageError:
            return []
        stem = hashlib.sha256(sample_id.encode()).hexdigest()[:16]
        names = [(IMAGES / f"{stem}-{i}.jpg").as_posix() for i in range(len(pictures))]
        for name, picture in zip(names, pictures, strict=True):
            target = self.path.parent / name
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                store.write_bytes_atomic(target, thumbnail(picture))
        return names

    def _row(self, item: ScoreItem, outcome: Outcome, step: int) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "step": step,
            "sample_id": item.id,
            "source": item.source,
            "question": item.question,
            "answer": item.answer,
            "answer_text": item.answer_text,
            "reply": item.reply,
            "reward": outcome.total,
            "terms": dict(outcome.terms),
            "unscored": dict(outcome.unscored),
            "num_tokens": item.num_tokens,
            "truncated": item.truncated,
        }


def verdicts(
    scored: Sequence[object],
    chosen: Sequence[object],
    has_variance: Sequence[bool],
    advantages: Sequence[float],
    num_generations: int,
) -> tuple[list[Fate], list[float | None]]:
    """What `RolloutWriter.decided` is told, from groups as objects.

    Args:
        scored: all groups in the order in which they were scored.
        chosen: those that make the batch, in its order.
        has_variance: one a scored group.
        advantages: one a completion of the batch, in its order.

    Returns:
        One fate a scored group, and one advantage a scored completion: None where it is in no batch.
    """
    places = {id(g): i for i, g in enumerate(chosen)}
    fates: list[Fate] = []
    found: list[float | None] = []
    for group, varied in zip(scored, has_variance, strict=True):
        place = places.get(id(group))
        if place is None:
            fates.append("not needed" if varied else "no variance")
            found += [None] * num_generations
        else:
            fates.append("kept" if varied else "kept without variance")
            found += [float(a) for a in advantages[place * num_generations : (place + 1) * num_generations]]
    return fates, found


def thumbnail(picture: Picture) -> bytes:
    """A JPEG of at most 224 px a side; of a bag of patches its map."""
    small = bag_map(picture) if isinstance(picture, PatchBag) else picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()


def bag_map(bag: PatchBag, cell_px: int = 6) -> Image.Image:
    """Patches at their places, coloured by the first three principal components of their features in this bag."""
    centred = bag.features - bag.features.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:3]
    values = np.zeros((len(bag), 3))
    values[:, : len(directions)] = centred @ directions.T
    spread = values.std(axis=0) + 1e-9
    colours = np.clip(128 + 60 * values / spread, 0, 255).astype(np.uint8)
    cells = np.round((bag.centres_um - bag.centres_um.min(axis=0)) / bag.tile_um).astype(int)
    width, height = np.minimum(cells.max(axis=0) + 1, THUMBNAIL_PX)
    canvas = np.full((height, width, 3), 255, np.uint8)
    inside = (cells[:, 0] < width) & (cells[:, 1] < height)
    canvas[cells[inside, 1], cells[inside, 0]] = colours[inside]
    scale = max(1, min(cell_px, THUMBNAIL_PX // max(width, height)))
    return Image.fromarray(canvas).resize((int(width) * scale, int(height) * scale), Image.Resampling.NEAREST)


def with_advantage(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add A_i = (r_i - mean(r)) / (std(r) + 1e-4) to the replies of one group, as TRL computes it (sample std)."""
    totals = [r["reward"] for r in group if r["reward"] is not None]
    mean = statistics.fmean(totals) if totals else 0.0
    std = statistics.stdev(totals) if len(totals) > 1 else 0.0
    return [{**r, "advantage": None if r["reward"] is None else (r["reward"] - mean) / (std + 1e-4)} for r in group]
