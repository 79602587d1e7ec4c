"""Phantom tiles written to disk, with a sheet to look at."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageDraw

from eosin.core.formats import write_parquet
from eosin.core.images import decode
from eosin.core.nouns.sample import ImageBytes, Sample
from eosin.core.settings.data import PhantomData
from eosin.core.store import artifacts as store
from eosin.sources.phantom import read_phantom


def write_tiles(out: Path, settings: PhantomData, seed: int) -> int:
    """Write a samples artifact and sheet.png; returns the number of tiles."""
    collection = read_phantom(settings, seed)
    samples = [s.model_copy(update={"split": None}) for s in collection.kept if s.split == "train"]
    with store.writing(out, "samples", record={"seed": seed}) as writer:
        writer.counts["samples"] = write_parquet(samples, writer.dir / "samples.parquet")
        store.write_json(writer.dir / "card.json", collection.card.counted(samples).model_dump(mode="json"))
        contact_sheet(samples).save(writer.dir / "sheet.png")
    return len(samples)


def contact_sheet(samples: list[Sample], columns: int = 6, side_px: int = 224) -> Image.Image:
    """One row a diagnosis, its name in the corner; images are held in the samples."""
    rows: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        rows[sample.label or "?"].append(sample)
    sheet = Image.new("RGB", (columns * side_px, len(rows) * side_px), "white")
    for y, (label, members) in enumerate(sorted(rows.items())):
        step = max(1, len(members) // columns)
        for x, sample in enumerate(members[::step][:columns]):
            ref = sample.images[0]
            if isinstance(ref, ImageBytes):
                tile = decode(ref.data).resize((side_px, side_px))
                sheet.paste(tile, (x * side_px, y * side_px))
        text = ImageDraw.Draw(sheet)
        text.rectangle((0, y * side_px, 7 * len(label) + 8, y * side_px + 14), fill="white")
        text.text((4, y * side_px + 1), f"{label}", fill="black")
    return sheet
