"""Puts instances to an engine in batches and grades the replies, going on where an earlier run stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import Picture, RegionReader, load_encoded, load_picture
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.classes import Classes
from eosin.core.nouns.prompt import prompt_messages, without_images
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, Sample
from eosin.core.settings.exam import InputPolicy
from eosin.engines.base import Decoding, Engine, Generation, Request, StreamingEngine
from eosin.evaluate.exam.ahead import worked_ahead
from eosin.evaluate.exam.grading import grade
from eosin.evaluate.exam.policy import fit, shown_images
from eosin.evaluate.exam.token_probabilities import token_probabilities
from eosin.evaluate.exam.work import Work

Progress = Callable[[str, int, int], None]
BLANK_RGB = (128, 128, 128)
NO_REPLY = "no reply"
"""How the reason begins where an item was asked and the engine gave no reply."""


@dataclass(frozen=True)
class Instance:
    """One question as it is put.

    Attributes:
        sample: what is asked and graded.
        images: the images shown.
        show: the images themselves; mid-grey images of their sizes (RGB 128: neither glass nor tissue; of a bag of
            patches the same places, every feature 0); noise of their sizes (every value of every pixel drawn anew; of a
            bag, features drawn with its mean and spread); or none, with their places taken out of the prompt.
        facts: further columns of the row.
        begun: how the reply begins; the model goes on from there.
        scores: whether the likely tokens of the reply are asked for; the row then holds the options' probabilities.
    """

    sample: Sample
    images: tuple[ImageRef, ...]
    show: Literal["image", "blank", "noise", "nothing"] = "image"
    facts: Mapping[str, Any] = field(default_factory=dict)
    begun: str = ""
    scores: bool = False

    @classmethod
    def plain(cls, sample: Sample, *, scores: bool = False) -> Instance:
        """The sample as it is."""
        return cls(sample, sample.images, scores=scores)


@dataclass(frozen=True)
class Evaluator:
    """An exam's constant parts. `run` runs one phase of it."""

    engine: Engine
    grammar: Grammar
    classes: Classes
    decoding: Decoding
    work: Work
    instruction: bool = True
    read_region: RegionReader | None = None
    progress: Progress | None = None
    policy: InputPolicy = InputPolicy()

    def run(self, phase: str, instances: Sequence[Instance], decoding: Decoding | None = None) -> list[dict[str, Any]]:
        """Rows of all instances, in their order. Finished rows are read from the work folder, not asked again.

        An instance whose image cannot be used, or that gets no reply, gives a row with `set_aside` (the reason) and
        no score.
        """
        decoding = decoding or self.decoding
        rows = {r["id"]: r for r in self.work.load(phase)}
        if isinstance(self.engine, StreamingEngine):
            self._in_a_stream(self.engine, phase, instances, _seeded(decoding, phase, 0), rows)
            return [rows[t.sample.id] for t in instances]
        size = decoding.batch_size
        for start in range(0, len(instances), size):
            batch = [t for t in instances[start : start + size] if t.sample.id not in rows]
            if batch:
                fresh = self._batch(batch, _seeded(decoding, phase, start))
                self.work.append(phase, fresh)
                rows.update((r["id"], r) for r in fresh)
            if self.progress is not None:
                self.progress(phase, min(start + size, len(instances)), len(instances))
        return [rows[t.sample.id] for t in instances]

    def _in_a_stream(
        self, engine: StreamingEngine, phase: str, instances: Sequence[Instance], decoding: Decoding,
        rows: dict[str, dict[str, Any]],
    ) -> None:  # fmt: skip
        """Ask what is not in `rows`, and add each row as its reply arrives."""
        by_id = {t.sample.id: t for t in instances if t.sample.id not in rows}

        def told(row: dict[str, Any]) -> None:
            self.work.append(phase, [row])
            rows[row["id"]] = row
            if self.progress is not None:
                self.progress(phase, len(rows), len(instances))

        def requests() -> Iterator[Request]:
            for instance, made in worked_ahead(by_id.values(), self.request_of):
                try:
                    request = made.result()
                except ImageError as exc:
                    told(_set_aside(instance, exc))
                else:
                    yield request

        for generation in engine.stream(requests(), decoding):
            told(self._row(generation, by_id[generation.id]))

    def _batch(self, batch: Sequence[Instance], decoding: Decoding) -> list[dict[str, Any]]:
        requests: list[Request] = []
        rows: dict[str, dict[str, Any]] = {}
        for instance in batch:
            try:
                requests.append(self.request_of(instance))
            except ImageError as exc:
                rows[instance.sample.id] = _set_aside(instance, exc)
        generations = _checked(list(self.engine.generate(requests, decoding)), requests) if requests else []
        by_id = {t.sample.id: t for t in batch}
        rows.update((g.id, self._row(g, by_id[g.id])) for g in generations)
        return [rows[t.sample.id] for t in batch]

    def _row(self, generation: Generation, instance: Instance) -> dict[str, Any]:
        if generation.failed is not None:
            return {"id": generation.id, "set_aside": f"{NO_REPLY}: {generation.failed}", "detail": ""}
        whole = replace(generation, text=instance.begun + generation.text)
        row = {**grade(whole, instance.sample, self.grammar, self.classes), **instance.facts}
        if instance.scores and generation.tokens is not None:
            row["option_probabilities"] = token_probabilities(generation.tokens, instance.sample, row["parsed"])
        return row

    def request_of(self, instance: Instance) -> Request:
        """What the engine is asked. Raises ImageError where an image cannot be used."""
        messages = prompt_messages(instance.sample, self.grammar, instruction=self.instruction)
        if instance.show == "nothing":
            return Request(instance.sample.id, without_images(messages), begun=instance.begun, scores=instance.scores)
        messages, refs = shown_images(messages, instance.images, self.policy.num_images)
        shown = [self._shown(ref, instance.sample.origin.mpp) for ref in refs]
        images = tuple(picture for picture, _ in shown)
        if instance.show == "image":
            files = tuple(data for _, data in shown)
            return Request(instance.sample.id, messages, images, instance.begun, instance.scores, files)
        if instance.show == "blank":
            images = tuple(_blank(image) for image in images)
        else:
            images = tuple(_noise(image, f"{instance.sample.id}/{i}") for i, image in enumerate(images))
        return Request(instance.sample.id, messages, images, instance.begun)

    def _shown(self, ref: ImageRef, stored_mpp: float | None) -> tuple[Picture, bytes | None]:
        """A picture under the input policy, and its file where the policy left it as it is."""
        if not isinstance(ref, ImageFile | ImageBytes):
            return fit(load_picture(ref, self.read_region), ref, stored_mpp, self.policy), None
        picture, data = load_encoded(ref)
        fitted = fit(picture, ref, stored_mpp, self.policy)
        return fitted, data if fitted is picture else None


def _set_aside(instance: Instance, exc: ImageError) -> dict[str, Any]:
    return {"id": instance.sample.id, "set_aside": exc.message, "detail": exc.found or exc.where or ""}


def _blank(picture: Picture) -> Picture:
    """A mid-grey image of the same size; of a bag the same places without content."""
    return picture.blank() if isinstance(picture, PatchBag) else Image.new("RGB", picture.size, BLANK_RGB)


def _noise(picture: Picture, seed: str) -> Picture:
    """Noise of the same size, the same each time."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
    if isinstance(picture, PatchBag):
        mean, spread = picture.features.mean(axis=0), picture.features.std(axis=0)
        return replace(picture, features=rng.normal(mean, spread, picture.features.shape).astype(np.float32))
    return Image.fromarray(rng.integers(0, 256, (picture.height, picture.width, 3), dtype=np.uint8))


def _seeded(decoding: Decoding, phase: str, start: int) -> Decoding:
    """Each sampled batch has its own seed, the same after a kill. Greedy decoding stays as it is."""
    if decoding.temperature == 0:
        return decoding
    digest = hashlib.sha256(f"{decoding.seed}/{phase}/{start}".encode()).digest()
    return replace(decoding, seed=int.from_bytes(digest[:4], "big") >> 1)


def _checked(generations: list[Generation], requests: Sequence[Request]) -> list[Generation]:
    if [g.id for g in generations] != [r.id for r in requests]:
        raise EosinError(
            "The engine did not answer every request in order.",
            expected=f"{len(requests)} replies with the ids of the requests",
            found=f"{len(generations)} replies",
        )
    return generations
